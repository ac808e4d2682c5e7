"""The end of attempts: outcomes, lost and released leases, cancelling and retrying.

Every statement about an attempt matches (seq, claims, worker) and RUNNING, so that a worker whose lease was taken
away changes nothing, however late it writes.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from typing import Final

from gigq.errors import IllegalTransition, JobNotFound
from gigq.payload import Failure
from gigq.states import Event, JobState, after
from gigq.storage.leases import End, Outcome, Rescued
from gigq.storage.rows import When
from gigq.storage.sqlite.bulk import insert
from gigq.storage.sqlite.dependants import bad_parent, put_back, recount, revive, settle

_LEASE: Final = "seq = ? AND claims = ? AND worker = ? AND state = 'RUNNING'"

_EVENTS: Final = {
    End.FAILED: Event.FAIL,
    End.TIMED_OUT: Event.TIME_OUT,
    End.LOST: Event.LOSE,
    End.RELEASED: Event.RELEASE_LAST,
    End.CANCELLED: Event.CANCEL,
}
"""What an end means when no attempt follows."""

_EXECUTION_STATES: Final = {
    End.COMPLETED: JobState.COMPLETED.value,  # plain texts: sqlite3 asks Python how to store any subclass of str
    End.FAILED: JobState.FAILED.value,
    End.TIMED_OUT: JobState.TIMEOUT.value,
    End.LOST: JobState.FAILED.value,
    End.RELEASED: JobState.CANCELLED.value,
    End.CANCELLED: JobState.CANCELLED.value,
}

_COMPLETE = """
UPDATE jobs SET state = 'COMPLETED', finished_at = ?, error = NULL, cancel_requested_at = NULL, cancel_reason = NULL
WHERE seq IN (SELECT value FROM json_each(?)) AND claims = ? AND worker = ? AND state = 'RUNNING'
"""
# One statement for every other end. An attempt follows if it is wanted, attempts remain and nobody asked to cancel.
_END = """
UPDATE jobs SET
    state = CASE WHEN :retry_in IS NULL OR attempts >= max_attempts THEN :final
                 WHEN cancel_requested_at IS NOT NULL THEN 'CANCELLED' ELSE 'PENDING' END,
    due_at = CASE WHEN :retry_in > 0 AND attempts < max_attempts AND cancel_requested_at IS NULL
                  THEN :now + :retry_in END,
    finished_at = CASE WHEN :retry_in IS NULL OR attempts >= max_attempts OR cancel_requested_at IS NOT NULL
                       THEN :now END,
    -- Cancelled at a caller's wish, whichever way it came to an end: then the caller's reason is why.
    error = CASE WHEN :final = 'CANCELLED'
                   OR (:retry_in IS NOT NULL AND attempts < max_attempts AND cancel_requested_at IS NOT NULL)
                 THEN coalesce(cancel_reason, :reason) ELSE :reason END
WHERE seq = :seq AND claims = :claims AND worker = :worker AND state = 'RUNNING'
RETURNING state
"""
# A job that was given back had no attempt: unless it had started, and ends here since this was the last one that it
# may have or since somebody wants it cancelled.
_GIVE_BACK = f"""
UPDATE jobs SET
    state = CASE WHEN cancel_requested_at IS NOT NULL THEN 'CANCELLED'
                 WHEN ? AND attempts >= max_attempts THEN 'FAILED' ELSE 'PENDING' END,
    finished_at = CASE WHEN cancel_requested_at IS NOT NULL OR (? AND attempts >= max_attempts) THEN ? END,
    error = CASE WHEN cancel_requested_at IS NOT NULL THEN cancel_reason
                 WHEN ? AND attempts >= max_attempts THEN ? END,
    attempts = CASE WHEN ? AND (cancel_requested_at IS NOT NULL OR attempts >= max_attempts)
                    THEN attempts ELSE attempts - 1 END
