"""A copy of a database that is in use, as it is at one moment."""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

from gigq.errors import StorageError
from gigq.storage.sqlite import schema
from gigq.storage.sqlite.connection import open_private


class Copied(NamedTuple):
    """What a backup holds."""

    jobs: int
    size_bytes: int


def back_up(source: Path, target: Path) -> Copied:
    """Copy the database at `source` into a new file: every job that was committed before this was called is in it.

    Others may go on writing meanwhile. The copy is one file without companions, readable by its owner only, checked and
    on the disk when this returns. If it fails, there is no file.

    Raises:
        StorageError: `target` exists, or cannot be written; `source` is damaged, or no database of gigq's.
    """
    with _reserved(target):
        draft = Path(tempfile.mkdtemp(dir=target.parent, prefix=".gigq-"))
        try:
            copied = _copy(source, draft / "copy")
            _sync(draft / "copy")
            os.replace(draft / "copy", target)
        finally:
            shutil.rmtree(draft)
        _sync(target.parent)
    return copied


@contextmanager
def _reserved(target: Path) -> Iterator[None]:
    """Make an empty file of that name, which goes away again if what follows fails."""
    try:
        os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        try:
            yield
        except BaseException:
            target.unlink(missing_ok=True)
            raise
    except FileExistsError as error:
        raise StorageError(f"{target} exists, and a backup overwrites nothing: give another name") from error
    except OSError as error:
        raise StorageError(f"cannot write the backup {target}: {error.strerror or error}") from error


def _copy(source: Path, target: Path) -> Copied:
    try:
        with (
            # Not read-only: that would leave an empty log behind, beside a database that nobody has open.
            closing(sqlite3.connect(f"{source.as_uri()}?mode=rw", uri=True, timeout=30)) as original,
            closing(open_private(target)) as copy,
        ):
            # All pages in one step, so under one read lock: in pieces, each write of others would begin it anew.
            original.backup(copy, pages=-1)
            copy.execute("PRAGMA journal_mode=DELETE")  # one file, which a medium that is read-only can hold
            problems = copy.execute("PRAGMA integrity_check(1)").fetchone()
            if problems != ("ok",):
                raise StorageError(f"{source} is damaged, and so is a copy of it: {problems[0]}; see gigq doctor")
            if schema.version_of(copy) == 0:
                raise StorageError(f"{source} is no database of gigq's: it has no tables of jobs")
            (jobs,) = copy.execute("SELECT count(*) FROM jobs").fetchone()
    except sqlite3.Error as error:
        raise StorageError(f"cannot copy {source}: {error}") from error
    return Copied(jobs, target.stat().st_size)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
