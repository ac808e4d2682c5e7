"""What is special about SQLite: the file, its locks and its schema."""

from __future__ import annotations

import gc
import os
import random
import sqlite3
import stat
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from gigq.errors import SchemaTooNew, StorageBusy, StorageError
from gigq.states import JobState
from gigq.storage.sqlite import SqliteStorage, connection, schema
from gigq.testing.conformance.processes import exit_code_of_fork
from gigq.testing.harness import new_job

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "jobs.db"


@pytest.fixture
def storage(path: Path) -> Iterator[SqliteStorage]:
    storage = SqliteStorage(path, durability="process")
    yield storage
    storage.close()


@contextmanager
def locked_by_another_program(path: Path) -> Iterator[None]:
    other = sqlite3.connect(path, isolation_level=None)
    try:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")
    finally:
        other.close()


# -- the file


def test_only_its_owner_can_read_the_database_and_its_companions(path: Path, storage: SqliteStorage) -> None:
    umask = os.umask(0)
    try:
        storage.submit([new_job()])
    finally:
        os.umask(umask)
    names = [path, path.with_name("jobs.db-wal"), path.with_name("jobs.db-shm")]
    assert [stat.S_IMODE(name.stat().st_mode) for name in names] == [0o600] * 3
    assert sorted(path.parent.iterdir()) == sorted(names)


def test_nothing_is_made_before_the_first_use(path: Path) -> None:
    SqliteStorage(path)
    assert not path.exists()


def test_a_missing_folder_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot create the database"):
        SqliteStorage(tmp_path / "missing" / "jobs.db").stats()


def test_a_file_that_is_no_database_is_one_clear_error_and_stays_as_it_is(path: Path) -> None:
    path.write_text("a shopping list\n" * 100)
    with pytest.raises(StorageError, match="not a database"):
        SqliteStorage(path).stats()
    assert path.read_text() == "a shopping list\n" * 100


@pytest.mark.parametrize(("durability", "synchronous"), [("power", 2), ("process", 1)])
def test_durability_decides_how_much_is_synced(path: Path, durability: str, synchronous: int) -> None:
    storage = SqliteStorage(path, durability=durability)
    pragmas = storage._database.read(
        lambda db: [db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("synchronous", "journal_mode")]
    )
    assert pragmas == [synchronous, "wal"]
    storage.close()


# -- the schema


def test_a_schema_newer_than_the_code_is_refused_and_left_alone(path: Path, storage: SqliteStorage) -> None:
    storage.submit([new_job()])
    storage.close()
    with sqlite3.connect(path) as other:
        other.execute("INSERT INTO gigq_migrations VALUES (?, ?, 0)", (len(schema.MIGRATIONS) + 1,) * 2)
    other.close()
    before = path.read_bytes()
    with pytest.raises(SchemaTooNew, match="upgrade gigq"):
        SqliteStorage(path).submit([new_job()])
    assert path.read_bytes() == before


def test_states_are_stored_as_their_names_and_no_others_can_be(storage: SqliteStorage, path: Path) -> None:
    job = new_job()
    storage.submit([job])
    with sqlite3.connect(path) as other:
        assert other.execute("SELECT state FROM jobs").fetchall() == [("PENDING",)]
        with pytest.raises(sqlite3.IntegrityError):
            other.execute("UPDATE jobs SET state = 'DONE'")
    other.close()


def test_executions_have_the_columns_that_are_promised(storage: SqliteStorage) -> None:
    columns = storage._database.read(lambda db: {row[1] for row in db.execute("PRAGMA table_info(job_executions)")})
    assert {"job_id", "attempt", "worker", "state", "started_at", "finished_at", "error"} <= columns


@needs_fork
@pytest.mark.slow
def test_processes_that_make_the_database_together_all_succeed(tmp_path: Path) -> None:
    for round_number in range(5):
        path = tmp_path / f"{round_number}.db"
        gate, opener = os.pipe()
        children = []
        for _ in range(6):
            pid = os.fork()
            if pid == 0:
                try:
                    os.close(opener)
                    os.read(gate, 1)  # until the parent closes its end, for all at once
                    SqliteStorage(path, durability="process").submit([new_job()])
                    os._exit(0)
                except BaseException:
                    os._exit(1)
            children.append(pid)
        os.close(opener)
        codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children]
        os.close(gate)
        assert codes == [0] * 6
        storage = SqliteStorage(path)
        assert storage.stats()[JobState.PENDING] == 6
        versions = storage._database.read(lambda db: db.execute("SELECT version FROM gigq_migrations").fetchall())
        assert versions == [(number + 1,) for number in range(len(schema.MIGRATIONS))]
        storage.close()


# -- locks


@pytest.mark.slow
def test_a_lock_that_stays_is_a_typed_error_within_the_time_that_was_set(path: Path) -> None:
    storage = SqliteStorage(path, durability="process", busy_seconds=0.3)
    kept = new_job()
    storage.submit([kept])
    refused = new_job()
    with locked_by_another_program(path):
        started = time.monotonic()
        with pytest.raises(StorageBusy, match="nothing was stored: try again"):
            storage.submit([refused])
        assert time.monotonic() - started >= 0.3
        assert storage.get(kept.id).state is JobState.PENDING  # readers are not held up
    assert storage.states([refused.id]) == {}
    storage.submit([refused])
    storage.close()


