"""What `gigq doctor` asks of a SQLite file. Nothing here writes, makes a file, or unpickles."""

from __future__ import annotations

import shutil
import sqlite3
import stat
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

from gigq.signing import Signer
from gigq.storage.findings import Finding, note, ok, problem
from gigq.storage.rows import WorkerRow
from gigq.storage.sqlite import schema
from gigq.storage.sqlite.consistency import inconsistencies, unreadable_texts
from gigq.storage.sqlite.filesystem import filesystem_of, is_network
from gigq.storage.sqlite.holders import check_clock, check_workers
from gigq.storage.sqlite.log import CHECKED_BYTES, read_log
from gigq.storage.sqlite.payload_checks import check_signatures
from gigq.storage.sqlite.permissions import COMPANIONS, complaints

LARGE_LOG_BYTES: Final = 64 * 1024 * 1024  # it is emptied at 4 MB, unless somebody reads for long
LEAST_FREE_BYTES: Final = 64 * 1024 * 1024
LEAST_FREE_PART: Final = 0.05
_SHOWN: Final = 3  # of what a check of SQLite's finds
_RESTORE: Final = "stop all programs that use it, copy the files as they are, and go back to a backup"
_CANNOT: Final = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY)


def check_library(version: tuple[int, ...] = sqlite3.sqlite_version_info) -> Iterator[Finding]:
    """Look at the SQLite library that this Python uses."""
    text = "SQLite " + ".".join(map(str, version))
    if version < schema.OLDEST_LIBRARY:
        oldest = ".".join(map(str, schema.OLDEST_LIBRARY))
        yield problem("library", f"{text} is older than {oldest}", "use a Python that comes with a newer one")
    elif not _has_reset_fix(version):
        yield note(
            "library",
            f"{text} has a fault that can, very rarely, damage a database when two processes write and empty the log "
            "at the same moment (https://www.sqlite.org/wal.html#walresetbug)",
            "use 3.51.3 or later, or 3.50.7 or 3.44.6, when you can",
        )
    else:
        yield ok("library", text)


def _has_reset_fix(version: tuple[int, ...]) -> bool:
    return version >= (3, 51, 3) or (3, 50, 7) <= version < (3, 51, 0) or (3, 44, 6) <= version < (3, 45, 0)


def check_files(path: Path, *, shared: bool) -> Iterator[Finding]:
    """Look at the file from outside: where it is, whose it is, and who can write it."""
    filesystem = filesystem_of(path)
    if is_network(filesystem):
        text = f"the file is on {filesystem}, which several machines may use"
        advice = "move it to a local disk; for several machines PostgreSQL is the better choice"
        if _has_log(path):
            yield problem("filesystem", f"{text}, with a write-ahead log, which needs memory that they share", advice)
        else:
            yield note("filesystem", f"{text}: it is only as good as the locks of that filesystem", advice)
    else:
        yield ok("filesystem", "unknown" if filesystem is None else filesystem)
    yield _free_space(path)
    status = path.stat()
    mode = stat.S_IMODE(status.st_mode)
    found = list(complaints(path))
    for complaint in found:
        if shared:
            yield note("permissions", f"{complaint}: allowed by ?shared=yes")
        else:
            yield problem("permissions", complaint, "take that right away, or allow it by ?shared=yes in the URL")
    if mode & (stat.S_IRGRP | stat.S_IROTH):
        yield note("permissions", f"others can read arguments and results (mode {mode:04o})", f"chmod 600 {path}")
    elif not found:
        yield ok("permissions", f"mode {mode:04o}, owner {status.st_uid}")
    strange = [name for name in _companions(path) if name.stat().st_uid != status.st_uid]
    if strange:
        yield note("permissions", f"{strange[0].name} belongs to another user than the database",
                   "run all programs that use it as one user")  # fmt: skip


def _companions(path: Path) -> list[Path]:
    names = [path.with_name(path.name + suffix) for suffix in COMPANIONS]
    return [name for name in names if name.exists()]


def _free_space(path: Path) -> Finding:
    usage = shutil.disk_usage(path.parent)
    text = f"{usage.free / 2**20:,.0f} MiB of {usage.total / 2**20:,.0f} MiB are free"
    if usage.free < LEAST_FREE_BYTES:
        return problem("disk", text, "make room: without any, nothing can be submitted or recorded")
    if usage.free < LEAST_FREE_PART * usage.total:
        return note("disk", text, "make room before it is full")
    return ok("disk", text)