WHERE {_LEASE}
RETURNING state
"""
_INTO_EXECUTIONS = """
INSERT INTO job_executions (job_id, claims, attempt, worker, pid, state, started_at, finished_at, error)
"""


def finish(db: sqlite3.Connection, worker: str, outcomes: Sequence[Outcome], now: float) -> list[Outcome]:
    """Record `outcomes`, release or cancel dependants; return those whose lease was lost."""
    recorded, fenced = _complete(db, worker, [outcome for outcome in outcomes if outcome.end is End.COMPLETED], now)
    ended = [(outcome.seq, JobState.COMPLETED) for outcome in recorded]
    pending: list[int] = []
    for outcome in outcomes:
        if outcome.end is End.COMPLETED:
            continue
        state = _end(db, worker, outcome, now)
        if state is None:
            fenced.append(outcome)
            continue
        if state.is_terminal:
            ended.append((outcome.seq, state))
        else:
            pending.append(outcome.seq)
        if outcome.end is not End.RELEASED or outcome.started_at is not None:
            recorded.append(outcome)
    _record(db, worker, recorded)
    settle(db, ended, now)
    recount(db, pending, now)
    return fenced


def _complete(
    db: sqlite3.Connection, worker: str, completed: list[Outcome], now: float
) -> tuple[list[Outcome], list[Outcome]]:
    """Mark jobs as completed and store their results; return the outcomes that were, and those whose lease was lost."""
    recorded: list[Outcome] = []
    fenced: list[Outcome] = []
    by_claims: dict[int, list[Outcome]] = {}  # nearly all are first claims, and take one statement
    for outcome in completed:
        by_claims.setdefault(outcome.claims, []).append(outcome)
    for claims, group in by_claims.items():
        if _complete_all(db, worker, claims, group, now):
            recorded += group
            continue
        for outcome in group:  # some lease was lost, which is rare: once more, one by one, to learn which
            (recorded if _complete_all(db, worker, claims, [outcome], now) else fenced).append(outcome)
    insert(
        db,
        "INSERT OR REPLACE INTO job_results (job, data)",
        [(o.seq, o.result) for o in recorded if o.result is not None],
    )
    return recorded, fenced


def _complete_all(db: sqlite3.Connection, worker: str, claims: int, group: Sequence[Outcome], now: float) -> bool:
    """Mark jobs as completed that were claimed for the same time, all or none; return whether they were."""
    db.execute("SAVEPOINT complete")
    cursor = db.execute(_COMPLETE, (now, json.dumps([outcome.seq for outcome in group]), claims, worker))
    are_all = cursor.rowcount == len(group)
    if not are_all:
        db.execute("ROLLBACK TO complete")
    db.execute("RELEASE complete")
    return are_all


def _end(db: sqlite3.Connection, worker: str, outcome: Outcome, now: float) -> JobState | None:
    """Record any other end; return the job's new state, None if the lease was lost."""
    if outcome.end is End.RELEASED:
        started = outcome.started_at is not None
        reason = outcome.reason or "worker shut down"
        row = db.execute(
            _GIVE_BACK,
            (started, started, now, started, reason, started, outcome.seq, outcome.claims, worker),
        ).fetchone()
    else:
        row = db.execute(
            _END,
            {
                "retry_in": outcome.retry_in,
                "final": after(JobState.RUNNING, _EVENTS[outcome.end]),
                "now": now,
                "reason": outcome.reason,
                "seq": outcome.seq,
                "claims": outcome.claims,
                "worker": worker,
            },
        ).fetchone()
    return None if row is None else JobState(row[0])


def _record(db: sqlite3.Connection, worker: str, outcomes: Sequence[Outcome]) -> None:
    insert(
        db,
        _INTO_EXECUTIONS,
        [
            (o.id, o.claims, o.attempt, worker, o.pid, _EXECUTION_STATES[o.end], o.started_at, o.finished_at, o.error)
            for o in outcomes
        ],
    )


