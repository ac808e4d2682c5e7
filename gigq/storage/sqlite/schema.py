"""The tables, as numbered migrations.

A migration is never changed once released: a later one alters what it made. Times are UTC epoch seconds.
"""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path
from typing import Final

from gigq.errors import SchemaTooNew
from gigq.states import JobState

OLDEST_LIBRARY: Final = (3, 37, 0)  # STRICT tables

READY: Final = "state = 'PENDING' AND unmet = 0 AND due_at IS NULL"
"""Which jobs can be claimed. Claim, index and counts must say it in the same words for SQLite to match them."""

WAITS_FOR_TIME: Final = "state = 'PENDING' AND due_at IS NOT NULL"
BLOCKED: Final = "state = 'PENDING' AND unmet > 0"
RUNNING: Final = "state = 'RUNNING'"
ENDED: Final = "finished_at IS NOT NULL"
"""Set with each terminal state, and only with those. In terms of the states it would be a list, see _ONE_OF_SIX."""

# Not "IN": SQLite would build a table of the six values each time that a statement checks them, 3 µs for each job.
_ONE_OF_SIX: Final = " OR ".join(f"state = '{state}'" for state in JobState)

_FIRST: Final = f"""
CREATE TABLE jobs (
    seq                 INTEGER PRIMARY KEY,      -- order of submission
    id                  TEXT NOT NULL UNIQUE,
    name                TEXT NOT NULL,
    task                TEXT NOT NULL,
    function            TEXT NOT NULL,
    queue               TEXT NOT NULL,
    priority            INTEGER NOT NULL,
    state               TEXT NOT NULL CHECK ({_ONE_OF_SIX}),
    unmet               INTEGER NOT NULL,         -- dependencies that have not ended yet
    due_at              REAL,                     -- NULL: at once
    attempts            INTEGER NOT NULL DEFAULT 0,
    max_attempts        INTEGER NOT NULL,
    claims              INTEGER NOT NULL DEFAULT 0, -- rises at each claim, never falls: part of the lease
    timeout             REAL,
    policy              TEXT,                     -- JSON, NULL: the task's own
    summary             TEXT NOT NULL,            -- the arguments as text, for people
    description         TEXT NOT NULL,
    workflow            TEXT,
    workflow_id         TEXT,
    worker              TEXT,                     -- who claimed it last
    submitted_at        REAL NOT NULL,
    claimed_at          REAL,
    finished_at         REAL,
    cancel_requested_at REAL,
    cancel_reason       TEXT,                     -- what the caller said who wants a running job cancelled
    cancelled_by        INTEGER,                  -- the parent (seq) that it fell with
    error               TEXT,                     -- one line
    progress            REAL,
    progress_message    TEXT
) STRICT;

-- Each of these holds only the rows that its question is about, so that none of them slows down the others.
CREATE INDEX jobs_ready ON jobs (queue, task, priority DESC, seq) WHERE {READY};
CREATE INDEX jobs_due ON jobs (due_at) WHERE {WAITS_FOR_TIME};
CREATE INDEX jobs_blocked ON jobs (seq) WHERE {BLOCKED};
CREATE INDEX jobs_running ON jobs (worker) WHERE {RUNNING};
CREATE INDEX jobs_cancelling ON jobs (worker) WHERE {RUNNING} AND cancel_requested_at IS NOT NULL;
CREATE INDEX jobs_ended ON jobs (state, finished_at) WHERE {ENDED};
CREATE INDEX jobs_workflow ON jobs (workflow, seq) WHERE workflow IS NOT NULL;
CREATE INDEX jobs_workflow_id ON jobs (workflow_id, seq) WHERE workflow_id IS NOT NULL;

-- Payloads stand apart, each written once: in the jobs row, every change of state would write them again.
CREATE TABLE job_arguments (job INTEGER PRIMARY KEY, data BLOB NOT NULL) STRICT;
CREATE TABLE job_results (job INTEGER PRIMARY KEY, data BLOB NOT NULL) STRICT; -- no row: the function returned None

CREATE TABLE job_executions (
    job_id      TEXT NOT NULL,
    claims      INTEGER NOT NULL,
    attempt     INTEGER NOT NULL,
    worker      TEXT NOT NULL,
    pid         INTEGER,
    state       TEXT NOT NULL,
    started_at  REAL,
    finished_at REAL NOT NULL,
    error       TEXT,                             -- JSON: type, message, traceback
    PRIMARY KEY (job_id, claims)                  -- an attempt cannot be recorded twice
) STRICT, WITHOUT ROWID;

CREATE TABLE job_edges (
    parent INTEGER NOT NULL,
    child  INTEGER NOT NULL,
    "when" TEXT NOT NULL,
    PRIMARY KEY (parent, child)
) STRICT, WITHOUT ROWID;
CREATE INDEX job_edges_child ON job_edges (child);

CREATE TABLE workers (
    id          TEXT PRIMARY KEY,
    name        TEXT NOT NULL,
    hostname    TEXT NOT NULL,
    host        TEXT NOT NULL,
    pid         INTEGER NOT NULL,
    pid_started INTEGER,
    pool        TEXT NOT NULL,
    concurrency INTEGER NOT NULL,
    queues      TEXT,                             -- JSON, NULL: every queue
    tasks       TEXT NOT NULL,                    -- JSON
    address     TEXT,                             -- an abstract socket's name
    started_at  REAL NOT NULL,
    beat        INTEGER NOT NULL,                 -- raised while the worker lives; nobody compares clocks
    beat_at     REAL NOT NULL,                    -- for people
    stopped_at  REAL
) STRICT;
CREATE INDEX workers_live ON workers (address) WHERE stopped_at IS NULL;
"""

