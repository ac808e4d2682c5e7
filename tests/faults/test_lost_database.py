"""The database deleted, moved or replaced while programs use it: nobody acknowledges what nobody will read."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from workshop import Workshop, attempts, until

from gigq import App, DatabaseLost, Job, JobState
from gigq.storage.sqlite import SqliteStorage, connection, presence
from gigq.testing.harness import new_job

COMPLETED, FAILED, RUNNING = JobState.COMPLETED, JobState.FAILED, JobState.RUNNING

STAY = """
import sys
from shop import add
add.delay(1)
print("ready", flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "jobs.db"


@pytest.fixture
def storage(path: Path) -> Iterator[SqliteStorage]:
    storage = SqliteStorage(path)
    storage.submit([new_job("first")])
    yield storage
    storage.close()


def names(path: Path) -> set[str]:
    other = SqliteStorage(path)
    try:
        return {row.name for row in other.find()}
    finally:
        other.close()


def look_now(storage: SqliteStorage) -> None:
    """Let the next write look at the files: it does so at most 1,000 times a second, and at the log 10 times."""
    handle = storage._database._handle()
    handle.presence._check_at = handle.presence._log_at = 0.0


def test_fault_17_a_deleted_database_is_noticed_and_not_made_again(storage: SqliteStorage, path: Path) -> None:
    path.unlink()
    for _ in range(2):
        with pytest.raises(
            DatabaseLost, match=f"{path} (was deleted or moved away while it was in use|does not exist)"
        ):
            storage.submit([new_job("second")])
    assert not path.exists()


def test_fault_17_a_database_that_is_put_back_is_used_again(storage: SqliteStorage, path: Path) -> None:
    away = path.with_name("away.db")
    path.rename(away)
    with pytest.raises(DatabaseLost):
        storage.submit([new_job("second")])
    away.rename(path)
    storage.submit([new_job("third")])
    assert names(path) == {"first", "third"}


@pytest.mark.parametrize("act", ["submit", "cancel", "retry", "prune", "heartbeat", "watch"])
def test_fault_17_a_replaced_database_is_noticed_by_whatever_writes_or_waits(
    storage: SqliteStorage, path: Path, act: str
) -> None:
    job, ended = new_job("old"), new_job("ended")
    storage.submit([job, ended])
    storage.cancel(ended.id, "for a retry")
    watch = storage.watch()
    fresh = SqliteStorage(path.with_name("fresh.db"))
    fresh.submit([new_job("fresh")])
    fresh.close()
    os.replace(path.with_name("fresh.db"), path)
    acts = {
        "submit": lambda: storage.submit([new_job("second")]),
        "cancel": lambda: storage.cancel(job.id, "no"),
        "retry": lambda: storage.retry(ended.id),
        "prune": lambda: storage.prune(0),
        "heartbeat": lambda: storage.heartbeat("w"),
        "watch": lambda: watch.wait(0),
    }
    with pytest.raises(DatabaseLost, match=f"{path} was replaced by another file while it was in use"):
        acts[act]()


def test_fault_17_after_one_error_a_submitter_uses_what_has_replaced_the_database(
    storage: SqliteStorage, path: Path
) -> None:
    for name in ("jobs.db", "jobs.db-wal", "jobs.db-shm"):
        path.with_name(name).unlink()
    SqliteStorage(path).submit([new_job("fresh")])
    with pytest.raises(DatabaseLost, match="replaced"):
        storage.submit([new_job("second")])
    storage.submit([new_job("third")])
    assert names(path) == {"fresh", "third"}


def test_fault_17_what_is_deleted_during_the_commit_is_not_acknowledged(storage: SqliteStorage, path: Path) -> None:
    def delete_at_commit(sql: str) -> None:
        if sql == "COMMIT":
            path.unlink()

    storage._database._handle().connection.set_trace_callback(delete_at_commit)
    with pytest.raises(DatabaseLost, match="deleted"):
        storage.submit([new_job("second")])


def test_fault_17_a_deleted_log_is_noticed_and_what_was_in_it_is_saved(storage: SqliteStorage, path: Path) -> None:
    path.with_name("jobs.db-wal").unlink()
    look_now(storage)
    for _ in range(2):
        with pytest.raises(DatabaseLost, match=r"jobs\.db-wal was deleted or replaced while .*, was in use"):
            storage.submit([new_job("second")])
    storage.close()
    assert names(path) == {"first"}
    storage.submit([new_job("third")])


def test_fault_17_whoever_waits_for_a_result_is_told(tmp_path: Path) -> None:
    app = App(tmp_path / "jobs.db")
    job = app.queue.submit(Job(function=print))
    (tmp_path / "jobs.db").unlink()
    with pytest.raises(DatabaseLost):
        job.get(timeout=20)


@pytest.mark.slow
def test_fault_17_a_program_that_ends_leaves_the_log_of_the_new_database_alone(workshop: Workshop) -> None:
    (workshop.folder / "stay.py").write_text(STAY)
    old = workshop.start("stay.py", stdin=subprocess.PIPE)
    until(lambda: "ready" in old.log)
    for name in ("jobs.db", "jobs.db-wal", "jobs.db-shm"):
        (workshop.folder / name).unlink()
    job = workshop.load("shop").add.delay(2)
    log = workshop.folder / "jobs.db-wal"
    number = log.stat().st_ino
    assert old.stdin is not None
    old.stdin.close()
    assert old.wait(10) == 0, old.log
    assert log.stat().st_ino == number
    with closing(sqlite3.connect(workshop.path)) as other:
        assert other.execute("SELECT id FROM jobs").fetchall() == [(job.id,)]


@pytest.mark.slow
@pytest.mark.parametrize("is_replaced", [False, True], ids=["moved", "replaced"])
def test_fault_17_a_worker_whose_database_is_gone_ends_and_acknowledges_nothing(
    workshop: Workshop, is_replaced: bool
) -> None:
    shop = workshop.load("shop")
    worker = workshop.work(concurrency=2)
    job = shop.hold.delay("never")
    workshop.pid_of("begin", "never")
    away = workshop.folder / "away"
    away.mkdir()
    for queue in workshop._opened:
        queue.close()
    workshop.stop(worker)  # it sees one change, not each step of it
    for name in ("jobs.db", "jobs.db-wal", "jobs.db-shm"):
        (workshop.folder / name).rename(away / name)
    if is_replaced:
        fresh = workshop.load("shop").add.delay(1)
    worker.send_signal(signal.SIGCONT)
    assert worker.wait(10) == 2
    lines = [line for line in worker.log.splitlines() if line.startswith("gigq: ")]
    what = "replaced by another file" if is_replaced else "deleted or moved away"
    assert len(lines) == 1
    assert f"{workshop.path} was {what} while it was in use" in lines[0]
    until(lambda: not workshop.processes())  # what ran is stopped
    if is_replaced:
        assert fresh.state is JobState.PENDING
        for queue in workshop._opened:
            queue.close()
    else:
        assert not workshop.path.exists()
    for name in ("jobs.db", "jobs.db-wal", "jobs.db-shm"):
        shutil.move(away / name, workshop.folder / name)
    assert shop.app.get(job.id).state is RUNNING
    workshop.work(concurrency=1)
    assert shop.app.get(job.id).get(10) == "second"
    assert attempts(shop.app.get(job.id)) == [FAILED, COMPLETED]


def test_fault_17_a_file_that_gets_another_number_when_it_is_opened_is_not_taken_for_lost(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on an overlay, where the first opening for writing copies the file up."""
    SqliteStorage(path).submit([new_job("first")])
    is_open = False

    def opened(*args: object, **options: object) -> sqlite3.Connection:
        nonlocal is_open
        is_open = True
        return open_private(*args, **options)  # type: ignore[arg-type]

    def numbered(name: str, otherwise: tuple[int, int] | None = None) -> tuple[int, int] | None:
        number = presence_number(name, otherwise)
        return number if number is None or is_open else (number[0], number[1] + 1)

    presence_number, open_private = presence._number, connection.open_private
    monkeypatch.setattr(presence, "_number", numbered)
    monkeypatch.setattr(connection, "open_private", opened)
    storage = SqliteStorage(path)
    storage.submit([new_job("second")])
    storage.close()
    assert names(path) == {"first", "second"}


def test_fault_17_a_path_that_cannot_be_looked_at_proves_nothing(
    storage: SqliteStorage, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.stat

    def refuse(name: str, **options: Any) -> os.stat_result:
        if str(name).startswith(str(path)):
            raise PermissionError(13, "not yours to see")
        return real(name, **options)

    monkeypatch.setattr(os, "stat", refuse)
    look_now(storage)
    storage.submit([new_job("second")])
    assert len(storage.find()) == 2


def test_fault_17_unsynced_writes_notice_it_within_a_millisecond(path: Path) -> None:
    storage = SqliteStorage(path, durability="process")
    storage.submit([new_job()])
    path.unlink()
    deleted_at = time.monotonic()

    def submit_for_ever() -> None:
        while True:
            began = time.monotonic()
            storage.submit([new_job()])
            assert began - deleted_at < presence.CHECK_SECONDS  # what began later than that was refused

    with pytest.raises(DatabaseLost):
        submit_for_ever()
    storage.close()