def rescue(db: sqlite3.Connection, worker: str, reason: str, now: float) -> list[Rescued]:
    """Take every running job from a dead worker: each has used up the attempt that it was claimed for."""
    failure = Failure("WorkerLost", reason, "")
    error, line = failure.to_json(), str(failure)
    rows = db.execute(
        "SELECT seq, id, claims, attempts, claimed_at FROM jobs WHERE worker = ? AND state = 'RUNNING'", (worker,)
    ).fetchall()
    outcomes = [
        Outcome(seq, job_id, claims, attempts, End.LOST, claimed_at, now, None, None, error, line, 0)
        for seq, job_id, claims, attempts, claimed_at in rows
    ]
    finish(db, worker, outcomes, now)
    db.execute("UPDATE workers SET stopped_at = ? WHERE id = ? AND stopped_at IS NULL", (now, worker))
    states = (db.execute("SELECT state FROM jobs WHERE seq = ?", (outcome.seq,)).fetchone() for outcome in outcomes)
    return [Rescued(o.id, JobState(state)) for o, (state,) in zip(outcomes, states, strict=True)]


def cancel(db: sqlite3.Connection, job_id: str, reason: str, now: float) -> tuple[JobState, str | None]:
    """Cancel a pending job, or mark a running one; return its state, and for a running one its worker's address."""
    row = db.execute(
        """
        UPDATE jobs SET state = 'CANCELLED', finished_at = ?, error = ?
        WHERE id = ? AND state = 'PENDING' RETURNING seq
        """,
        (now, reason, job_id),
    ).fetchone()
    if row is not None:
        settle(db, [(row[0], JobState.CANCELLED)], now)
        return JobState.CANCELLED, None
    row = db.execute(
        """
        UPDATE jobs SET cancel_requested_at = coalesce(cancel_requested_at, ?),
                        cancel_reason = coalesce(cancel_reason, ?)
        WHERE id = ? AND state = 'RUNNING'
        RETURNING (SELECT address FROM workers WHERE workers.id = jobs.worker)
        """,
        (now, reason, job_id),
    ).fetchone()
    if row is not None:
        return JobState.RUNNING, row[0]
    row = db.execute("SELECT state FROM jobs WHERE id = ?", (job_id,)).fetchone()
    if row is None:
        raise JobNotFound(job_id)
    return JobState(row[0]), None


def cancelling(db: sqlite3.Connection, worker: str) -> list[tuple[int, int]]:
    """Return (seq, claims) of this worker's running jobs that somebody wants cancelled."""
    return db.execute(
        "SELECT seq, claims FROM jobs WHERE worker = ? AND state = 'RUNNING' AND cancel_requested_at IS NOT NULL",
        (worker,),
    ).fetchall()


def retry(db: sqlite3.Connection, job_id: str) -> JobState:
    """Put a job that ended badly back, and with it the dependants that fell with it."""
    row = db.execute("SELECT seq, state FROM jobs WHERE id = ?", (job_id,)).fetchone()
    if row is None:
        raise JobNotFound(job_id)
    seq, state = row[0], JobState(row[1])
    try:
        pending = after(state, Event.RETRY)
    except IllegalTransition:
        raise IllegalTransition(
            f"job {job_id} is {state}: only a job that has failed, timed out or been cancelled can be retried"
        ) from None
    culprit = bad_parent(db, seq)
    if culprit is not None:
        parent, when, parent_state = culprit
        name, parent_id = db.execute("SELECT name, id FROM jobs WHERE seq = ?", (parent,)).fetchone()
        advice = "it runs only when that one fails" if when is When.FAILURE else "retry that one, and both come back"
        raise IllegalTransition(
            f"job {job_id} cannot run while {name} ({parent_id}), which it depends on, is {parent_state}: {advice}"
        )
    put_back(db, seq)
    revive(db, seq)
    return pending
