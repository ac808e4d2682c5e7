"""Tasks that die, hang or break what is around them, in one worker that lives through all of it.

More of each kind, against the pool of processes alone, is in tests/worker/test_process_deaths.py. Fault 10, a job that
kills its child each time, is in tests/worker/test_worker_runs.py.
"""

from __future__ import annotations

import signal
import time
from typing import Any

import pytest
from workshop import Workshop, attempts, causes, is_running, until

from gigq import JobFailed, JobState, JobTimedOut

pytestmark = pytest.mark.slow  # each starts a worker, or shares one with its neighbours

COMPLETED, FAILED, TIMEOUT = JobState.COMPLETED, JobState.FAILED, JobState.TIMEOUT

HOSTILE = [
    ("os_exit", "exited with status 3 (the task called os._exit?)"),
    ("sys_exit", "SystemExit: bye"),
    ("exit_subclass", "MyExit: 4"),
    ("keyboard_interrupt", "KeyboardInterrupt"),
    ("real_interrupt", "KeyboardInterrupt"),
    ("segfault", "killed by signal 11 (SIGSEGV)"),
    ("abort", "killed by signal 6 (SIGABRT)"),
    ("recurse", "RecursionError: maximum recursion depth exceeded"),
    ("kill_itself", "killed by signal 9 (SIGKILL)"),
]
WITH_DESCRIPTORS = [
    ("close_everything", "the task closed gigq's descriptors, so its outcome could not be reported"),
    ("write_rubbish", "the task wrote to gigq's channel"),
]


@pytest.fixture(scope="module")
def hostile(shared: Workshop) -> Any:
    """The module with the tasks, as the submitting program imports it."""
    return shared.load("hostile")


def check_two_attempts_fail(hostile: Any, name: str, cause: str) -> None:
    before, job, after = hostile.add.map(range(20)), getattr(hostile, name).delay(), hostile.add.map(range(20))
    with pytest.raises(JobFailed) as failed:
        job.get(20)
    assert cause in str(failed.value)
    assert (job.state, job.attempts, attempts(job)) == (FAILED, 2, [FAILED, FAILED])
    for stored in causes(job):
        assert cause.split(": ")[0] in stored
    for neighbours in (before, after):
        assert neighbours.get(10) == list(range(20))
        assert {tuple(attempts(neighbour)) for neighbour in neighbours} == {(COMPLETED,)}


@pytest.mark.parametrize(("name", "cause"), HOSTILE)
def test_fault_34_a_task_that_leaves_its_process_fails_with_the_cause(hostile: Any, name: str, cause: str) -> None:
    check_two_attempts_fail(hostile, name, cause)


@pytest.mark.parametrize(("name", "cause"), WITH_DESCRIPTORS)
def test_fault_36_a_task_that_breaks_descriptors_fails_alone(hostile: Any, name: str, cause: str) -> None:
    check_two_attempts_fail(hostile, name, cause)


def test_fault_35_whatever_blocks_is_stopped_at_its_deadline_with_all_that_it_started(workshop: Workshop) -> None:
    hostile = workshop.load("hostile")
    worker = workshop.work("hostile:app", concurrency=4)
    hold = hostile.hold.options(timeout=0.3, max_attempts=1)
    jobs = {
        "spin": hold.delay("spin", "spin"),
        "c": hold.delay("c", "c"),
        "grandchild": hold.delay("grandchild", "grandchild"),
        "ignores": hostile.ignore_term.options(timeout=0.3).delay("ignores"),
    }
    began = time.monotonic()
    for job in jobs.values():
        with pytest.raises(JobTimedOut):
            job.get(10)
        assert attempts(job) == [TIMEOUT]
    assert time.monotonic() - began < 4.0  # 0.3 s, 2 s of grace for what no exception stops
    grandchild = int(workshop.lines("grandchild")[0][1])
    until(lambda: not is_running(grandchild), 1)
    assert hostile.add.delay(1).get(10) == 1
    assert worker.poll() is None


def test_fault_35_what_tasks_left_behind_ends_with_their_worker(workshop: Workshop) -> None:
    hostile = workshop.load("hostile")
    worker = workshop.work("hostile:app", concurrency=2)
    jobs = [hostile.leave_behind.delay() for _ in range(4)]
    assert [job.get(20) for job in jobs] == [None] * 4
    left = [int(line[1]) for line in workshop.lines("left")]
    assert all(map(is_running, left))
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(5) == 0
    until(lambda: not workshop.processes(), 1)
