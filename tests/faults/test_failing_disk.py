"""A disk that fails: what was not synced is not acknowledged, and the error surfaces."""

from __future__ import annotations

import errno
import signal

import pytest
from apps.broken_disk import IS_POSSIBLE
from workshop import Worker, Workshop, attempts, causes, until

from gigq import JobNotFound, JobState

pytestmark = [
    pytest.mark.slow,  # each starts processes
    pytest.mark.skipif(not IS_POSSIBLE, reason="no filter of system calls (seccomp) is known for this system"),
]

COMPLETED, FAILED, RUNNING = JobState.COMPLETED, JobState.FAILED, JobState.RUNNING

SUBMIT_TWICE = """
import sys, broken_disk
from gigq import GigQError
from shop import add, app

first = add.delay(1)
commits = []
handle = app.queue.storage._database._handle()
handle.connection.set_trace_callback(lambda sql: sql == "COMMIT" and commits.append(sql))
broken_disk.fail(int(sys.argv[1]), *sys.argv[2:])
second = add.job(2)
try:
    app.queue.submit(second)
except GigQError as error:
    print(first.id, second.id, len(commits), type(error).__name__, error)
"""


def submit_twice(workshop: Workshop, error: int, *calls: str) -> list[str]:
    """Submit a job, and another one when the disk has failed; return both ids, the commits tried, and the error."""
    (workshop.folder / "submit.py").write_text(SUBMIT_TWICE)
    return workshop.run("submit.py", str(error), *calls).split(maxsplit=4)


def start_worker_that_breaks(workshop: Workshop, error: int, *calls: str) -> Worker:
    workshop.environment["GIGQ_TEST_BREAK"] = " ".join([str(error), *calls])
    return workshop.work(concurrency=1, program=("broken_disk.py",))


def test_fault_13_a_submission_that_was_not_synced_is_not_acknowledged_and_not_tried_again(workshop: Workshop) -> None:
    first, second, commits, kind, message = submit_twice(workshop, errno.EIO, "fdatasync", "fsync")
    assert (commits, kind) == ("1", "OutcomeUnknown")
    assert f"committing to {workshop.path} failed" in message
    assert "SQLITE_IOERR_FSYNC" in message
    assert workshop.queue.get(first).state is JobState.PENDING
    # The next process recovers the log, in which the kernel has kept what it did not sync: hence "not known".
    assert {job.id for job in workshop.queue.list()} in ({first}, {first, second})


@pytest.mark.parametrize(
    ("error", "name"), [(errno.EIO, "SQLITE_IOERR_WRITE"), (errno.ENOSPC, "SQLITE_FULL")], ids=["13-eio", "14-enospc"]
)
def test_fault_13_14_a_commit_whose_write_failed_stored_nothing_and_says_so(
    workshop: Workshop, error: int, name: str
) -> None:
    first, second, commits, kind, message = submit_twice(workshop, error, "pwrite64")
    assert (commits, kind) == ("1", "StorageError")  # it was COMMIT that failed
    assert name in message
    assert "nothing was stored" in message
    assert workshop.queue.get(first).state is JobState.PENDING
    with pytest.raises(JobNotFound):
        workshop.queue.get(second)


def test_fault_13_a_worker_that_cannot_sync_ends_and_others_take_its_job(workshop: Workshop) -> None:
    shop = workshop.load("shop")
    worker = start_worker_that_breaks(workshop, errno.EIO, "fdatasync", "fsync")
    job = shop.hold.delay("go")
    workshop.pid_of("begin", "go")
    worker.send_signal(signal.SIGUSR1)
    workshop.let_go("go")
    assert worker.wait(20) == 2
    assert f"gigq: committing to {workshop.path} failed" in worker.log
    assert "the database refuses" not in worker.log
    workshop.work(concurrency=1)
    assert job.get(10) in ("first", "second")  # the kernel may have written the end before it said that it could not
    assert attempts(job) in ([COMPLETED], [FAILED, COMPLETED])


def test_fault_13_a_worker_whose_writes_fail_acknowledges_nothing_and_says_so(workshop: Workshop) -> None:
    shop = workshop.load("shop")
    worker = start_worker_that_breaks(workshop, errno.EIO, "pwrite64")
    job = shop.hold.delay("go")
    workshop.pid_of("begin", "go")
    worker.send_signal(signal.SIGUSR1)
    workshop.let_go("go")
    until(lambda: "the database refuses, trying again" in worker.log)
    assert "SQLITE_IOERR_WRITE" in worker.log
    assert (worker.poll(), job.state) == (None, RUNNING)
    worker.kill()
    worker.wait(10)
    workshop.work(concurrency=1)
    assert job.get(10) == "second"
    assert attempts(job) == [FAILED, COMPLETED]
    assert "is gone" in causes(job)[0]