def check_log(path: Path, *, full: bool) -> Iterator[Finding]:
    """Look at the write-ahead log. Do this before the database is opened: SQLite may then empty it."""
    log = path.with_name(path.name + "-wal")
    state = read_log(log, limit_bytes=None if full else CHECKED_BYTES)
    size = f"{state.size_bytes / 2**20:,.1f} MiB"
    if state.is_header_damaged:
        yield problem("log", f"the beginning of {log.name} is damaged: SQLite takes all of it for empty", _RESTORE)
    elif state.lost:
        yield problem(
            "log",
            f"{log.name} is damaged after {state.commits:,} commits: SQLite will drop {state.lost:,} or more behind "
            "that place (a power cut in the middle of a commit looks alike, and loses nothing that was acknowledged)",
            _RESTORE,
        )
    elif state.size_bytes > LARGE_LOG_BYTES:
        yield note("log", f"{size}: something reads for so long that it cannot be emptied",
                   "look for a program with an open transaction")  # fmt: skip
    else:
        part = "" if state.is_complete else f", of which the first {CHECKED_BYTES / 2**20:.0f} MiB were checked"
        yield ok("log", f"{size}, {state.commits:,} commits{part}")


def check_contents(
    path: Path, *, full: bool, now: float, is_gone: Callable[[WorkerRow], bool], signer: Signer | None = None
) -> list[Finding]:
    """Look at what is in the database, as it is at one moment. `is_gone` knows workers whose process has ended."""

    def look(db: sqlite3.Connection) -> Iterator[Finding]:
        yield from check_workers(db, now, is_gone)
        yield from check_clock(db, now)
        if full:
            yield from _check_rows(db)
            yield from check_signatures(db, signer)

    # Without a log nobody has it open, as a rule, and the file is all there is. Opened in the usual way, SQLite would
    # make a log and its shared memory, and leave both behind.
    if not _has_log(path):
        before = _marks(path)
        findings = _check_contents(path, "immutable=1", look, full=full)
        if _marks(path) == before:
            return findings
    return _check_contents(path, "mode=ro", look, full=full)


def _has_log(path: Path) -> bool:
    log = path.with_name(path.name + "-wal")
    return log.exists() and log.stat().st_size > 0


def _marks(path: Path) -> object:
    status = path.stat()
    return _has_log(path), path.with_name(path.name + "-journal").exists(), status.st_mtime_ns, status.st_size


@contextmanager
def _reading(path: Path, how: str) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(f"{path.as_uri()}?{how}", uri=True, isolation_level=None, timeout=5)) as db:
        db.execute("PRAGMA trusted_schema=OFF")
        db.execute("BEGIN")
        yield db


def _check_contents(
    path: Path, how: str, look: Callable[[sqlite3.Connection], Iterator[Finding]], *, full: bool
) -> list[Finding]:
    findings: list[Finding] = []
    try:
        with _reading(path, how) as db:
            findings += _check_integrity(db, full=full)
            (mode,) = db.execute("PRAGMA journal_mode").fetchone()
            if how == "mode=ro":  # otherwise it does not say
                findings.append(ok("journal", "write-ahead log" if mode == "wal" else f"rollback journal ({mode})"))
            version = schema.version_of(db)
            oldest_code = schema.oldest_code_of(db) if version else 0
            findings.append(_about_version(version, oldest_code))
            if oldest_code <= len(schema.MIGRATIONS) <= version:
                findings += look(db)
    except sqlite3.Error as error:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF in _CANNOT:
            findings.append(problem("integrity", f"the database cannot be read: {error}", "try again, as its owner"))
        else:
            findings.append(problem("integrity", f"reading the database failed: {error}", _RESTORE))
    except (ValueError, TypeError) as error:  # from values that no program of ours has written
        findings.append(problem("integrity", f"a row makes no sense: {error}", _RESTORE))
    return findings


def _check_integrity(db: sqlite3.Connection, *, full: bool) -> Iterator[Finding]:
    rows = db.execute("PRAGMA integrity_check(4)" if full else "PRAGMA quick_check(4)").fetchall()
    name = "integrity check" if full else "quick check"
    if rows == [("ok",)]:
        yield ok("integrity", f"SQLite's {name} found nothing")
    else:
        found = "; ".join(str(row[0]).replace("\n", ": ") for row in rows[:_SHOWN])
        yield problem("integrity", f"SQLite's {name} says: {found}", _RESTORE)


def _about_version(version: int, oldest_code: int) -> Finding:
    known = len(schema.MIGRATIONS)
    if version > known >= oldest_code:
        return note("schema", f"version {version} is of a newer gigq; this one, which knows {known}, can work with it",
                    "upgrade gigq when you can")  # fmt: skip
    if version > known:
        return problem("schema", f"version {version} is of a newer gigq, this one knows {known}", "upgrade gigq")
    if version < known:
        what = f"version {version}" if version else "there are no tables of gigq's"
        return note("schema", f"{what}: the next program that opens it brings it to version {known}")
    return ok("schema", f"version {version}")


def _check_rows(db: sqlite3.Connection) -> Iterator[Finding]:
    found = [*unreadable_texts(db), *inconsistencies(db)]
    for rule, count, example in found:
        yield problem("rows", f"{rule}: {count:,}, such as {example}", "was the database written by hand? " + _RESTORE)
    if not found:
        yield ok("rows", "jobs, dependencies, payloads and attempts agree with each other")
