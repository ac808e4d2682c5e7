"""What must not break a storage: signals in the middle of a call, too many open files, a close under a watch."""

from __future__ import annotations

import contextlib
import gc
import os
import random
import resource
import signal
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from types import FrameType

import pytest

from gigq.errors import StorageError
from gigq.states import JobState
from gigq.storage.leases import ClaimRequest, End
from gigq.storage.sqlite import SqliteStorage
from gigq.testing.harness import TASK, new_job, outcome, worker_row


class Interrupted(KeyboardInterrupt):
    """What the handler of the test's own signal raises."""


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[SqliteStorage]:
    storage = SqliteStorage(tmp_path / "jobs.db", durability="process")
    yield storage
    storage.close()


@pytest.fixture
def on_alarm() -> Iterator[Callable[[Callable[[], None]], None]]:
    """Say what happens at SIGALRM."""
    before = signal.getsignal(signal.SIGALRM)

    def handle(act: Callable[[], None]) -> None:
        def handler(number: int, frame: FrameType | None) -> None:
            act()

        signal.signal(signal.SIGALRM, handler)

    yield handle
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.slow
def test_an_interrupt_at_any_moment_leaves_no_transaction_open(
    storage: SqliteStorage, on_alarm: Callable[[Callable[[], None]], None]
) -> None:
    def interrupt() -> None:
        raise Interrupted

    storage.submit([new_job()])
    on_alarm(interrupt)
    seed = random.randrange(10**6)
    draw, interrupts = random.Random(seed), 0
    storage.submit([new_job()])  # opens the file, which takes longer than any of the times below
    gc.collect()  # the callbacks of what earlier tests have left behind would swallow an interrupt
    with closing(sqlite3.connect(storage.path, isolation_level=None, timeout=0)) as other:
        for _ in range(1500):
            try:
                signal.setitimer(signal.ITIMER_REAL, draw.uniform(0.00001, 0.0005))
                storage.submit([new_job()])
                signal.setitimer(signal.ITIMER_REAL, 0)
            except Interrupted:
                interrupts += 1
            signal.setitimer(signal.ITIMER_REAL, 0)
            other.execute("BEGIN IMMEDIATE")  # "database is locked" if the interrupt left a transaction behind
            other.execute("ROLLBACK")
    assert interrupts > 100, f"seed {seed}: only {interrupts} calls were interrupted"
    storage.submit([new_job()])


def test_a_signal_handler_cannot_break_into_a_transaction(
    storage: SqliteStorage, on_alarm: Callable[[Callable[[], None]], None]
) -> None:
    def write() -> None:
        with pytest.raises(StorageError, match="signal handlers must not write"):
            storage.submit([new_job()])

    def work(db: sqlite3.Connection) -> None:
        db.execute("UPDATE jobs SET priority = 7")
        signal.raise_signal(signal.SIGALRM)
        db.execute("UPDATE jobs SET name = 'both'")

    job = new_job()
    storage.submit([job])
    on_alarm(write)
    storage._database.write(work)
    assert storage.stats()[JobState.PENDING] == 1
    assert (storage.get(job.id).priority, storage.get(job.id).name) == (7, "both")


def test_what_is_stored_is_not_called_refused_for_want_of_a_file_to_wake_with(storage: SqliteStorage) -> None:
    storage.register(worker_row("w1", 0.0, address="nobody-listens"))
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(name) for name in os.listdir("/proc/self/fd"))
    fillers: list[int] = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1, before[1]))
    try:
        with contextlib.suppress(OSError):
            while True:
                fillers.append(os.open(os.devnull, os.O_RDONLY))
        storage.submit([new_job()])
    finally:
        for descriptor in fillers:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert storage.stats()[JobState.PENDING] == 1


def test_a_watch_notices_what_changes_while_its_storage_is_closed(storage: SqliteStorage, tmp_path: Path) -> None:
    storage.submit([new_job()])
    watch = storage.watch()
    assert watch.wait(0) is False
    storage.close()
    with closing(SqliteStorage(tmp_path / "jobs.db")) as other:
        other.submit([new_job()])
    assert watch.wait(0) is True


def test_a_claim_is_not_lost_when_nobody_can_be_woken(storage: SqliteStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    storage.submit([new_job(), new_job()])
    storage.register(worker_row("w1", 0.0))
    (job,) = storage.claim(ClaimRequest("w1", 1, (TASK,))).jobs
    real, transactions = storage._database.read, []

    def read(work: Callable[[sqlite3.Connection], object]) -> object:
        transactions.append(work)
        raise StorageError("the disk is gone")

    monkeypatch.setattr(storage._database, "read", read)
    finished = storage.finish("w1", [outcome(job, End.RELEASED, 1.0, started=False)], ClaimRequest("w1", 2, (TASK,)))
    monkeypatch.setattr(storage._database, "read", real)
    assert finished.claimed is not None
    assert len(finished.claimed.jobs) == 2
    assert transactions == []
