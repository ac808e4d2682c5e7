"""`gigq backup`: a whole copy of a database that others write at the same time."""

from __future__ import annotations

import multiprocessing
import os
import sqlite3
import stat
from contextlib import closing
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from gigq import Job, JobQueue, JobState, StorageError, Worker
from gigq.cli import main
from gigq.storage.leases import ClaimRequest
from gigq.storage.rows import BY_VALUE, WorkerRow
from gigq.storage.sqlite import backup
from gigq.storage.sqlite.consistency import inconsistencies


def back_up(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["backup", *map(str, arguments)])


def test_the_copy_is_one_private_file_with_every_job(queue: JobQueue, tmp_path: Path) -> None:
    jobs = [queue.submit(Job(str(number), print, args=[number])) for number in range(20)]
    target = tmp_path / "copy.db"
    before = os.umask(0)
    try:
        result = back_up(queue.url, target)
    finally:
        os.umask(before)
    assert (result.exit_code, result.output[:8]) == (0, "20 jobs,")
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert sorted(name.name for name in tmp_path.iterdir()) == ["copy.db", "jobs.db", "jobs.db-shm", "jobs.db-wal"]
    with closing(sqlite3.connect(f"{target.as_uri()}?mode=ro", uri=True)) as db:
        assert db.execute("PRAGMA journal_mode").fetchone() == ("delete",)
    copy = JobQueue(target)
    assert {job.id for job in copy.list()} == {job.id for job in jobs}
    Worker(copy, pool="inline", burst=True).run()
    assert copy.stats()[JobState.COMPLETED] == 20
    assert queue.stats()[JobState.PENDING] == 20
    copy.close()


def test_beside_a_database_that_nobody_has_open_nothing_is_left(queue: JobQueue, tmp_path: Path) -> None:
    queue.submit(Job("one", print))
    queue.close()
    assert back_up(tmp_path / "jobs.db", tmp_path / "copy.db").exit_code == 0
    assert sorted(name.name for name in tmp_path.iterdir()) == ["copy.db", "jobs.db"]


def test_nothing_is_overwritten(queue: JobQueue, tmp_path: Path) -> None:
    queue.submit(Job("one", print))
    target = tmp_path / "copy.db"
    target.write_text("precious")
    result = back_up(queue.url, target)
    assert (result.exit_code, result.output.count("\n")) == (1, 1)
    assert "exists, and a backup overwrites nothing" in result.output
    assert target.read_text() == "precious"
    link = tmp_path / "link.db"
    link.symlink_to(tmp_path / "elsewhere")
    assert back_up(queue.url, link).exit_code == 1
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("what", ["damaged", "empty", "no database", "interrupted"])
def test_a_failure_leaves_no_file(queue: JobQueue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    source, target = tmp_path / "jobs.db", tmp_path / "copies" / "copy.db"
    target.parent.mkdir()
    queue.submit(Job("one", print))
    queue.close()
    expected: type[BaseException] = StorageError
    if what == "damaged":
        data = bytearray(source.read_bytes())
        data[4096] ^= 255
        source.write_bytes(data)
    elif what == "empty":
        source = tmp_path / "empty.db"
        source.touch()
    elif what == "no database":
        source.write_text("a shopping list\n" * 100)
    else:
        expected = KeyboardInterrupt

        def interrupt(path: Path) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(backup, "_sync", interrupt)
    with pytest.raises(expected):
        backup.back_up(source, target)
    assert list(target.parent.iterdir()) == []


def test_a_folder_that_does_not_exist_is_one_clear_line(queue: JobQueue, tmp_path: Path) -> None:
    queue.submit(Job("one", print))
    result = back_up(queue.url, tmp_path / "none" / "copy.db")
    assert (result.exit_code, result.output.count("\n")) == (1, 1)
    assert "cannot write the backup" in result.output


def write(url: str, acknowledged: Connection) -> None:
    queue = JobQueue(url, durability="process")
    while True:
        parent = Job("parent", print)
        queue.submit(parent.then(print))
        acknowledged.send(parent.id)


@pytest.mark.slow
def test_what_was_committed_before_it_began_is_in_it(queue: JobQueue, tmp_path: Path) -> None:
    queue.stats()
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    writers = [context.Process(target=write, args=(queue.url, sender)) for _ in range(2)]
    for writer in writers:
        writer.start()
    acknowledged: set[str] = set()
    try:
        for number in range(5):
            while len(acknowledged) < 100 * (number + 1) or receiver.poll():
                assert receiver.poll(30)
                acknowledged.add(receiver.recv())
                if len(acknowledged) > 100 * (number + 2):  # the writers are faster than this loop
                    break
            target = tmp_path / f"{number}.db"
            copied = backup.back_up(tmp_path / "jobs.db", target)
            with closing(sqlite3.connect(target)) as db:
                assert acknowledged <= {job_id for (job_id,) in db.execute("SELECT id FROM jobs")}
                assert db.execute("SELECT count(*) FROM jobs").fetchone() == (copied.jobs,)
                assert copied.jobs % 2 == 0  # each transaction stored two
                assert list(inconsistencies(db)) == []
    finally:
        for writer in writers:
            writer.kill()
            writer.join()


def test_a_running_job_is_rescued_in_the_copy_and_stays_with_its_worker_in_the_original(
    queue: JobQueue, tmp_path: Path
) -> None:
    job = queue.submit(Job("one", print))
    row = WorkerRow("w1", "night", "here", "gone", 1, 1, "process", 1, None, (BY_VALUE,), None, 0.0)
    queue.storage.register(row)
    queue.storage.claim(ClaimRequest("w1", 1, [BY_VALUE]))
    assert back_up(queue.url, tmp_path / "copy.db").exit_code == 0
    copy = JobQueue(tmp_path / "copy.db")
    assert copy.get(job.id).state is JobState.RUNNING
    copy.storage.rescue("w1", "gave no sign of life")
    assert (copy.get(job.id).state, job.state) == (JobState.PENDING, JobState.RUNNING)
    copy.close()
