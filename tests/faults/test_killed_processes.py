"""Processes that die by SIGKILL: children, supervisors, and process ids that come back.

Faults 9 and 10 are in tests/worker/test_worker_runs.py, as are plain forms of 1 and 2.
"""

from __future__ import annotations

import os
import select
import signal
import sqlite3
import time
from contextlib import closing

import pytest
from workshop import Worker, Workshop, attempts, causes, is_running, state_of, until

from gigq import JobState

pytestmark = pytest.mark.slow  # each starts a worker, or shares one with its neighbours

COMPLETED, FAILED, RUNNING = JobState.COMPLETED, JobState.FAILED, JobState.RUNNING


def kill_the_child_that_ends(workshop: Workshop, worker: Worker) -> None:
    """Kill a child whose job "go" has ended, while its supervisor is stopped: it has read nothing of the result."""
    child = workshop.pid_of("begin", "go")
    worker.send_signal(signal.SIGSTOP)
    workshop.let_go("go")
    until(lambda: workshop.lines("end", "go"))
    until(lambda: all(state_of(child) == "S" for _ in range(100)))
    os.kill(child, signal.SIGKILL)
    until(lambda: not is_running(child))
    worker.send_signal(signal.SIGCONT)


def test_fault_01_a_child_killed_before_it_reads_costs_no_attempt(workshop: Workshop) -> None:
    shop = workshop.load("shop")
    workshop.work(concurrency=1)
    first = shop.add.delay(1)
    assert first.get(20) == 1
    child = first.executions[0].pid
    assert child is not None
    os.kill(child, signal.SIGSTOP)
    until(lambda: state_of(child) == "T")
    job = shop.add.options(max_attempts=1).delay(2)
    until(lambda: job.state is RUNNING)
    os.kill(child, signal.SIGKILL)
    assert job.get(10) == 2
    assert attempts(job) == [COMPLETED]
    assert job.executions[0].pid != child


@pytest.mark.parametrize("how", ["python", "c", "grandchild"])
def test_fault_01_a_child_killed_during_its_job_costs_one_attempt_and_its_neighbours_nothing(
    workshop: Workshop, how: str
) -> None:
    shop = workshop.load("shop")
    worker = workshop.work(concurrency=2)
    neighbour, job = shop.hold.delay("neighbour"), shop.hold.delay("victim", how)
    child = workshop.pid_of("begin", "victim")
    beside = workshop.pid_of("begin", "neighbour")
    if how == "grandchild":
        until(lambda: workshop.lines("grandchild"))
    killed_at = time.monotonic()
    os.kill(child, signal.SIGKILL)
    assert job.get(10) == "second"
    assert time.monotonic() - killed_at < 1  # G6
    for line in workshop.lines("grandchild"):
        until(lambda pid=int(line[1]): not is_running(pid), 1)  # type: ignore[misc]  # bound now
    assert attempts(job) == [FAILED, COMPLETED]
    assert "killed by signal 9 (SIGKILL)" in causes(job)[0]
    workshop.let_go("neighbour")
    assert neighbour.get(10) == "first"
    assert [(e.state, e.pid) for e in neighbour.executions] == [(COMPLETED, beside)]
    assert len(workshop.lines("begin", "neighbour")) == 1
    assert worker.poll() is None


def test_fault_01_a_child_killed_after_it_wrote_its_result_has_done_its_job(workshop: Workshop) -> None:
    shop = workshop.load("shop")
    worker = workshop.work(concurrency=1)
    job = shop.hold.delay("go", "spin")  # never asleep while it runs: asleep means that it waits for its next job
    kill_the_child_that_ends(workshop, worker)
    assert job.get(10) == "first"
    assert attempts(job) == [COMPLETED]
    assert shop.add.delay(1).get(10) == 1


def test_fault_01_a_child_killed_while_it_writes_its_result_loses_it(workshop: Workshop) -> None:
    shop = workshop.load("shop")
    worker = workshop.work(concurrency=1)
    job = shop.big.delay("go", 10_000_000)  # more than a pipe holds
    kill_the_child_that_ends(workshop, worker)
    assert job.get(10) == bytes(10_000_000)
    assert attempts(job) == [FAILED, COMPLETED]


def test_fault_02_nothing_runs_a_tenth_of_a_second_after_its_supervisor_was_killed(workshop: Workshop) -> None:
    shop = workshop.load("shop")
    victim = workshop.work(concurrency=3)
    jobs = [shop.hold.delay(how, how) for how in ("spin", "c", "grandchild")]
    for how in ("spin", "c", "grandchild"):
        workshop.pid_of("begin", how)
    until(lambda: workshop.lines("grandchild"))
    below = workshop.processes() - {victim.pid}
    assert len(below) == 5  # the forker, three children, one grandchild
    ends = select.poll()
    for pid in below:
        ends.register(os.pidfd_open(pid), select.POLLIN)
    killed_at = time.monotonic()
    victim.kill()
    left = len(below)
    while left and (ended := ends.poll(1000 * (killed_at + 5 - time.monotonic()))):
        for fd, _ in ended:
            ends.unregister(fd)
            os.close(fd)
            left -= 1
    assert time.monotonic() - killed_at < 0.1
    assert left == 0
    victim.wait(10)

    workshop.work(concurrency=2)
    assert [job.get(10) for job in jobs] == ["second"] * 3
    for job in jobs:
        assert attempts(job) == [FAILED, COMPLETED]
        assert f"the process {victim.pid} of worker" in causes(job)[0]


def test_fault_08_a_new_worker_with_the_old_ones_pid_is_not_taken_for_it(workshop: Workshop) -> None:
    shop = workshop.load("shop")
    old = workshop.work(concurrency=1)
    job = shop.hold.delay("never")
    workshop.pid_of("begin", "never")
    new = workshop.work(concurrency=1)
    # The kernel gives no process a wanted id, so the old worker's row gets the new one's: same host, same process id.
    workshop.stop(new)
    old.kill()
    old.wait(10)
    with closing(sqlite3.connect(workshop.path, isolation_level=None)) as database:
        database.execute("UPDATE workers SET pid = ? WHERE pid = ?", (new.pid, old.pid))
    rows = workshop.queue.workers()
    assert [row.pid for row in rows] == [new.pid, new.pid]
    assert len({row.host for row in rows}) == 1
    new.send_signal(signal.SIGCONT)
    assert job.get(5) == "second"  # before the lease of 10 s ends: the process is known to be gone
    assert attempts(job) == [FAILED, COMPLETED]
    assert [row.pid for row in workshop.queue.workers()] == [new.pid]
    assert "took this worker for dead" not in new.log


def test_fault_09_quit_gives_back_at_once_what_has_attempts_left(workshop: Workshop) -> None:
    shop = workshop.load("shop")
    worker = workshop.work(concurrency=2)
    job, last = shop.hold.delay("never", "c"), shop.hold.options(max_attempts=1).delay("last", "c")
    workshop.pid_of("begin", "never")
    workshop.pid_of("begin", "last")
    worker.send_signal(signal.SIGQUIT)
    assert worker.wait(5) == 0
    assert (job.state, job.attempts) == (JobState.PENDING, 0)
    assert (last.state, last.attempts) == (FAILED, 1)  # running it again would exceed max_attempts
    assert attempts(job) == [JobState.CANCELLED]
