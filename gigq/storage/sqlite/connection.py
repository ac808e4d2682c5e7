"""Connections to one SQLite file: one for each thread, with transactions that wait politely and survive a fork."""

from __future__ import annotations

import os
import random
import sqlite3
import tempfile
import threading
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar
from urllib.parse import quote

from gigq.errors import DatabaseLost, StorageBusy, StorageError
from gigq.storage.sqlite import schema
from gigq.storage.sqlite.filesystem import filesystem_of, is_network
from gigq.storage.sqlite.journal import set_journal
from gigq.storage.sqlite.permissions import check_permissions
from gigq.storage.sqlite.presence import Presence
from gigq.storage.sqlite.trouble import is_busy, of_commit, translated
from gigq.storage.urls import Journal

T = TypeVar("T")

BUSY_SECONDS: Final = 30.0
"""How long a transaction waits for another program's write lock before it raises StorageBusy."""

# SQLite's own busy handler sleeps up to 100 ms and lets some writers starve: with four workers and four submitters on
# one file it gave a twentieth of the throughput. Short random sleeps give every writer the same chance.
_FIRST_SLEEP_SECONDS: Final = 0.0001
_LONGEST_SLEEP_SECONDS: Final = 0.002


class _Handle:
    """A connection and the lock that is held while SQLite's code runs on it (a fork waits for it)."""

    def __init__(self, connection: sqlite3.Connection, presence: Presence) -> None:
        self.connection = connection
        self.presence = presence
        self.lock = threading.RLock()
        # For a thread that ends without closing it. No __del__: in a cycle, the connection could be collected first.
        weakref.finalize(self, _close_own, connection, os.getpid()).atexit = False