def test_a_writer_that_waits_for_a_lock_goes_on_when_it_is_released(
    path: Path, storage: SqliteStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage.stats()
    waiting = threading.Event()
    sleep = connection._Patience.sleep

    def seen(patience: Any, error: sqlite3.Error) -> None:
        waiting.set()
        sleep(patience, error)

    monkeypatch.setattr(connection._Patience, "sleep", seen)
    job = new_job()
    thread = threading.Thread(target=storage.submit, args=([job],))
    with locked_by_another_program(path):
        thread.start()
        assert waiting.wait(10)
        assert storage.states([job.id]) == {}
    thread.join(10)
    assert storage.states([job.id]) == {job.id: JobState.PENDING}


def test_the_first_use_of_a_locked_database_waits_too(path: Path, storage: SqliteStorage) -> None:
    storage.stats()
    newcomer = SqliteStorage(path, durability="process", busy_seconds=0)
    with locked_by_another_program(path), pytest.raises(StorageBusy):
        newcomer.submit([new_job()])
    newcomer.submit([new_job()])
    newcomer.close()


def test_an_error_inside_a_transaction_rolls_all_of_it_back(storage: SqliteStorage) -> None:
    job = new_job()
    storage.submit([job])

    def work(db: sqlite3.Connection) -> None:
        db.execute("UPDATE jobs SET state = 'FAILED'")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        storage._database.write(work)
    assert storage.get(job.id).state is JobState.PENDING
    storage.cancel(job.id, "the connection is still good")


def test_sqlite_errors_do_not_leave_the_storage(storage: SqliteStorage) -> None:
    with pytest.raises(StorageError, match="no such table") as caught:
        storage._database.write(lambda db: db.execute("DELETE FROM no_table"))
    assert isinstance(caught.value.__cause__, sqlite3.OperationalError)


# -- threads


def test_a_thread_that_ends_closes_its_connection(storage: SqliteStorage) -> None:
    left: list[sqlite3.Connection] = []

    def work() -> None:
        storage.submit([new_job()])
        left.append(storage._database._handle().connection)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    gc.collect()
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        left[0].execute("SELECT 1")
    assert storage.stats()[JobState.PENDING] == 1


# -- forks

_when_forking: list[Callable[[], None]] = []  # os.register_at_fork cannot be undone
if hasattr(os, "register_at_fork"):
    # Registered after gigq's, and so called before it: these run in the reverse order.
    os.register_at_fork(before=lambda: [act() for act in _when_forking])


@needs_fork
def test_a_fork_waits_for_another_threads_transaction(storage: SqliteStorage) -> None:
    job, inside, go_on = new_job(), threading.Event(), threading.Event()
    storage.submit([job])

    def work(db: sqlite3.Connection) -> None:
        db.execute("UPDATE jobs SET priority = 7")
        inside.set()
        assert go_on.wait(10)

    thread = threading.Thread(target=storage._database.write, args=(work,))
    thread.start()
    assert inside.wait(10)

    def child() -> None:
        assert storage.get(job.id).priority == 7  # committed before the fork
        storage.cancel(job.id, "by the child")

    _when_forking.append(go_on.set)
    try:
        assert exit_code_of_fork(child) == 0
    finally:
        _when_forking.clear()
    thread.join(10)
    assert storage.get(job.id).error == "by the child"
    storage.submit([new_job()])


@needs_fork
def test_a_child_that_ends_leaves_its_parents_connection_alone(path: Path, storage: SqliteStorage) -> None:
    storage.submit([new_job()])
    inherited = storage._database._handle().connection

    def child() -> None:
        storage.submit([new_job()])
        assert storage._database._handle().connection is not inherited
        storage.close()

    assert exit_code_of_fork(child) == 0
    assert path.with_name("jobs.db-wal").exists()
    assert storage.stats()[JobState.PENDING] == 2
    with sqlite3.connect(path) as other:
        assert other.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    other.close()


@needs_fork
@pytest.mark.slow
def test_forks_while_other_threads_write_hang_nobody(storage: SqliteStorage) -> None:
    stop = threading.Event()
    written: list[str] = []

    def write() -> None:
        while not stop.is_set():
            job = new_job()
            storage.submit([job])
            written.append(job.id)

    threads = [threading.Thread(target=write) for _ in range(3)]
    for thread in threads:
        thread.start()
    codes = [exit_code_of_fork(lambda: storage.submit([new_job("child")])) for _ in range(30)]
    stop.set()
    for thread in threads:
        thread.join(10)
    assert codes == [0] * 30
    assert storage.stats()[JobState.PENDING] == len(written) + 30


@needs_fork
@pytest.mark.slow
def test_forks_while_other_threads_make_databases_fail_nowhere(path: Path) -> None:
    kept = [SqliteStorage(path) for _ in range(2000)]  # many, so that going through them takes a while
    stop = threading.Event()

    def make() -> None:
        while not stop.is_set():
            kept[random.randrange(2000)] = SqliteStorage(path)

    thread = threading.Thread(target=make)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    thread.start()
    try:
        codes = [exit_code_of_fork(lambda: None) for _ in range(20)]  # an error in a fork's hook fails the test
    finally:
        sys.setswitchinterval(interval)
        stop.set()
        thread.join(10)
    assert codes == [0] * 20
