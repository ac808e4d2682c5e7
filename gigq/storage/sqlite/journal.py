"""Which journal a database is used with: the write-ahead log, or a rollback journal where several hosts may meet."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Final

from gigq.errors import StorageError
from gigq.storage.sqlite import schema
from gigq.storage.urls import Journal

LOG_LIMIT_BYTES: Final = 8 * 1024 * 1024
"""To which the log shrinks after it grew for a long reader; without one it stays at about half of this."""

_SYNCHRONOUS: Final = {
    ("wal", "power"): "FULL",
    ("wal", "process"): "NORMAL",
    # FULL does not sync the folder after the journal's deletion, which is the commit: it could come back and undo it.
    ("delete", "power"): "EXTRA",
    ("delete", "process"): "FULL",  # with NORMAL, a power cut can ruin the file: https://www.sqlite.org/pragma.html
}


def set_journal(
    connection: sqlite3.Connection, path: Path, wanted: Journal | None, *, on_network: bool, durability: str
) -> Journal:
    """Put a fresh connection into the journal mode that is wanted, return it; the file keeps it for others.

    Without a wish: a rollback journal on a network, elsewhere what gigq's tables were made with (the processes of one
    file must agree, and somebody asked for it), and the write-ahead log for a file without those tables.

    Raises:
        StorageError: this database cannot have what is wanted.
    """
    (is_now,) = connection.execute("PRAGMA journal_mode").fetchone()
    if wanted is None:
        keeps = is_now != "wal" and schema.is_made(connection)
        wanted = "delete" if on_network or keeps else "wal"
    if is_now != wanted:
        (is_now,) = connection.execute(f"PRAGMA journal_mode={wanted}").fetchone()
        if is_now != wanted:
            raise StorageError(f"{path} cannot be used with journal={wanted}: SQLite keeps it at {is_now}")
    connection.execute(f"PRAGMA synchronous={_SYNCHRONOUS[wanted, durability]}")
    if wanted == "wal":
        connection.execute(f"PRAGMA journal_size_limit={LOG_LIMIT_BYTES}").fetchone()
    return wanted
