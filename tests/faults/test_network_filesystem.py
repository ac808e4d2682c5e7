"""Databases on a network filesystem: found out, and used with a rollback journal by workers of several hosts."""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from workshop import Workshop, attempts, causes, until

from gigq import App, ConfigurationError, Job, JobQueue, JobState
from gigq.storage.sqlite import SqliteStorage, connection
from gigq.storage.sqlite.filesystem import filesystem_of, is_network
from gigq.testing.harness import new_job

COMPLETED, FAILED = JobState.COMPLETED, JobState.FAILED

LOCAL = "22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw\n"

BURST = """
import sys
from shop import add

first = int(sys.argv[1])
jobs = [add.delay(first, number) for number in range(50)]
for job in jobs:
    print(job.id)
assert [job.get(60) for job in jobs] == [first + number for number in range(50)]
"""


def mounts(folder: Path, *lines: str) -> Path:
    table = folder / "mountinfo"
    table.write_text(LOCAL + "".join(line + "\n" for line in lines))
    return table


def mount_line(point: Path | str, kind: str) -> str:
    return f"40 22 0:44 / {str(point).replace(' ', chr(92) + '040')} rw,relatime shared:2 - {kind} server:/export rw"


def pragma(storage: SqliteStorage, name: str) -> object:
    return storage._database.read(lambda db: db.execute(f"PRAGMA {name}").fetchone()[0])


