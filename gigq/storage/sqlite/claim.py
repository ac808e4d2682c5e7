"""Which jobs a worker gets next."""

from __future__ import annotations

import json
import sqlite3
from operator import attrgetter
from typing import Final

from gigq.storage.leases import Claimed, ClaimedJob, ClaimRequest, claimed_job
from gigq.storage.rows import INLINE_BYTES
from gigq.storage.sqlite.schema import READY, WAITS_FOR_TIME

PROMOTED_AT_ONCE: Final = 1000  # a million jobs due at midnight must not hold the write lock for seconds
LANES_AT_ONCE: Final = 400  # SQLite's compound SELECT has at most 500 terms

# The first job of each lane, found by going through the index from lane to lane: the cost is that of the lanes, not of
# their jobs. Two subqueries: for "(queue, task) > (…)" SQLite would step over each of the lane's jobs.
_FIRST = f"SELECT first.seq FROM jobs first WHERE {READY}"
_NEXT_TASK = f"({_FIRST} AND queue = last.queue AND task > last.task ORDER BY task, priority DESC, seq LIMIT 1)"
_NEXT_QUEUE = f"({_FIRST} AND queue > last.queue ORDER BY queue, task, priority DESC, seq LIMIT 1)"
_HEADS = """
WITH RECURSIVE heads (head) AS (
    {first}
    UNION ALL
    SELECT {next} FROM heads JOIN jobs last ON last.seq = head
)
SELECT queue, task, priority, seq FROM heads JOIN jobs ON seq = head
"""
_ALL_HEADS = _HEADS.format(
    first=f"SELECT ({_FIRST} ORDER BY queue, task, priority DESC, seq LIMIT 1)",
    next=f"coalesce({_NEXT_TASK}, {_NEXT_QUEUE})",
)
_HEADS_OF_QUEUES = _HEADS.format(
    first=f"""SELECT ({_FIRST} AND queue = wanted.value ORDER BY task, priority DESC, seq LIMIT 1)
    FROM json_each(?) wanted""",
    next=_NEXT_TASK,
)

_LANE = f"""
SELECT * FROM (SELECT seq, priority FROM jobs WHERE {READY} AND queue = ? AND task = ?
               ORDER BY priority DESC, seq LIMIT ?)
"""
_CLAIM = """
UPDATE jobs SET state = 'RUNNING', worker = ?, claims = claims + 1, attempts = attempts + 1, claimed_at = ?,
       progress = NULL, progress_message = NULL
WHERE seq IN (SELECT seq FROM ({lanes}) ORDER BY priority DESC, seq LIMIT ?)
RETURNING seq, id, name, task, queue, priority, claims, attempts, max_attempts, timeout, policy,
          (SELECT CASE WHEN length(data) <= {inline} THEN data END FROM job_arguments WHERE job = jobs.seq)
"""


def claim(db: sqlite3.Connection, request: ClaimRequest, now: float) -> Claimed:
    """Promote what is due, then take up to `limit` ready jobs: by priority, then by submission."""
    promote(db, now)
    jobs: list[ClaimedJob] = []
    # Others may have taken the worker for dead, without its knowledge: nobody would rescue what it claimed now.
    if request.limit > 0 and _is_live(db, request.worker) and (lanes := ready_lanes(db, request)):
        jobs = list(map(claimed_job, db.execute(*_statement(lanes, request, now))))
        # RETURNING gives no order. Two stable sorts by one field each, in C, take half as long as one by both.
        jobs.sort(key=attrgetter("seq"))
        jobs.sort(key=attrgetter("priority"), reverse=True)
    return Claimed(jobs, next_due_at(db))


def _is_live(db: sqlite3.Connection, worker: str) -> bool:
    row = db.execute("SELECT 1 FROM workers WHERE id = ? AND stopped_at IS NULL", (worker,)).fetchone()
    return row is not None


def promote(db: sqlite3.Connection, now: float) -> None:
    """Make jobs ready whose time has come."""
    db.execute(
        f"""
        UPDATE jobs SET due_at = NULL
        WHERE seq IN (SELECT seq FROM jobs WHERE {WAITS_FOR_TIME} AND due_at <= ? ORDER BY due_at LIMIT ?)
        """,
        (now, PROMOTED_AT_ONCE),
    )


def next_due_at(db: sqlite3.Connection) -> float | None:
    """Return when the next job that waits for its time is due."""
    (due_at,) = db.execute(f"SELECT min(due_at) FROM jobs WHERE {WAITS_FOR_TIME}").fetchone()
    return None if due_at is None else float(due_at)


def ready_lanes(db: sqlite3.Connection, request: ClaimRequest) -> list[tuple[str, str]]:
    """Return the (queue, task) pairs that the worker serves and whose ready jobs may be among the first `limit`.

    Jobs of queues and tasks that are not meant are never looked at.
    """
    if request.queues is None:
        rows = db.execute(_ALL_HEADS)
    else:
        rows = db.execute(_HEADS_OF_QUEUES, (json.dumps(sorted(set(request.queues))),))
    tasks = frozenset(request.tasks)
    heads = [(-priority, seq, queue, task) for queue, task, priority, seq in rows if task in tasks]
    # Each of the first `limit` jobs is in one of the first `limit` lanes, in the order of the lanes' first jobs.
    heads.sort()
    return [(queue, task) for _, _, queue, task in heads[: min(request.limit, LANES_AT_ONCE)]]


def _statement(lanes: list[tuple[str, str]], request: ClaimRequest, now: float) -> tuple[str, list[object]]:
    sql = _CLAIM.format(lanes=" UNION ALL ".join([_LANE] * len(lanes)), inline=INLINE_BYTES)
    parameters: list[object] = [request.worker, now]
    for queue, task in lanes:
        parameters += (queue, task, request.limit)
    return sql, [*parameters, request.limit]
