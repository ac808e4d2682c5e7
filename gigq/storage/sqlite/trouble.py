"""What SQLite's errors mean here: the errors that leave the storage, each saying what to do."""

from __future__ import annotations

import os
import shutil
import sqlite3
from pathlib import Path

from gigq.errors import DatabaseLost, OutcomeUnknown, StorageError


def is_busy(error: sqlite3.Error) -> bool:
    """Return whether another program's lock is all that is wrong."""
    return _code(error) & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def translated(error: sqlite3.Error, path: Path) -> StorageError:
    """Return the error to raise where nothing was stored."""
    name = getattr(error, "sqlite_errorname", type(error).__name__)
    if _code(error) == sqlite3.SQLITE_READONLY_DBMOVED:  # the rollback journal's own check, ours is in presence.py
        return DatabaseLost(f"{path} was moved or deleted while it was in use; nothing was stored")
    advice = _advice(error, path)
    return StorageError(f"{path}: {error} ({name}){'' if advice is None else ': ' + advice}; nothing was stored")


def of_commit(error: sqlite3.Error, path: Path) -> StorageError:
    """Return the error to raise for a COMMIT that failed.

    Where a write failed, the last frame of the transaction, which makes the others count, is not whole in the log (or
    the rollback journal still stands), so nobody will ever read it as committed. After anything else it may be: after
    an fsync that failed, for one, the kernel may have written the pages or have dropped them, and whoever recovers the
    log from what reached the disk finds the transaction or does not.
    """
    if _code(error) & 0xFF == sqlite3.SQLITE_FULL or _code(error) == sqlite3.SQLITE_IOERR_WRITE:
        return translated(error, path)
    return OutcomeUnknown(
        f"committing to {path} failed: {error} ({error.sqlite_errorname}); whether it was stored is not known: "
        "look it up by its id before trying again"
    )


def _code(error: sqlite3.Error) -> int:
    return getattr(error, "sqlite_errorcode", 0)


def _advice(error: sqlite3.Error, path: Path) -> str | None:
    code = _code(error)
    if code & 0xFF in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM):
        return _hindrance(path)
    if code & 0xFF == sqlite3.SQLITE_FULL:
        return _room(path)
    if code == sqlite3.SQLITE_IOERR_WRITE:
        return _size_limit(path)
    return None


def _hindrance(path: Path) -> str | None:
    """Return what keeps this process from writing, as far as one can see."""
    if path.is_dir():
        return "it is a folder"
    user = f"user {os.geteuid()}" if hasattr(os, "geteuid") else "this user"
    if not os.access(path.parent, os.W_OK | os.X_OK):
        return f"the folder must be writable for {user}, since the log is made beside the database"
    if path.exists() and not os.access(path, os.R_OK | os.W_OK):
        return f"the file must be readable and writable for {user}"
    for name in (f"{path}-wal", f"{path}-shm", f"{path}-journal"):
        if os.path.exists(name) and not os.access(name, os.R_OK | os.W_OK):
            return f"{name}, which belongs to it, must be readable and writable for {user}"
    return None


def _room(path: Path) -> str | None:
    try:
        free = shutil.disk_usage(path.parent).free
    except OSError:
        return None
    return f"{free:,} bytes are free; make room, or delete old jobs with `gigq prune`"


def _size_limit(path: Path) -> str | None:
    try:
        import resource
    except ImportError:  # Windows
        return None
    limit, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    if limit == resource.RLIM_INFINITY:
        return None
    return f"this process may write files of at most {limit:,} bytes (RLIMIT_FSIZE, `ulimit -f`)"
