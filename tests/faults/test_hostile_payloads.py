"""Arguments, results and exceptions that do not pickle or unpickle, or that do something else when they do.

Objects that must be unpickled by nobody but a child are in test_payload_bombs.py.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from typing import Any

import pytest
from workshop import Workshop, attempts, causes

from gigq import App, Job, JobFailed, JobState, JobTimedOut, PayloadError, Workflow

pytestmark = pytest.mark.slow  # each starts a worker, or shares one with its neighbours

COMPLETED, FAILED, PENDING, TIMEOUT = JobState.COMPLETED, JobState.FAILED, JobState.PENDING, JobState.TIMEOUT


@pytest.fixture(scope="module")
def hostile(shared: Workshop) -> Any:
    """The module with the tasks, as the submitting program imports it."""
    return shared.load("hostile")


def submit_argument(hostile: Any, shared: Workshop, lock: Any) -> None:
    hostile.echo.delay({"deep": [lock]})


def submit_closure(hostile: Any, shared: Workshop, lock: Any) -> None:
    shared.queue.submit(Job(function=lambda: lock))


def submit_map(hostile: Any, shared: Workshop, lock: Any) -> None:
    hostile.echo.map([1, 2, lock])


def submit_workflow(hostile: Any, shared: Workshop, lock: Any) -> None:
    workflow = Workflow("half")
    first = workflow.add_job(Job("first", print))
    workflow.add_job(Job("second", print, args=[lock]), depends_on=[first])
    workflow.submit_all(shared.queue)


@pytest.mark.parametrize("submit", [submit_argument, submit_closure, submit_map, submit_workflow])
def test_fault_26_what_cannot_be_pickled_is_refused_when_it_is_submitted(
    shared: Workshop, hostile: Any, submit: Any
) -> None:
    before = shared.queue.stats()
    with pytest.raises(PayloadError, match=r"must be picklable, got .*lock"):
        submit(hostile, shared, threading.Lock())
    assert shared.queue.stats() == before
    assert hostile.add.delay(1).get(10) == 1


def test_fault_27_a_result_that_cannot_be_pickled_fails_and_is_not_run_again(shared: Workshop, hostile: Any) -> None:
    job = hostile.unpicklable.delay()
    with pytest.raises(JobFailed, match=r"the result must be picklable, got a value: .*lock") as failed:
        job.get(10)
    assert failed.value.type == "PayloadError"
    assert (job.max_attempts, job.attempts, attempts(job)) == (3, 1, [FAILED])
    assert len(shared.lines("unpicklable")) == 1


def test_fault_28_an_exception_that_does_not_unpickle_is_kept_as_text(hostile: Any) -> None:
    job = hostile.needs_two.delay()
    with pytest.raises(JobFailed) as failed:
        job.get(10)
    assert (failed.value.type, failed.value.message) == ("NeedsTwo", "first")
    assert 'raise NeedsTwo("first", "second")' in failed.value.traceback
    assert attempts(job) == [FAILED, FAILED]


@pytest.mark.parametrize(
    ("call", "cause"),
    [
        ((os._exit, 5), "exited with status 5 (the task called os._exit?)"),
        ((sys.exit, "bye"), "SystemExit: bye"),
        ((os.abort,), "killed by signal 6 (SIGABRT)"),
    ],
    ids=["os._exit", "sys.exit", "abort"],
)
def test_fault_31_unpickling_that_exits_ends_a_child_and_no_more(hostile: Any, call: Any, cause: str) -> None:
    job = hostile.echo.options(max_attempts=2, retry_delay=0).delay(hostile.Loads(*call))
    beside = hostile.add.map(range(20))
    with pytest.raises(JobFailed) as failed:
        job.get(10)
    assert cause in str(failed.value)
    assert attempts(job) == [FAILED, FAILED]
    assert {tuple(attempts(other)) for other in beside if other.wait(10)} == {(COMPLETED,)}


@pytest.mark.parametrize("by_value", [False, True])
def test_fault_31_unpickling_that_sleeps_is_under_the_timeout(hostile: Any, shared: Workshop, by_value: bool) -> None:
    sleeper = hostile.Loads(time.sleep, 30)
    began = time.monotonic()
    if by_value:
        job: Job[Any] = shared.queue.submit(Job(function=print, args=[sleeper], timeout=0.3))
    else:
        job = hostile.echo.options(timeout=0.3).delay(sleeper)
    with pytest.raises(JobTimedOut):
        job.get(10)
    assert time.monotonic() - began < 2
    assert attempts(job) == [TIMEOUT]


def test_fault_32_a_task_that_is_unknown_waits_untouched_for_a_worker_that_knows_it(workshop: Workshop) -> None:
    hostile = workshop.load("hostile")
    ignorant = workshop.work("shop:app")
    job, known = hostile.os_exit.delay(), hostile.add.delay(1)
    assert known.get(10) == 1
    assert (job.state, job.attempts, job.executions) == (PENDING, 0, [])
    assert job.waiting_for == "a worker that knows task 'hostile.os_exit': none of the 1 running for this queue does"
    workshop.work("hostile:app")
    with pytest.raises(JobFailed, match="status 3"):
        job.get(10)
    assert ignorant.poll() is None


def test_fault_32_a_changed_signature_fails_with_what_was_expected_and_what_came(
    shared: Workshop, hostile: Any
) -> None:
    yesterday = App(shared.queue.url, name="shop")

    @yesterday.task(name="shop.hold")
    def hold(name: str, how: str, colour: str) -> None: ...

    job = hold.delay("door", "python", colour="red")
    with pytest.raises(JobFailed) as failed:
        job.get(10)
    assert failed.value.message == (
        "the arguments do not fit: got an unexpected keyword argument 'colour'; "
        "expected hold(name: str, how: str = 'python') -> str, got ('door', 'python', colour='red')"
    )
    assert attempts(job) == [FAILED]
    assert "TypeError" in causes(job)[0]
    assert hostile.add.delay(1).get(10) == 1
    yesterday.queue.close()
