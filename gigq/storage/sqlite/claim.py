"""Which jobs a worker gets next."""

from __future__ import annotations

import sqlite3
from operator import attrgetter
from typing import Final

from gigq.storage.leases import Claimed, ClaimedJob, ClaimRequest
from gigq.storage.rows import INLINE_BYTES
from gigq.storage.sqlite.schema import READY, WAITS_FOR_TIME

PROMOTED_AT_ONCE: Final = 1000  # a million jobs due at midnight must not hold the write lock for seconds
LANES_AT_ONCE: Final = 400  # SQLite's compound SELECT has at most 500 terms

# Two statements: for "(queue, task) > (?, ?)" SQLite seeks to the lane itself and then steps over each of its jobs.
_NEXT_TASK = f"SELECT queue, task FROM jobs WHERE {READY} AND queue = ? AND task > ? ORDER BY task LIMIT 1"
_NEXT_QUEUE = f"SELECT queue, task FROM jobs WHERE {READY} AND queue > ? ORDER BY queue, task LIMIT 1"

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
        jobs = list(map(ClaimedJob._make, db.execute(*_statement(lanes, request, now))))
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
    """Return the (queue, task) pairs with a ready job that the worker serves.

    Skips through the index from lane to lane, so the cost is the number of lanes, not of jobs. Jobs of tasks that the
    worker does not know are never looked at.
    """
    tasks = frozenset(request.tasks)
    queues = None if request.queues is None else frozenset(request.queues)
    lanes: list[tuple[str, str]] = []
    queue, task = "", ""
    while lane := (db.execute(_NEXT_TASK, (queue, task)).fetchone() or db.execute(_NEXT_QUEUE, (queue,)).fetchone()):
        queue, task = lane
        if task in tasks and (queues is None or queue in queues):
            lanes.append(lane)
    if len(lanes) > LANES_AT_ONCE:
        lanes = _foremost(db, lanes)
    return lanes


def _foremost(db: sqlite3.Connection, lanes: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return the lanes whose first jobs come first, when there are more than one statement can name."""
    heads = [(*db.execute(f"SELECT -priority, seq FROM ({_LANE})", (*lane, 1)).fetchone(), lane) for lane in lanes]
    return [lane for _, _, lane in sorted(heads)[:LANES_AT_ONCE]]


def _statement(lanes: list[tuple[str, str]], request: ClaimRequest, now: float) -> tuple[str, list[object]]:
    sql = _CLAIM.format(lanes=" UNION ALL ".join([_LANE] * len(lanes)), inline=INLINE_BYTES)
    parameters: list[object] = [request.worker, now]
    for queue, task in lanes:
        parameters += (queue, task, request.limit)
    return sql, [*parameters, request.limit]
