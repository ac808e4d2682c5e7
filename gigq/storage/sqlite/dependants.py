"""What the end of a job does to those that depend on it.

Invariant: `unmet` of a pending job is the number of its parents that have not ended. A parent's end either lowers it
(the dependant waited for that end) or cancels the dependant, all the way down, in the transaction that records the end.
"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Iterable, Sequence

from gigq.states import JobState
from gigq.storage.rows import When

_REASON_NOT_TAKEN = "not needed: {name} ({id}) was {state}"
_REASON_FELL = "{name} ({id}), which it depends on, was {state}"
_UNMET = """(SELECT count(*) FROM job_edges e JOIN jobs p ON p.seq = e.parent
             WHERE e.child = jobs.seq AND p.state IN ('PENDING', 'RUNNING'))"""


def settle(db: sqlite3.Connection, ended: Sequence[tuple[int, JobState]], now: float, *, first_child: int = 0) -> None:
    """Release or cancel the dependants of jobs that have just ended, given as (seq, state)."""
    states = dict(ended)
    while states:
        released: Counter[int] = Counter()
        doomed: dict[int, tuple[int, When]] = {}
        for parent, child, text in _edges(db, states, first_child):
            when = When(text)
            if when.is_met_by(states[parent]):
                released[child] += 1
            else:
                doomed.setdefault(child, (parent, when))
        db.executemany(
            "UPDATE jobs SET unmet = unmet - ? WHERE seq = ? AND state = 'PENDING'",
            [(count, child) for child, count in released.items()],
        )
        # One level further down: a cancelled job is a parent that has ended.
        states = {
            child: JobState.CANCELLED
            for child, (parent, when) in doomed.items()
            if _cancel(db, child, parent, _reason(db, parent, when, states[parent]), now)
        }


def _edges(db: sqlite3.Connection, parents: Iterable[int], first_child: int) -> list[tuple[int, int, str]]:
    return db.execute(
        'SELECT parent, child, "when" FROM job_edges WHERE parent IN (SELECT value FROM json_each(?)) AND child >= ?',
        (json.dumps(list(parents)), first_child),
    ).fetchall()


def _reason(db: sqlite3.Connection, parent: int, when: When, state: JobState) -> str:
    job_id, name = db.execute("SELECT id, name FROM jobs WHERE seq = ?", (parent,)).fetchone()
    not_taken = when is When.FAILURE and state is JobState.COMPLETED
    return (_REASON_NOT_TAKEN if not_taken else _REASON_FELL).format(name=name, id=job_id, state=state)


def _cancel(db: sqlite3.Connection, seq: int, parent: int, reason: str, now: float) -> bool:
    cursor = db.execute(
        """
        UPDATE jobs SET state = 'CANCELLED', finished_at = ?, error = ?, cancelled_by = ?
        WHERE seq = ? AND state = 'PENDING'
        """,
        (now, reason, parent, seq),
    )
    return cursor.rowcount == 1


def recount(db: sqlite3.Connection, seqs: Iterable[int], now: float) -> None:
    """Look at the parents of jobs that are pending again: while they ran, a person may have retried one of them."""
    fallen: list[tuple[int, JobState]] = []
    for seq in seqs:
        db.execute(f"UPDATE jobs SET unmet = {_UNMET} WHERE seq = ? AND state = 'PENDING'", (seq,))
        culprit = bad_parent(db, seq)
        if culprit is not None:
            parent, when, state = culprit
            if _cancel(db, seq, parent, _reason(db, parent, when, state), now):
                fallen.append((seq, JobState.CANCELLED))
    settle(db, fallen, now)


def revive(db: sqlite3.Connection, seq: int) -> None:
    """Undo what the end of a job did to its dependants: it is pending again.

    Those that fell with it are pending again too, unless another of their parents has ended badly as well; those that
    it had released and that have not started wait for it again.
    """
    level = [seq]
    while level:
        # A whole level at once: a child that fell with one of many revived parents is looked at once, not for each.
        parents = json.dumps(level)
        db.execute(
            # Counted anew, not raised: a child that has just come back has counted this parent already.
            f"""
            UPDATE jobs SET unmet = {_UNMET}
            WHERE state = 'PENDING'
              AND seq IN (SELECT child FROM job_edges WHERE parent IN (SELECT value FROM json_each(?)))
            """,
            (parents,),
        )
        fallen = db.execute(
            """
            SELECT DISTINCT jobs.seq FROM job_edges JOIN jobs ON jobs.seq = child AND cancelled_by = parent
            WHERE parent IN (SELECT value FROM json_each(?))
            """,
            (parents,),
        ).fetchall()
        level = []
        for (child,) in fallen:
            culprit = bad_parent(db, child)
            if culprit is not None:
                db.execute("UPDATE jobs SET cancelled_by = ? WHERE seq = ?", (culprit[0], child))
                continue
            put_back(db, child)
            level.append(child)


def bad_parent(db: sqlite3.Connection, child: int) -> tuple[int, When, JobState] | None:
    """Return a parent (seq) of `child` whose end is not the one that it waits for, and both, if there is any."""
    for parent, state, when in db.execute(
        'SELECT p.seq, p.state, e."when" FROM job_edges e JOIN jobs p ON p.seq = e.parent WHERE e.child = ?', (child,)
    ):
        if JobState(state).is_terminal and not When(when).is_met_by(JobState(state)):
            return int(parent), When(when), JobState(state)
    return None


def put_back(db: sqlite3.Connection, seq: int) -> None:
    """Make an ended job pending again, as if it had just been submitted.

    One that was cancelled before its first attempt still waits for the time that it was submitted for; the delay of a
    failed attempt is over.
    """
    db.execute(
        f"""
        UPDATE jobs SET state = 'PENDING', attempts = 0, due_at = CASE WHEN attempts = 0 THEN due_at END,
               finished_at = NULL, error = NULL, cancel_requested_at = NULL, cancel_reason = NULL,
               cancelled_by = NULL, progress = NULL, progress_message = NULL, unmet = {_UNMET}
        WHERE seq = ?
        """,
        (seq,),
    )
