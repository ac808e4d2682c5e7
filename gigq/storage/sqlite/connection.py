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

from gigq.errors import GigQError, OutcomeUnknown, StorageBusy, StorageError
from gigq.storage.sqlite import schema
from gigq.storage.sqlite.permissions import check_permissions

T = TypeVar("T")

BUSY_SECONDS: Final = 30.0
"""How long a transaction waits for another program's write lock before it raises StorageBusy."""

# SQLite's own busy handler sleeps up to 100 ms and lets some writers starve: with four workers and four submitters on
# one file it gave a twentieth of the throughput. Short random sleeps give every writer the same chance.
_FIRST_SLEEP_SECONDS: Final = 0.0001
_LONGEST_SLEEP_SECONDS: Final = 0.002

_SYNCHRONOUS: Final = {"power": "FULL", "process": "NORMAL"}


class _Handle:
    """A connection and the lock that is held while SQLite's code runs on it (a fork waits for it)."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection
        self.lock = threading.RLock()
        # For a thread that ends without closing it. No __del__: in a cycle, the connection could be collected first.
        weakref.finalize(self, _close_own, connection, os.getpid()).atexit = False


class Database:
    """Transactions on one file. Every thread uses a connection of its own, opened when it is first needed."""

    def __init__(
        self, path: Path, *, durability: str, busy_seconds: float = BUSY_SECONDS, shared: bool = False
    ) -> None:
        self.path = path
        self._is_shared = shared  # with other users, on purpose
        self._synchronous = _SYNCHRONOUS[durability]
        self._busy_seconds = busy_seconds
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
                if not _is_busy(error):
                    raise _translated(error, self.path) from error
                patience.sleep(error)

    def write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Return what `work` returns, run in one write transaction that is committed or rolled back as a whole."""
        handle = self._handle()
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
                        if not _is_busy(error):
                            raise _translated(error, self.path) from error
                        busy = error
                    else:
                        return self._finish_write(handle.connection, work)
            patience.sleep(busy)

    def _finish_write(self, connection: sqlite3.Connection, work: Callable[[sqlite3.Connection], T]) -> T:
        try:
            result = work(connection)
        except sqlite3.Error as error:
            raise _translated(error, self.path) from error
        patience = _Patience(self._busy_seconds, self.path)
        while True:
            try:
                connection.execute("COMMIT")
                return result
            except sqlite3.Error as error:
                if _is_busy(error):  # a rollback journal waits for readers at this point; the transaction stays open
                    patience.sleep(error)
                    continue
                if error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_FULL:  # its frames are not all in the log
                    raise _translated(error, self.path) from error
                raise OutcomeUnknown(
                    f"committing to {self.path} failed: {error}; whether it was stored is not known: "
                    "look it up by its id before trying again"
                ) from error

    # -- connections

    def _handle(self) -> _Handle:
        handle: _Handle | None = getattr(self._local, "handle", None)
        if handle is None:
            with self._opening:
                handle = _Handle(self._connect())
                self._handles.add(handle)
            self._local.handle = handle
        return handle

    def _connect(self) -> sqlite3.Connection:
        if sqlite3.sqlite_version_info < schema.OLDEST_LIBRARY:
            oldest = ".".join(map(str, schema.OLDEST_LIBRARY))
            raise StorageError(f"gigq needs the SQLite library {oldest} or newer, got {sqlite3.sqlite_version}")
        if not self._is_shared:
            check_permissions(self.path)
        patience = _Patience(self._busy_seconds, self.path)
        while True:
            connection = None
            try:
                connection = open_private(self.path)
                connection.execute("PRAGMA journal_mode=WAL").fetchone()
                connection.execute(f"PRAGMA synchronous={self._synchronous}")
                connection.execute("PRAGMA temp_store=MEMORY")
                connection.execute("PRAGMA trusted_schema=OFF")
                schema.migrate(connection, self.path)
                if not self._is_shared:
                    check_permissions(self.path)  # again: its companions were made, or found, only now
                return connection
            except BaseException as error:
                if connection is not None:
                    _roll_back(connection)
                    connection.close()
                if not isinstance(error, sqlite3.Error):
                    raise
                if not _is_busy(error):
                    raise _translated(error, self.path) from error
                patience.sleep(error)

    def close(self) -> None:
        """Close this process's connections; later use opens new ones."""
        with self._opening:
            for handle in list(self._handles):
                with handle.lock:
                    handle.connection.close()
            self._reset()

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


def _is_busy(error: sqlite3.Error) -> bool:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def _roll_back(connection: sqlite3.Connection) -> None:
    if connection.in_transaction:  # SQLite ends some failed transactions by itself
        connection.execute("ROLLBACK")


def _translated(error: sqlite3.Error, path: Path) -> GigQError:
    name = getattr(error, "sqlite_errorname", type(error).__name__)
    return StorageError(f"{path}: {error} ({name}); nothing was stored")


def open_private(path: Path) -> sqlite3.Connection:
    """Return a connection to a file that is made, if it does not exist, readable by its owner only.

    SQLite makes the file, with the mode of another one (https://www.sqlite.org/uri.html, "modeof"). Made by us it would
    have to be closed by us, which drops the POSIX locks that SQLite may hold on it in another thread by then
    (https://www.sqlite.org/howtocorrupt.html, section 2.2). Rejected: another name first and then a hard link, which
    some filesystems do not have; the umask, which belongs to all threads.

    Raises:
        StorageError: it cannot be made.
    """
    try:
        if path.exists():
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
