"""No room left, a limit of file sizes, and files that must not be written: clear errors, and workers that wait."""

from __future__ import annotations

import os
import resource
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from workshop import Worker, Workshop, attempts, until

from gigq import Job, JobNotFound, JobState, StorageError

pytestmark = pytest.mark.slow  # each starts processes

COMPLETED, PENDING, RUNNING = JobState.COMPLETED, JobState.PENDING, JobState.RUNNING

DISK_BYTES = 2 * 1024 * 1024

SUBMIT_PAST_THE_LIMIT = """
import resource
from pathlib import Path
from gigq import GigQError
from shop import add, app

path = Path(app.queue.storage.path)
jobs = [add.delay(0)]
size = path.with_name(path.name + "-wal").stat().st_size
resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
refused = add.job(1)
try:
    app.queue.submit(refused)
except GigQError as error:
    print(type(error).__name__, error)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
assert app.queue.stats()["PENDING"] == 1
app.queue.submit(refused)
"""


@contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    """Mount a filesystem of DISK_BYTES in memory."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no mount command; the test with RLIMIT_FSIZE needs none")
    if done.returncode != 0:
        pytest.skip(
            f"only root may mount a small disk; the test with RLIMIT_FSIZE needs no root ({done.stderr.strip()})"
        )
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def fill(folder: Path) -> None:
    """Use up every byte that is left."""
    with open(folder / "ballast", "ab", buffering=0) as ballast:
        for size in (65536, 4096, 1):
            while True:
                try:
                    ballast.write(b"x" * size)
                except OSError:
                    break


def submit_until_refused(shop: Any) -> tuple[list[Job[int]], StorageError, str]:
    """Submit jobs one by one; return those that were taken, the first error, and the id of the job it was about."""
    taken: list[Job[int]] = []
    for number in range(5_000):
        job = shop.add.job(number)
        try:
            taken.append(shop.app.queue.submit(job))
        except StorageError as error:
            return taken, error, job.id
    raise AssertionError("the disk took 5,000 jobs")


def check_it_waits_and_goes_on(worker: Worker, job: Job[Any], taken: list[Job[int]]) -> None:
    assert job.get(20) == "first"
    assert [other.get(20) for other in taken] == list(range(len(taken)))
    assert {tuple(attempts(other)) for other in [job, *taken]} == {(COMPLETED,)}
    assert "the database takes writes again, after" in worker.log
    assert worker.poll() is None


def test_fault_14_on_a_full_disk_submitters_get_an_error_and_workers_wait_for_room(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    with small_disk(disk):
        workshop = Workshop(tmp_path, url=str(disk / "jobs.db"))
        try:
            shop = workshop.load("shop")
            worker = workshop.work(concurrency=1)
            job = shop.hold.delay("go")
            workshop.pid_of("begin", "go")
            fill(disk)
            taken, error, refused = submit_until_refused(shop)
            fill(disk)
            for words in ("database or disk is full (SQLITE_FULL)", " bytes are free", "nothing was stored"):
                assert words in str(error)
            with pytest.raises(JobNotFound):
                workshop.queue.get(refused)
            workshop.let_go("go")
            until(lambda: workshop.lines("end", "go"))
            until(lambda: "the database refuses, trying again" in worker.log)
            assert (job.state, worker.poll()) == (RUNNING, None)
            (disk / "ballast").unlink()
            check_it_waits_and_goes_on(worker, job, taken)
        finally:
            (disk / "ballast").unlink(missing_ok=True)
            workshop.close()


def test_fault_15_past_the_limit_of_file_sizes_a_submitter_gets_an_error_and_nothing_is_stored(
    workshop: Workshop,
) -> None:
    (workshop.folder / "submit.py").write_text(SUBMIT_PAST_THE_LIMIT)
    said = workshop.run("submit.py")
    assert said.startswith("StorageError ")
    for words in ("SQLITE_IOERR_WRITE", "RLIMIT_FSIZE", "nothing was stored"):
        assert words in said
    assert workshop.queue.stats()[PENDING] == 2  # the limit was raised, and the same job submitted again


def test_fault_15_past_the_limit_of_file_sizes_a_worker_waits_till_it_is_raised(workshop: Workshop) -> None:
    shop = workshop.load("shop")
    worker = workshop.work(concurrency=1)
    job = shop.hold.delay("go")
    workshop.pid_of("begin", "go")
    size = workshop.path.with_name("jobs.db-wal").stat().st_size
    resource.prlimit(worker.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
    workshop.let_go("go")
    until(lambda: "the database refuses, trying again" in worker.log)
    assert "RLIMIT_FSIZE" in worker.log
    assert (job.state, worker.poll()) == (RUNNING, None)
    resource.prlimit(worker.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    check_it_waits_and_goes_on(worker, job, [])


@contextmanager
def read_only(path: Path) -> Iterator[None]:
    mode = path.stat().st_mode
    path.chmod(mode & 0o555)
    try:
        yield
    finally:
        path.chmod(mode)


@pytest.mark.parametrize("what", ["file", "folder"])
def test_fault_16_what_must_not_be_written_is_one_clear_error_for_everybody(tmp_path: Path, what: str) -> None:
    (tmp_path / "data").mkdir()
    workshop = Workshop(tmp_path, url=str(tmp_path / "data" / "jobs.db"))
    try:
        job = workshop.load("shop").add.delay(1)
        for queue in workshop._opened:
            queue.close()  # the log beside the database is gone then
        commands = {
            "submit": ("-c", "from shop import add; add.delay(2)"),
            "worker": ("-m", "gigq", "worker", "shop:app"),
            "prune": ("-m", "gigq", "prune", "--older-than", "1s"),
        }
        if what == "folder":  # where the log cannot be made; a file that cannot be written can still be looked at
            commands["stats"] = ("-m", "gigq", "stats")
        expected = {
            "folder": f"the folder must be writable for user {os.geteuid()}",
            "file": f"the file must be readable and writable for user {os.geteuid()}",
        }
        with read_only(workshop.path if what == "file" else workshop.path.parent):
            for name, command in commands.items():
                done = workshop.try_to_run("unprivileged.py", *command)
                *lines, last = done.stderr.splitlines()
                assert done.returncode != 0
                assert expected[what] in last
                assert str(workshop.path) in last
                assert lines == [] or name == "submit"  # where Python itself shows the exception
        assert job.state is PENDING
    finally:
        workshop.close()
