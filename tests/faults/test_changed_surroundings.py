"""Tasks that change the process around them, and those that use up its memory: the next job runs as if nothing were."""

from __future__ import annotations

import os
import stat
import time
from typing import Any

import pytest
from workshop import Workshop, attempts, causes, until

from gigq import JobFailed, JobState, JobTimedOut

pytestmark = pytest.mark.slow  # each starts a worker

COMPLETED, FAILED, TIMEOUT = JobState.COMPLETED, JobState.FAILED, JobState.TIMEOUT


def test_fault_37_after_a_task_that_changed_everything_its_child_goes_on(workshop: Workshop) -> None:
    hostile = workshop.load("hostile")
    worker = workshop.work("hostile:app", concurrency=1)
    child = hostile.change_everything.delay().get(20)
    big = b"x" * 300_000  # read from the database by the child, whose folder and umask are others now
    first = hostile.echo.delay(big)
    jobs = [first, first.then(len), *hostile.add.map(range(20)), hostile.fail.delay()]
    assert jobs[1].get(20) == len(big)
    for job in jobs:
        job.wait(20)
    assert {attempt.pid for job in jobs for attempt in job.executions} == {child}
    assert attempts(jobs[-1]) == [FAILED, FAILED]
    for name in ("jobs.db", "jobs.db-wal", "jobs.db-shm"):
        assert stat.S_IMODE((workshop.folder / name).stat().st_mode) == 0o600
    assert worker.poll() is None


def test_fault_37_a_deadline_still_ends_a_job_whose_child_ignores_all_signals(workshop: Workshop) -> None:
    hostile = workshop.load("hostile")
    workshop.work("hostile:app", concurrency=1)
    hostile.change_everything.delay().get(20)
    began = time.monotonic()
    job = hostile.hold.options(timeout=0.3, max_attempts=1).delay("never")
    with pytest.raises(JobTimedOut):
        job.get(10)
    assert time.monotonic() - began < 2  # by the exception; a kill comes 2 s after the deadline
    assert attempts(job) == [TIMEOUT]
    assert hostile.add.delay(1).get(10) == 1


def test_fault_38_running_out_of_memory_is_one_failed_attempt(workshop: Workshop) -> None:
    hostile = workshop.load("hostile")
    workshop.work("hostile:app", concurrency=1)
    job = hostile.run_out_of_memory.delay()
    with pytest.raises(JobFailed) as failed:
        job.get(20)
    assert failed.value.type == "MemoryError"
    assert attempts(job) == [FAILED]
    after = hostile.add.delay(1)
    assert after.get(10) == 1
    assert after.executions[0].pid == job.executions[0].pid


@pytest.mark.parametrize("is_counted", [False, True])
def test_fault_38_signal_9_is_called_want_of_memory_only_where_the_kernel_counted_one(
    workshop: Workshop, is_counted: bool
) -> None:
    hostile: Any = workshop.load("hostile")
    events = workshop.folder / "memory.events"
    events.write_text("oom 0\noom_kill 3\n")
    worker = workshop.work("hostile:app", concurrency=1, program=("counted.py",))
    job = hostile.hold.options(max_attempts=1).delay("never")
    child = workshop.pid_of("begin", "never")
    if is_counted:
        events.write_text("oom 1\noom_kill 4\n")
    os.kill(child, 9)
    until(lambda: job.state is FAILED)
    (cause,) = causes(job)
    assert "killed by signal 9 (SIGKILL)" in cause
    assert ("out of memory" in cause) is is_counted
    assert worker.poll() is None
