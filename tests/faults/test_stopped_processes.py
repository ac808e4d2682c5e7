"""Processes that stand still and go on: children past their deadline, supervisors past their lease.

A plainer form of fault 5, with a rescue by hand, is in tests/worker/test_worker_runs.py.
"""

from __future__ import annotations

import os
import signal
import time

import pytest
from workshop import Workshop, attempts, causes, is_running, state_of, until

from gigq import JobState, JobTimedOut

pytestmark = pytest.mark.slow  # each starts a worker, or shares one with its neighbours

COMPLETED, FAILED, RUNNING, TIMEOUT = JobState.COMPLETED, JobState.FAILED, JobState.RUNNING, JobState.TIMEOUT


def test_fault_05_a_supervisor_that_wakes_after_its_lease_changes_nothing_and_works_on(workshop: Workshop) -> None:
    shop = workshop.load("shop")
    stopped = workshop.work(concurrency=1, scaled=True)
    job = shop.hold.delay("go")
    child = workshop.pid_of("begin", "go")
    workshop.stop(stopped)
    workshop.let_go("go")  # the child, which is not stopped, writes its result to a supervisor that does not read
    assert workshop.pid_of("end", "go") == child
    other = workshop.work(concurrency=1, scaled=True)
    assert job.get(10) == "second"
    assert "gave no sign of life for 1 s" in causes(job)[0]
    stopped.send_signal(signal.SIGCONT)
    until(lambda: "fenced: job " + job.id in stopped.log, 5)
    assert attempts(job) == [FAILED, COMPLETED]
    assert job.get(1) == "second"

    until(lambda: "registers again" in stopped.log, 5)
    other.send_signal(signal.SIGTERM)
    assert other.wait(10) == 0
    assert shop.add.delay(1).get(10) == 1
    assert [row.pid for row in workshop.queue.workers()] == [stopped.pid]


def test_fault_06_a_stopped_child_is_killed_at_its_deadline_and_delays_nobody(workshop: Workshop) -> None:
    shop = workshop.load("shop")
    workshop.work(concurrency=2)
    until(lambda: shop.add.delay(0).get(20) == 0)
    job = shop.hold.options(timeout=0.5).delay("never")
    child = workshop.pid_of("begin", "never")
    began = time.monotonic()
    os.kill(child, signal.SIGSTOP)
    until(lambda: state_of(child) == "T")
    others = shop.add.map(range(100))
    assert others.get(10) == list(range(100))
    assert time.monotonic() - began < 1.0  # long before the stopped child is dead
    assert job.state is RUNNING
    with pytest.raises(JobTimedOut, match=r"ran longer than its timeout of 0\.5 s"):
        job.get(10)
    assert 2.4 < time.monotonic() - began < 4.0  # its deadline, then 2 s of grace
    assert attempts(job) == [TIMEOUT]
    assert not is_running(child)
    assert {attempt.pid for other in others for attempt in other.executions}.isdisjoint({child})
