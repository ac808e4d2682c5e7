"""SQLite passes the suite that every storage passes."""

from __future__ import annotations

from pathlib import Path

from gigq.storage.base import Storage
from gigq.storage.sqlite import SqliteStorage
from gigq.testing.clock import FakeClock
from gigq.testing.conformance import StorageConformance


class TestSqliteStorage(StorageConformance):
    def open_storage(self, folder: Path, clock: FakeClock) -> Storage:
        return SqliteStorage(folder / "jobs.db", durability="process", now=clock.now)


class TestSqliteStorageWithRollbackJournal(StorageConformance):
    """As on a network filesystem."""

    def open_storage(self, folder: Path, clock: FakeClock) -> Storage:
        return SqliteStorage(folder / "jobs.db", durability="process", now=clock.now, journal="delete")
