"""The table of workers."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence

from gigq.storage.rows import WorkerRow

_COLUMNS = ", ".join(WorkerRow._fields)


def register(db: sqlite3.Connection, worker: WorkerRow) -> None:
    """Store a worker that starts, or that was taken for dead and is not."""
    values = worker._replace(
        queues=None if worker.queues is None else json.dumps(worker.queues),  # type: ignore[arg-type]  # as stored
        tasks=json.dumps(worker.tasks),  # type: ignore[arg-type]
    )
    db.execute(
        f"INSERT OR REPLACE INTO workers ({_COLUMNS}) VALUES ({', '.join('?' * len(WorkerRow._fields))})", values
    )


def heartbeat(db: sqlite3.Connection, worker: str, now: float) -> bool:
    """Raise the worker's beat; False: others have marked it as stopped."""
    cursor = db.execute(
        "UPDATE workers SET beat = beat + 1, beat_at = ? WHERE id = ? AND stopped_at IS NULL", (now, worker)
    )
    return cursor.rowcount == 1


def live(db: sqlite3.Connection) -> list[WorkerRow]:
    """Return the workers that have not stopped, oldest first."""
    rows = db.execute(f"SELECT {_COLUMNS} FROM workers WHERE stopped_at IS NULL ORDER BY started_at, id")
    return [
        row._replace(
            queues=None if row.queues is None else tuple(json.loads(row.queues)),  # type: ignore[arg-type]  # as stored
            tasks=tuple(json.loads(row.tasks)),  # type: ignore[arg-type]
        )
        for row in map(WorkerRow._make, rows)
    ]


def addresses(db: sqlite3.Connection) -> list[str]:
    """Return where the live workers can be woken. Read with each submission: a remembered list misses who is new."""
    return [
        address
        for (address,) in db.execute("SELECT address FROM workers WHERE stopped_at IS NULL AND address IS NOT NULL")
    ]


def report_progress(db: sqlite3.Connection, worker: str, reports: Sequence[tuple[int, int, float, str]]) -> None:
    """Store how far running jobs are."""
    db.executemany(
        """
        UPDATE jobs SET progress = ?, progress_message = ?
        WHERE seq = ? AND claims = ? AND worker = ? AND state = 'RUNNING'
        """,
        [(fraction, message, seq, claims, worker) for seq, claims, fraction, message in reports],
    )
