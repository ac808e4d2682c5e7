"""Notices that the file which a connection has open is not the one at its path any more.

In WAL mode SQLite goes on with a file that was deleted or replaced: commits succeed, and nobody else will ever see
them. Worse, a log is found by its name, so frames of the old file may be taken for the new one's
(https://www.sqlite.org/howtocorrupt.html, section 2.4). SQLite looks itself when the last connection is closed, and
leaves the log alone then, and with a rollback journal before each transaction.
"""

from __future__ import annotations

import os
from pathlib import Path
from time import monotonic
from typing import Final

from gigq.errors import DatabaseLost

CHECK_SECONDS: Final = 0.001  # a look costs 3 to 7 µs, a tenth of a small write that is not synced
LOG_SECONDS: Final = 0.1


class Presence:
    """The files of one connection, remembered as they were when it opened them.

    Args:
        path: the database.
        by_number: compare inode numbers; not on filesystems where those change by themselves.
    """

    __slots__ = ("_by_number", "_check_at", "_log", "_log_at", "_log_number", "_number", "_path")

    def __init__(self, path: Path, *, by_number: bool) -> None:
        self._path = os.fspath(path)
        self._by_number = by_number
        self._number = _number(self._path)
        self._log = f"{path}-wal"
        self._log_number: tuple[int, int] | None = None
        self._log_at = 0.0
        self._check_at = 0.0

    def remember(self) -> bool:
        """Look again once the database is open; False: it is not the file that was there before.

        It has just been replaced; or it lies on an overlay, which gives a file another number when it is first opened
        for writing.
        """
        before, self._number = self._number, _number(self._path)
        return not self._by_number or before in (None, self._number)

    def remember_log(self) -> None:
        """Watch the write-ahead log too; it must have been opened."""
        if self._by_number:
            self._log_number = _number(self._log)

    def check(self) -> None:
        """Raise DatabaseLost if the database is not there any more. One system call."""
        number = _number(self._path, self._number)
        if number == self._number or (number is not None and not self._by_number):
            return
        what = "deleted or moved away" if number is None else "replaced by another file"
        raise DatabaseLost(
            f"{self._path} was {what} while it was in use; nothing was stored where anybody would read it: put it "
            "back, or stop the programs that use it"
        )

    def check_often(self) -> None:
        """Do as `check_all`, but at most once in CHECK_SECONDS: for each of many small writes.

        What is acknowledged in between is lost as surely as what was acknowledged just before the file was.
        """
        now = monotonic()
        if now >= self._check_at:
            self._check_at = now + CHECK_SECONDS
            self.check_all()

    def check_all(self) -> None:
        """Raise DatabaseLost if the database, or the log beside it, is not there any more.

        The log, which fewer people delete, is looked at only now and then.
        """
        self.check()
        if self._log_number is None or (now := monotonic()) < self._log_at:
            return
        self._log_at = now + LOG_SECONDS
        # No other process deletes the log while this one has the database open, so whoever did was no SQLite.
        if _number(self._log, self._log_number) != self._log_number:
            raise DatabaseLost(
                f"{self._log} was deleted or replaced while {self._path}, to which it belongs, was in use; nothing was "
                "stored where anybody would read it: stop the programs that use it, then check the database",
                is_log=True,
            )


def _number(path: str, otherwise: tuple[int, int] | None = None) -> tuple[int, int] | None:
    """Return what tells a file from all others, None if there is none; `otherwise`: if it cannot be looked at."""
    try:
        status = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError:  # which proves nothing
        return otherwise
    return status.st_dev, status.st_ino
