"""How jobs' durations are learned, and how deaths are named."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from pool_driver import make_job

from gigq.worker.pools import deaths, estimates
from gigq.worker.pools.deaths import OutOfMemoryCounter, cause_of_death
from gigq.worker.pools.estimates import AHEAD_JOBS, Estimates


def test_nothing_is_known_at_first() -> None:
    assert Estimates().of(make_job("t")) is None
    assert Estimates().full_load() == 1


def test_each_task_has_its_own_average() -> None:
    known = Estimates()
    known.record(make_job("short"), 0.001)
    known.record(make_job("long"), 10.0)
    known.record(make_job("short"), 0.002)
    assert known.of(make_job("short")) == pytest.approx(0.0012)
    assert known.of(make_job("long")) == 10.0
    assert known.typical == pytest.approx(0.001 + 0.2 * 9.999 - 0.2 * (0.001 + 0.2 * 9.999 - 0.002))


@pytest.mark.parametrize(("seconds", "jobs"), [(0.0, AHEAD_JOBS), (0.000_001, AHEAD_JOBS), (0.001, 5), (1.0, 1)])
def test_a_full_load_is_five_milliseconds(seconds: float, jobs: int) -> None:
    known = Estimates()
    known.record(make_job("t"), seconds)
    assert known.full_load() == jobs


def test_functions_that_travel_are_told_apart_by_their_jobs_name_within_bounds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(estimates, "_REMEMBERED", 10)
    known = Estimates()
    for number in range(25):
        known.record(make_job(lambda: None, by_value=True)._replace(name=f"job {number}"), number)
    assert known.of(make_job(lambda: None, by_value=True)._replace(name="job 24")) == 24
    assert known.of(make_job(lambda: None, by_value=True)._replace(name="job 0")) is None


@pytest.mark.parametrize(
    ("status", "cause"),
    [
        (signal.SIGKILL, "killed by signal 9 (SIGKILL)"),
        (signal.SIGSEGV | 0x80, "killed by signal 11 (SIGSEGV)"),  # with a core file
        (signal.SIGRTMIN + 7, "killed by signal 41 (SIGRTMIN+7)"),
        (3 << 8, "exited with status 3 (the task called os._exit?)"),
    ],
)
def test_a_wait_status_is_named(status: int, cause: str) -> None:
    assert cause_of_death(status, 0) == cause


def test_memory_is_named_only_for_signal_9_and_only_if_the_kernel_counted() -> None:  # fault 38
    assert "out of memory" in cause_of_death(signal.SIGKILL, 0, out_of_memory=True)
    assert "out of memory" not in cause_of_death(signal.SIGKILL, 0)
    assert "out of memory" not in cause_of_death(signal.SIGSEGV, 0, out_of_memory=True)


def test_the_kernels_count_of_kills_for_memory_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "memory.events"
    file.write_text("low 0\noom 1\noom_kill 4\n")
    monkeypatch.setattr(deaths, "_events_file", lambda: file)
    counter = OutOfMemoryCounter()
    assert not counter.has_risen()
    file.write_text("low 0\noom 2\noom_kill 5\n")
    assert counter.has_risen()
    assert not counter.has_risen()
    file.unlink()
    assert not counter.has_risen()
