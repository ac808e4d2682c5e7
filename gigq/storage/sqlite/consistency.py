"""What must be true of the rows together, whatever has happened. `gigq doctor --full` looks whether it is."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import Final, NamedTuple

_HAS_NOT_ENDED: Final = "state IN ('PENDING', 'RUNNING')"


class Inconsistency(NamedTuple):
    """A rule that some rows break."""

    text: str
    rows: int
    example: str


# Each selects what breaks it, by something that names it.
_RULES: Final = {
    "jobs count other unmet dependencies than they have": f"""
        SELECT j.id FROM jobs j WHERE j.state = 'PENDING' AND j.unmet <>
          (SELECT count(*) FROM job_edges e JOIN jobs p ON p.seq = e.parent
           WHERE e.child = j.seq AND p.{_HAS_NOT_ENDED})
        """,
    "pending jobs depend on an end that has not come and cannot come": """
        SELECT j.id FROM jobs j WHERE j.state = 'PENDING' AND EXISTS
          (SELECT 1 FROM job_edges e JOIN jobs p ON p.seq = e.parent WHERE e.child = j.seq AND
             ((e."when" = 'success' AND p.state IN ('FAILED', 'TIMEOUT', 'CANCELLED')) OR
              (e."when" = 'failure' AND p.state IN ('COMPLETED', 'CANCELLED'))))
        """,
    "dependencies lead to or from a job that does not exist": """
        SELECT e.parent || ' to ' || e.child FROM job_edges e
        WHERE NOT EXISTS (SELECT 1 FROM jobs WHERE seq = e.parent)
           OR NOT EXISTS (SELECT 1 FROM jobs WHERE seq = e.child)
        """,
    "jobs have no arguments": """
        SELECT id FROM jobs WHERE NOT EXISTS (SELECT 1 FROM job_arguments WHERE job = seq)
        """,
    "arguments or results are there without their job": """
        SELECT job FROM job_arguments WHERE NOT EXISTS (SELECT 1 FROM jobs WHERE seq = job)
        UNION ALL SELECT job FROM job_results WHERE NOT EXISTS (SELECT 1 FROM jobs WHERE seq = job)
        """,
    "jobs have a result and are not COMPLETED": """
        SELECT id FROM jobs JOIN job_results ON job = seq WHERE state <> 'COMPLETED'
        """,
    "jobs are COMPLETED without one attempt that is": """
        SELECT j.id FROM jobs j WHERE j.state = 'COMPLETED'
        AND (SELECT count(*) FROM job_executions e WHERE e.job_id = j.id AND e.state = 'COMPLETED') <> 1
        """,
    "jobs have an attempt that is COMPLETED and are not": """
        SELECT j.id FROM jobs j WHERE j.state <> 'COMPLETED'
        AND EXISTS (SELECT 1 FROM job_executions e WHERE e.job_id = j.id AND e.state = 'COMPLETED')
        """,
    "attempts are of jobs that do not exist": """
        SELECT job_id FROM job_executions e WHERE NOT EXISTS (SELECT 1 FROM jobs WHERE id = e.job_id)
        """,
    "attempts belong to a claim that has not been made": """
        SELECT e.job_id FROM job_executions e JOIN jobs j ON j.id = e.job_id WHERE e.claims > j.claims
        """,
    "jobs have had more attempts than they may": "SELECT id FROM jobs WHERE attempts > max_attempts",
    "jobs have ended without a time, or have a time and have not ended": f"""
        SELECT id FROM jobs WHERE ({_HAS_NOT_ENDED}) <> (finished_at IS NULL)
        """,
    "jobs are RUNNING without a worker": "SELECT id FROM jobs WHERE state = 'RUNNING' AND worker IS NULL",
}


def inconsistencies(db: sqlite3.Connection) -> Iterator[Inconsistency]:
    """Yield the rules that are broken. Call it in a transaction, so that all of them see the same rows."""
    for text, rows in _RULES.items():
        found = [str(name) for (name,) in db.execute(rows)]
        if found:
            yield Inconsistency(text, len(found), found[0])


# Those with texts in them; payloads are bytes.
_TABLES: Final = {
    "jobs": "SELECT seq, * FROM jobs",
    "attempts": "SELECT job_id, * FROM job_executions",
    "dependencies": "SELECT child, * FROM job_edges",
    "workers": "SELECT id, * FROM workers",
}


def unreadable_texts(db: sqlite3.Connection) -> Iterator[Inconsistency]:
    """Yield the tables with texts that are not UTF-8. SQLite does not look, and no program can read their rows."""
    factory, db.text_factory = db.text_factory, bytes
    try:
        for table, rows in _TABLES.items():
            found = [row[0] for row in db.execute(rows) if not all(map(_is_text, row))]
            if found:
                yield Inconsistency(f"{table} have texts that are none", len(found), _shown(found[0]))
    finally:
        db.text_factory = factory


def _is_text(value: object) -> bool:
    if isinstance(value, bytes):
        try:
            value.decode()
        except UnicodeDecodeError:
            return False
    return True


def _shown(name: object) -> str:
    return name.decode(errors="replace") if isinstance(name, bytes) else str(name)
