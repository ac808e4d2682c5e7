"""What people and handles ask about jobs. Nothing here writes, and nothing unpickles."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from typing import Final

from gigq.errors import JobNotFound
from gigq.states import JobState
from gigq.storage.rows import ENDS_COMPARED, ExecutionRow, JobRow, When
from gigq.storage.sqlite.schema import BLOCKED, ENDED, READY, RUNNING, WAITS_FOR_TIME

JOB: Final = ", ".join(f"jobs.{column}" for column in JobRow._fields)

# One statement, so one snapshot: a job that is claimed meanwhile is counted once. The pending ones are split in the way
# of the indexes: disjoint, and together every pending job.
_STATS: Final = " UNION ALL ".join(
    [
        *(
            f"SELECT 'PENDING', count(*) FROM jobs WHERE {condition}"
            for condition in (READY, WAITS_FOR_TIME, f"{BLOCKED} AND due_at IS NULL")
        ),
        f"SELECT 'RUNNING', count(*) FROM jobs WHERE {RUNNING}",
        f"SELECT state, count(*) FROM jobs WHERE {ENDED} GROUP BY state",
    ]
)


def job_row(values: Sequence[object]) -> JobRow:
    """Return a row selected as `JOB`."""
    row = JobRow._make(values)
    return row._replace(state=JobState(row.state))


def get(db: sqlite3.Connection, job_id: str) -> JobRow:
    """Return one job."""
    row = db.execute(f"SELECT {JOB} FROM jobs WHERE id = ?", (job_id,)).fetchone()
    if row is None:
        raise JobNotFound(job_id)
    return job_row(row)


def states(db: sqlite3.Connection, job_ids: Sequence[str]) -> dict[str, JobState]:
    """Return the states of those that are stored."""
    if len(job_ids) == 1:
        rows = db.execute("SELECT id, state FROM jobs WHERE id = ?", (job_ids[0],))
    else:
        rows = db.execute(
            "SELECT id, state FROM jobs WHERE id IN (SELECT value FROM json_each(?))", (json.dumps(list(job_ids)),)
        )
    return {job_id: JobState(state) for job_id, state in rows}


def find(
    db: sqlite3.Connection,
    *,
    state: JobState | None,
    queue: str | None,
    task: str | None,
    workflow: str | None,
    limit: int,
) -> list[JobRow]:
    """Return jobs that match all conditions, the newest first."""
    conditions: dict[str, object] = {}
    if state is not None:
        # As a literal, one of six: SQLite uses a partial index only where the query repeats its condition.
        conditions[f"state = '{JobState(state)}'"] = None
    if queue is not None:
        conditions["queue = ?"] = queue
    if task is not None:
        conditions["task = ?"] = task
    if workflow is not None:
        column = "workflow_id" if _is_workflow_id(db, workflow) else "workflow"
        conditions[f"{column} = ?"] = workflow
    where = "WHERE " + " AND ".join(conditions) if conditions else ""
    parameters = [value for value in conditions.values() if value is not None]
    rows = db.execute(f"SELECT {JOB} FROM jobs {where} ORDER BY seq DESC LIMIT ?", (*parameters, limit))
    return [job_row(row) for row in rows]


def find_ids(db: sqlite3.Connection, *, start: str, end: str, limit: int) -> list[str]:
    """Return ids that begin with `start` and end with `end`, the last in order first."""
    rows = db.execute(
        """
        SELECT id FROM (SELECT id FROM jobs WHERE id >= :start AND id < :start || char(0x10FFFF)
                        ORDER BY id DESC LIMIT :compared)
        WHERE :end = '' OR substr(id, -length(:end)) = :end LIMIT :limit
        """,
        {"start": start, "compared": ENDS_COMPARED, "end": end, "limit": limit},
    )
    return [job_id for (job_id,) in rows]


def _is_workflow_id(db: sqlite3.Connection, text: str) -> bool:
    return db.execute("SELECT 1 FROM jobs WHERE workflow_id = ? LIMIT 1", (text,)).fetchone() is not None


def stats(db: sqlite3.Connection) -> dict[JobState, int]:
    """Count the jobs in each state, each by the partial index that holds just those."""
    counts = dict.fromkeys(JobState, 0)
    for state, count in db.execute(_STATS):
        counts[JobState(state)] += count
    return counts


def awaits_retry(db: sqlite3.Connection, tasks: Sequence[str], queues: Sequence[str] | None) -> bool:
    """Return whether a job that such a worker could run waits for its next attempt."""
    return (
        db.execute(
            f"""
            SELECT 1 FROM jobs WHERE {WAITS_FOR_TIME} AND attempts > 0
            AND task IN (SELECT value FROM json_each(?)) AND (? OR queue IN (SELECT value FROM json_each(?))) LIMIT 1
            """,
            (json.dumps(list(tasks)), queues is None, json.dumps(list(queues or ()))),
        ).fetchone()
        is not None
    )


def executions(db: sqlite3.Connection, job_id: str) -> list[ExecutionRow]:
    """Return the ended attempts of a job, in order."""
    columns = ", ".join(ExecutionRow._fields)
    rows = db.execute(f"SELECT {columns} FROM job_executions WHERE job_id = ? ORDER BY claims", (job_id,))
    return [row._replace(state=JobState(row.state)) for row in map(ExecutionRow._make, rows)]


def relatives(db: sqlite3.Connection, job_id: str, *, of: str, to: str) -> list[tuple[JobRow, When]]:
    """Return the jobs at the `to` ends of the edges whose `of` end is this job ("parent" or "child")."""
    rows = db.execute(
        f"""
        SELECT {JOB}, e."when" FROM job_edges e JOIN jobs ON jobs.seq = e.{to}
        WHERE e.{of} = (SELECT seq FROM jobs WHERE id = ?) ORDER BY jobs.seq
        """,
        (job_id,),
    )
    return [(job_row(row[:-1]), When(row[-1])) for row in rows]


def arguments(db: sqlite3.Connection, job_id: str) -> bytes:
    """Return the stored arguments of a job."""
    row = db.execute(
        "SELECT data FROM job_arguments WHERE job = (SELECT seq FROM jobs WHERE id = ?)", (job_id,)
    ).fetchone()
    if row is None:
        raise JobNotFound(job_id)
    return bytes(row[0])


def result(db: sqlite3.Connection, job_id: str) -> bytes | None:
    """Return the stored result of a job, None where there is none."""
    row = db.execute("SELECT data FROM jobs LEFT JOIN job_results ON job = seq WHERE id = ?", (job_id,)).fetchone()
    if row is None:
        raise JobNotFound(job_id)
    return row[0] if row[0] is None else bytes(row[0])


def ready_before(db: sqlite3.Connection, job_id: str) -> int:
    """Count the ready jobs of the same queue that are to be claimed before this one."""
    (count,) = db.execute(
        f"""
        SELECT count(*) FROM jobs JOIN (SELECT queue AS q, priority AS p, seq AS s FROM jobs WHERE id = ?)
        WHERE {READY} AND queue = q AND (priority > p OR (priority = p AND seq < s))
        """,
        (job_id,),
    ).fetchone()
    return int(count)