class Database:
    """Transactions on one file. Every thread uses a connection of its own, opened when it is first needed."""

    def __init__(
        self,
        path: Path,
        *,
        durability: str,
        busy_seconds: float = BUSY_SECONDS,
        shared: bool = False,
        journal: Journal | None = None,
        must_exist: bool = False,
    ) -> None:
        self.path = path
        self._is_shared = shared  # with other users, on purpose
        self._durability = durability
        self._busy_seconds = busy_seconds
        self._journal: Journal | None = journal
        self._must_exist = must_exist
        self._network: str | None = None
        self._is_first = True  # no connection was opened yet
        self._log_lost: DatabaseLost | None = None
        self._opening = threading.RLock()
        self._reset()
        with _registry_lock:
            _databases.add(self)

    def _reset(self) -> None:
        self._local = threading.local()
        self._handles: weakref.WeakSet[_Handle] = weakref.WeakSet()

    # -- transactions

    def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Return what `work` reads. It must be a single statement, or be content with several snapshots."""
        handle = self._handle()
        patience = _Patience(self._busy_seconds, self.path)
        while True:
            try:
                with handle.lock:
                    return work(handle.connection)
            except sqlite3.Error as error:
                if not is_busy(error):
                    raise translated(error, self.path) from error
                patience.sleep(error)

    def read_watching(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Return what `work` reads, as `read` does; raise DatabaseLost where it would wait for ever for changes."""
        handle = self._handle()
        try:
            handle.presence.check_all()
        except DatabaseLost as error:
            self._leave(handle, error)
            raise
        return self.read(work)

    def write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Return what `work` returns, run in one write transaction that is committed or rolled back as a whole."""
        handle = self._handle()
        try:
            return self._write(handle, work)
        except DatabaseLost as error:
            self._leave(handle, error)
            raise

    def _write(self, handle: _Handle, work: Callable[[sqlite3.Connection], T]) -> T:
        patience = _Patience(self._busy_seconds, self.path)
        while True:
            with handle.lock:
                if handle.connection.in_transaction:  # a handler of signals that interrupts us and calls us
                    raise StorageError("this thread is in the middle of a transaction: signal handlers must not write")
                # Whatever leaves this block, be it what a signal's handler raises between two lines of ours, leaves
                # no transaction open: the connection's own exit rolls back, and is one step for the interpreter.
                with handle.connection:
                    try:
                        # IMMEDIATE: a transaction that begins by reading cannot always be upgraded to a writing one.
                        handle.connection.execute("BEGIN IMMEDIATE")
                    except sqlite3.Error as error:
                        if not is_busy(error):
                            raise translated(error, self.path) from error
                        busy = error
                    else:
                        result = self._finish_write(handle, work)
                        if self._durability == "power":  # beside a sync to the disk, another check costs nothing
                            # What was deleted between the check before COMMIT and its end must not be acknowledged.
                            handle.presence.check()
                        return result
            patience.sleep(busy)

    def _finish_write(self, handle: _Handle, work: Callable[[sqlite3.Connection], T]) -> T:
        connection = handle.connection
        try:
            result = work(connection)
        except sqlite3.Error as error:
            raise translated(error, self.path) from error
        # Before COMMIT: the frames of a lost file could end up in the log of the one that has taken its place.
        # And each time where COMMIT syncs, so that what is refused is not found in a file that is put back.
        if self._durability == "power":
            handle.presence.check_all()
        else:
            handle.presence.check_often()
        patience = _Patience(self._busy_seconds, self.path)
        while True:
            try:
                connection.execute("COMMIT")
                return result
            except sqlite3.Error as error:
                if is_busy(error):  # a rollback journal waits for readers at this point; the transaction stays open
                    patience.sleep(error)
                    continue
                raise of_commit(error, self.path) from error

    # -- connections

    def _handle(self) -> _Handle:
        handle: _Handle | None = getattr(self._local, "handle", None)
        if handle is None:
            if self._log_lost is not None:
                raise DatabaseLost(str(self._log_lost), is_log=True)
            with self._opening:
                handle = self._connect()
                self._handles.add(handle)
            self._local.handle = handle
        return handle

    def _leave(self, handle: _Handle, error: DatabaseLost) -> None:
        """Leave a connection whose file is lost; the next use opens what is at the path then."""
        if error.is_log:
            # Only the log is gone. Connections that have it open can save what is in it, the last one when it is
            # closed; with one that had another log beside the same memory, they would ruin the database.
            self._log_lost = error
        with self._opening:
            self._handles.discard(handle)
        if getattr(self._local, "handle", None) is handle:
            del self._local.handle

    def _connect(self) -> _Handle:
        if sqlite3.sqlite_version_info < schema.OLDEST_LIBRARY:
            oldest = ".".join(map(str, schema.OLDEST_LIBRARY))
            raise StorageError(f"gigq needs the SQLite library {oldest} or newer, got {sqlite3.sqlite_version}")
        self._look_at_the_file()
        patience = _Patience(self._busy_seconds, self.path)
        is_second = False
        while True:
            connection = None
            try:
                # Before it is opened: what replaces it after that is then noticed by the first check.
                presence = Presence(self.path, by_number=self._network is None)
                connection = open_private(self.path, may_create=self._may_create)
                if not presence.remember() and not is_second:
                    connection.close()
                    is_second = True
                    continue
                connection.execute("PRAGMA temp_store=MEMORY")
                connection.execute("PRAGMA trusted_schema=OFF")
                journal = set_journal(
                    connection, self.path, self._journal, on_network=self._network is not None,
                    durability=self._durability,
                )  # fmt: skip
                schema.migrate(connection, self.path)
                if not self._is_shared:
                    check_permissions(self.path)  # again: its companions were made, or found, only now
                if journal == "wal":
                    presence.remember_log()
                self._is_first = False
                return _Handle(connection, presence)
            except BaseException as error:
                if connection is not None:
                    _roll_back(connection)
                    connection.close()
                if not isinstance(error, sqlite3.Error):
                    raise
                if not is_busy(error):
                    raise translated(error, self.path) from error
                patience.sleep(error)

    @property
    def _may_create(self) -> bool:
        # What was deleted while it was in use is not made again: its jobs would seem to be gone, and nobody be told.
        return self._is_first and not self._must_exist

    def _look_at_the_file(self) -> None:
        if not self._is_shared:
            check_permissions(self.path)
        if not self._may_create and not self.path.exists():
            raise DatabaseLost(f"{self.path} does not exist any more; nothing was stored: put it back")
        if not self._is_first:
            return
        kind = filesystem_of(self.path)
        self._network = kind if is_network(kind) else None
        if self._network is not None and self._journal is None and not self._must_exist:
            import logging

            logging.getLogger("gigq.storage").warning(
                "%s is on a network filesystem (%s): it is used with a rollback journal, which is slower than the "
                "write-ahead log of a local disk and only as good as that filesystem's locks; for several machines "
                "PostgreSQL is the better choice (?journal=delete asks for this and says nothing)",
                self.path, self._network,
            )  # fmt: skip

    def close(self) -> None:
        """Close this process's connections; later use opens new ones."""
        with self._opening:
            for handle in list(self._handles):
                with handle.lock:
                    handle.connection.close()
            self._reset()
            self._is_first, self._log_lost = True, None

    # -- forks

    def hold(self) -> None:
        """Wait until no thread is inside SQLite, and keep it so: a fork would freeze its locks in the child."""
        self._opening.acquire()
        self._held = list(self._handles)
        for handle in self._held:
            handle.lock.acquire()

    def resume(self) -> None:
        """Let the threads go on after a fork, in the parent."""
        for handle in self._held:
            handle.lock.release()
        self._held = []
        self._opening.release()

    def forget(self) -> None:
        """Start afresh in the child of a fork, without closing the parent's connections."""
        # Closing an inherited connection may checkpoint and delete files under the parent: leak it instead.
        _leaked.extend(self._held)
        self._held = []
        self._opening = threading.RLock()
        self._reset()