@pytest.fixture
def on_nfs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is called a mounted NFS; a real one needs a server and root."""
    table = mounts(tmp_path, mount_line(tmp_path / "nfs", "nfs4"))
    monkeypatch.setattr(connection, "filesystem_of", lambda path: filesystem_of(path, table))
    (tmp_path / "nfs").mkdir()
    return tmp_path / "nfs"


@pytest.fixture(params=["wal", "delete"])
def made_with(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, Any]:
    path = tmp_path / "made.db"
    storage = SqliteStorage(path, journal=request.param)
    storage.submit([new_job("old")])
    storage.close()
    return path, request.param


# -- finding out (more of it is in tests/storage/test_sqlite_filesystem.py)


@pytest.mark.parametrize("kind", ["nfs", "nfs4", "cifs", "smb3", "9p", "fuse.sshfs", "fuse.glusterfs", "lustre"])
def test_fault_20_network_filesystems_are_found_by_the_table_of_mounts(tmp_path: Path, kind: str) -> None:
    table = mounts(tmp_path, mount_line(tmp_path / "net", kind), mount_line(tmp_path / "a b", kind))
    for folder in ("net", "net/deep/er", "a b"):
        assert is_network(filesystem_of(tmp_path / folder / "jobs.db", table))
    for folder in (".", "network", "a"):
        assert not is_network(filesystem_of(tmp_path / folder / "jobs.db", table))


# -- which journal


def test_fault_20_on_a_network_filesystem_a_rollback_journal_is_used_with_one_warning(
    on_nfs: Path, caplog: pytest.LogCaptureFixture
) -> None:
    storage = SqliteStorage(on_nfs / "jobs.db")
    with caplog.at_level(logging.WARNING, "gigq"):
        storage.submit([new_job()])
        storage.stats()
    assert pragma(storage, "journal_mode") == "delete"
    assert pragma(storage, "synchronous") == 3  # EXTRA: the deletion of the journal is the commit
    storage.close()
    (record,) = caplog.records
    for words in (str(on_nfs / "jobs.db"), "network filesystem (nfs4)", "rollback journal", "PostgreSQL"):
        assert words in record.getMessage()
    assert sorted(os.listdir(on_nfs)) == ["jobs.db"]


def test_fault_20_who_asks_for_the_journal_is_not_warned(on_nfs: Path, caplog: pytest.LogCaptureFixture) -> None:
    app = App(f"sqlite:///{on_nfs}/jobs.db?journal=delete")
    app.queue.submit(Job(function=print))
    app.queue.close()
    assert caplog.records == []


def test_fault_20_a_log_that_came_to_a_network_filesystem_is_folded_in(tmp_path: Path, on_nfs: Path) -> None:
    storage = SqliteStorage(tmp_path / "jobs.db", durability="process")
    storage.submit([new_job("local")])
    storage.close()
    (tmp_path / "jobs.db").rename(on_nfs / "jobs.db")
    storage = SqliteStorage(on_nfs / "jobs.db")
    assert [row.name for row in storage.find()] == ["local"]
    assert pragma(storage, "journal_mode") == "delete"
    storage.close()


def test_fault_20_a_local_file_keeps_the_journal_that_it_was_made_with(made_with: tuple[Path, Any]) -> None:
    path, journal = made_with
    storage = SqliteStorage(path)
    storage.submit([new_job("new")])
    assert pragma(storage, "journal_mode") == journal
    storage.close()


@pytest.mark.parametrize("wanted", ["wal", "delete"])
def test_fault_20_a_url_changes_the_journal(made_with: tuple[Path, Any], wanted: Any) -> None:
    path, _ = made_with
    queue = JobQueue(f"sqlite:///{path}?journal={wanted}")
    assert [job.name for job in queue.list()] == ["old"]
    queue.close()
    with closing(sqlite3.connect(path)) as other:
        assert other.execute("PRAGMA journal_mode").fetchone() == (wanted,)
    assert queue.url.endswith(f"made.db?journal={wanted}")


@pytest.mark.parametrize("query", ["journal=off", "journal=delete&x=1", "mode=ro", "journal"])
def test_fault_20_other_wishes_in_a_url_are_refused(query: str) -> None:
    with pytest.raises(ConfigurationError, match=r"only shared=yes, journal=delete, journal=wal are known"):
        App(f"sqlite:///jobs.db?{query}")


# -- several hosts


@pytest.fixture
def shared_folder(tmp_path: Path) -> Iterator[Workshop]:
    workshop = Workshop(tmp_path, url=f"sqlite:///{tmp_path}/jobs.db?journal=delete")
    yield workshop
    workshop.close()


@pytest.mark.slow
def test_fault_20_workers_of_two_hosts_on_one_file_run_each_job_once(shared_folder: Workshop) -> None:
    workshop = shared_folder
    here = workshop.work(concurrency=1, scaled=True)
    there = workshop.work(concurrency=1, program=("elsewhere.py",))
    assert len({worker.host for worker in workshop.queue.workers()}) == 2
    (workshop.folder / "burst.py").write_text(BURST)
    callers = [workshop.start("burst.py", str(1000 * number), log="caller") for number in range(2)]
    for caller in callers:
        assert caller.wait(100) == 0, caller.log
    acknowledged = {line for caller in callers for line in caller.log.split()}
    jobs = workshop.queue.list(limit=1000)
    assert {job.id for job in jobs} == acknowledged
    assert {tuple(attempts(job)) for job in jobs} == {(COMPLETED,)}
    assert len(workshop.lines("add")) == 100
    ran = {job.executions[0].worker for job in jobs}
    assert len(ran) == 2
    for worker in (here, there):
        assert worker.poll() is None
        assert "took back" not in worker.log
        assert "fenced" not in worker.log
    assert not workshop.path.with_name("jobs.db-wal").exists()


@pytest.mark.slow
def test_fault_20_a_dead_worker_of_another_host_is_rescued_after_its_lease_and_not_before(
    shared_folder: Workshop,
) -> None:
    workshop = shared_folder
    shop = workshop.load("shop")
    there = workshop.work(concurrency=1, program=("elsewhere.py",))
    job = shop.hold.delay("never")
    workshop.pid_of("begin", "never")
    here = workshop.work(concurrency=1, scaled=True)
    there.kill()
    there.wait(10)
    assert job.get(20) == "second"
    assert attempts(job) == [FAILED, COMPLETED]
    assert "gave no sign of life for 1 s" in causes(job)[0]
    until(lambda: "took back 1 jobs" in here.log)
