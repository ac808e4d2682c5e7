"""Deleting what nobody needs any more."""

from __future__ import annotations

import sqlite3
from typing import Final

from gigq.states import TERMINAL_STATES
from gigq.storage.sqlite.schema import ENDED

PRUNED_AT_ONCE: Final = 1000  # jobs for one transaction: others must be able to write in between

# Spared: what an unfinished job depends on, since it may need the result; what a job depends on that fell with one of
# its parents, since a retry brings it back; and the newest job, so that its number is not given out again while some
# late writer still holds a lease by that number.
# State by state, as the index of ended jobs has them: those that are not meant are not looked at.
_PRUNABLE = f"""
SELECT seq, id FROM jobs INDEXED BY jobs_ended
WHERE {ENDED} AND state IN ({", ".join(f"'{state}'" for state in TERMINAL_STATES)}) AND finished_at <= ?
  AND NOT EXISTS (SELECT 1 FROM job_edges e JOIN jobs c ON c.seq = e.child
                  WHERE e.parent = jobs.seq AND (c.state IN ('PENDING', 'RUNNING') OR c.cancelled_by IS NOT NULL))
  AND seq < (SELECT max(seq) FROM jobs)
LIMIT {PRUNED_AT_ONCE}
"""


def prune(db: sqlite3.Connection, before: float) -> int:
    """Delete up to PRUNED_AT_ONCE jobs that ended before `before`; return how many."""
    rows = db.execute(_PRUNABLE, (before,)).fetchall()
    for table, column in (
        ("job_arguments", "job"),
        ("job_results", "job"),
        ("job_edges", "parent"),
        ("job_edges", "child"),
        ("jobs", "seq"),
    ):
        db.executemany(f"DELETE FROM {table} WHERE {column} = ?", [(seq,) for seq, _ in rows])
    db.executemany("DELETE FROM job_executions WHERE job_id = ?", [(job_id,) for _, job_id in rows])
    db.execute("DELETE FROM workers WHERE stopped_at <= ?", (before,))
    return len(rows)