class _Patience:
    """Random sleeps that grow, until a deadline."""

    def __init__(self, seconds: float, path: Path) -> None:
        self._seconds = seconds
        self._path = path
        self._deadline: float | None = None
        self._sleep = _FIRST_SLEEP_SECONDS

    def sleep(self, error: sqlite3.Error) -> None:
        now = time.monotonic()
        if self._deadline is None:
            self._deadline = now + self._seconds
        if now >= self._deadline:
            raise StorageBusy(
                f"{self._path} stayed locked for {self._seconds:g} s by another program; nothing was stored: try again"
            ) from error
        time.sleep(random.uniform(0, self._sleep))
        self._sleep = min(self._sleep * 1.5, _LONGEST_SLEEP_SECONDS)


def _close_own(connection: sqlite3.Connection, pid: int) -> None:
    if os.getpid() == pid:  # in the child of a fork it is the parent's: see Database.forget
        connection.close()


def _roll_back(connection: sqlite3.Connection) -> None:
    if connection.in_transaction:  # SQLite ends some failed transactions by itself
        connection.execute("ROLLBACK")


def open_private(path: Path, *, may_create: bool = True) -> sqlite3.Connection:
    """Return a connection to a file that is made, if it does not exist, readable by its owner only.

    SQLite makes the file, with the mode of another one (https://www.sqlite.org/uri.html, "modeof"). Made by us it would
    have to be closed by us, which drops the POSIX locks that SQLite may hold on it in another thread by then
    (https://www.sqlite.org/howtocorrupt.html, section 2.2). Rejected: another name first and then a hard link, which
    some filesystems do not have; the umask, which belongs to all threads.

    Raises:
        StorageError: it cannot be made.
    """
    try:
        if path.exists() or not may_create:
            # Not made again if it is deleted at this moment: the mode would be any.
            return _open(f"{path.as_uri()}?mode=rw")
        model, name = tempfile.mkstemp(dir=path.parent, prefix=".gigq-")
        try:
            if hasattr(os, "fchmod"):
                os.fchmod(model, 0o600)  # the umask may have taken even that
            os.close(model)
            return _open(f"{path.as_uri()}?mode=rwc&modeof={quote(os.fsencode(name))}")
        finally:
            os.unlink(name)
    except OSError as error:
        raise StorageError(f"cannot create the database {path}: {error.strerror or error}") from error


def _open(uri: str) -> sqlite3.Connection:
    return sqlite3.connect(
        uri,
        uri=True,
        timeout=0,  # see _Patience
        isolation_level=None,
        check_same_thread=False,  # a handle may be closed by the thread that collects it
        cached_statements=256,
    )


# Forking is a matter of the whole process, so this registry is the one piece of module-level state: see os.fork.
_databases: weakref.WeakSet[Database] = weakref.WeakSet()
_registry_lock = threading.RLock()  # held over a fork by the thread that forks, which releases it on both sides
_leaked: list[_Handle] = []
_holding: list[Database] = []


def _before_fork() -> None:
    _registry_lock.acquire()
    _holding.extend(_databases)
    for database in _holding:
        database.hold()


def _after_fork_in_parent() -> None:
    while _holding:
        _holding.pop().resume()
    _registry_lock.release()


def _after_fork_in_child() -> None:
    while _holding:
        _holding.pop().forget()
    _registry_lock.release()


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
