"""Wall clocks that are set while everything runs: by an hour and by a day, forward and back."""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from workshop import Workshop, attempts, causes, until

from gigq import JobState

pytestmark = pytest.mark.slow  # each starts workers

COMPLETED, FAILED, PENDING, RUNNING, TIMEOUT = (
    JobState.COMPLETED, JobState.FAILED, JobState.PENDING, JobState.RUNNING, JobState.TIMEOUT,
)  # fmt: skip

HOUR, DAY = 3600.0, 86400.0
STEPS = (HOUR, -HOUR, DAY, -DAY)
LEASE_SECONDS = 1.0  # of workers that are scaled down


@pytest.fixture
def set_clock(workshop: Workshop) -> Iterator[Callable[[float], None]]:
    """Set the clock of all programs of the workshop to so many seconds after the real one."""
    path = workshop.folder / "clock"
    path.write_bytes(struct.pack("d", 0.0))
    workshop.environment |= {"PYTHONPATH": str(Path(__file__).parent / "stepped"), "GIGQ_TEST_CLOCK": str(path)}
    with open(path, "r+b", buffering=0) as file:
        yield lambda seconds: os.pwrite(file.fileno(), struct.pack("d", seconds), 0) and None


def submit(workshop: Workshop, call: str) -> str:
    """Submit a job by a program that has the clock of the others; return its id."""
    return workshop.run("-c", f"from shop import *; print({call}.id)").strip()


def test_the_clock_of_a_program_can_be_set(workshop: Workshop, set_clock: Callable[[float], None]) -> None:
    set_clock(DAY)
    assert float(workshop.run("-c", "import time; print(time.time())")) - time.time() > DAY - 60


def test_fault_24_steps_of_the_clock_cost_no_lease_and_move_no_timeout(
    workshop: Workshop, set_clock: Callable[[float], None]
) -> None:
    workers = [workshop.work(concurrency=3, scaled=True) for _ in range(2)]
    started = time.monotonic()
    app = workshop.load("shop").app
    held = app.get(submit(workshop, "hold.options(max_attempts=1).delay('go')"))
    workshop.pid_of("begin", "go")
    for step in STEPS:
        late = app.get(submit(workshop, f"hold.options(timeout=0.5, max_attempts=1).delay('late{step}')"))
        workshop.pid_of("begin", f"late{step}")
        set_clock(step)
        began = time.monotonic()
        until(lambda: late.state is not RUNNING)  # noqa: B023  # called at once
        assert time.monotonic() - began < 4  # neither an hour nor, the clock having gone back, a day
        assert (late.state, attempts(late)) == (TIMEOUT, [TIMEOUT])
        (attempt,) = late.executions
        assert attempt.started_at is not None
        assert 0.5 <= attempt.finished_at - attempt.started_at < 3
        assert held.state is RUNNING
        set_clock(0)
    until(lambda: time.monotonic() - started > 2 * LEASE_SECONDS)
    workshop.let_go("go")
    assert held.get(10) == "first"
    for worker in workers:
        assert worker.poll() is None
        for word in ("took back", "fenced", "took this worker for dead"):
            assert word not in worker.log


def test_fault_24_due_times_follow_the_clock(workshop: Workshop, set_clock: Callable[[float], None]) -> None:
    workshop.work(concurrency=1)
    app = workshop.load("shop").app
    in_an_hour, tomorrow = (app.get(submit(workshop, f"add.options(delay={s}).delay({s})")) for s in (HOUR, DAY))
    assert in_an_hour.state is PENDING
    set_clock(HOUR)
    assert in_an_hour.get(5) == HOUR
    set_clock(-DAY)
    soon = app.get(submit(workshop, "add.options(delay=0.2).delay(1)"))  # by the clock as it is now
    assert soon.get(5) == 1
    assert tomorrow.state is PENDING
    set_clock(DAY)
    assert tomorrow.get(5) == DAY


@pytest.mark.parametrize("step", [-DAY])  # a step forward shows in the test above
def test_fault_24_a_dead_workers_job_is_not_stuck_after_a_step(
    workshop: Workshop, set_clock: Callable[[float], None], step: float
) -> None:
    """Of another host, whose death only the lease tells."""
    victim = workshop.work(concurrency=1, program=("elsewhere.py",))
    app = workshop.load("shop").app
    job = app.get(submit(workshop, "hold.delay('never')"))
    workshop.pid_of("begin", "never")
    workshop.work(concurrency=1, scaled=True)
    victim.kill()
    victim.wait(10)
    set_clock(step)
    assert job.get(10) == "second"
    assert attempts(job) == [FAILED, COMPLETED]
    assert "gave no sign of life for 1 s" in causes(job)[0]