MIGRATIONS: Final = (_FIRST,)

OLDEST_CODE: Final = (1,)
"""For each migration, the version whose code still works with the tables after it: a column that may be NULL and that
old code neither reads nor writes leaves this as it was, so that old and new programs work together during a deploy."""


def migrate(connection: sqlite3.Connection, path: Path) -> None:
    """Bring the tables up to this code's version; workers that start together may race for it.

    Raises:
        SchemaTooNew: a newer gigq made them, in a way that this code cannot work with.
    """
    if _version(connection, path) >= len(MIGRATIONS):
        return
    connection.execute("BEGIN IMMEDIATE")
    for number in range(_version(connection, path), len(MIGRATIONS)):  # again: another process may have been faster
        if number == 0:
            connection.execute(
                "CREATE TABLE gigq_migrations "
                "(version INTEGER PRIMARY KEY, oldest_code INTEGER NOT NULL, applied_at REAL NOT NULL) STRICT"
            )
        for statement in _statements(MIGRATIONS[number]):
            connection.execute(statement)
        connection.execute(
            "INSERT INTO gigq_migrations VALUES (?, ?, ?)", (number + 1, OLDEST_CODE[number], time.time())
        )
    connection.execute("COMMIT")


def is_made(connection: sqlite3.Connection) -> bool:
    """Return whether the file has gigq's tables."""
    found = connection.execute("SELECT 1 FROM sqlite_master WHERE type='table' AND name='gigq_migrations'").fetchone()
    return found is not None


def _version(connection: sqlite3.Connection, path: Path) -> int:
    version = version_of(connection)
    if version > len(MIGRATIONS):
        oldest = oldest_code_of(connection)
        if oldest <= len(MIGRATIONS):
            return version
        raise SchemaTooNew(
            f"{path} has schema version {version}, which needs a gigq that knows version {oldest}; this one knows up "
            f"to {len(MIGRATIONS)}: upgrade gigq to use it"
        )
    return version


def oldest_code_of(connection: sqlite3.Connection) -> int:
    """Return the version that code must know to use the tables that there are."""
    (oldest,) = connection.execute("SELECT max(oldest_code) FROM gigq_migrations").fetchone()
    return int(oldest)


def version_of(connection: sqlite3.Connection) -> int:
    """Return the version of the tables, 0 where there are none."""
    if not is_made(connection):
        return 0
    (version,) = connection.execute("SELECT max(version) FROM gigq_migrations").fetchone()
    return int(version)


def _statements(script: str) -> list[str]:
    # Not executescript(): it commits the open transaction first, and a migration must apply as a whole or not at all.
    statements: list[str] = []
    buffer = ""
    for line in script.splitlines(keepends=True):
        buffer += line
        if sqlite3.complete_statement(buffer):
            statements.append(buffer)
            buffer = ""
    return statements
