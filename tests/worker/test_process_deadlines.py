"""Timeouts and cancelling: the code stops, and the outcome says why."""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pool_driver import Driver, StartPool, failure_of, is_running, make_job, poll_until

from gigq.storage.leases import End
from gigq.worker.execute import Overdue
from gigq.worker.pools import forked
from gigq.worker.pools.base import Ended

TIMEOUT = 0.15  # seconds
KILLED_AT = TIMEOUT + forked.GRACE_SECONDS  # without the fixture: code that an exception reaches ends earlier


@pytest.fixture
def short_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two seconds between the exception and SIGKILL are long for a test."""
    monkeypatch.setattr(forked, "GRACE_SECONDS", 0.2)


def noop() -> None: ...


def sleep_long(path: str = "") -> None:
    try:
        time.sleep(100)
    finally:
        if path:
            Path(path).write_text("finally")


def spin() -> None:
    while True:
        pass


def swallow() -> str:
    started = time.monotonic()
    while time.monotonic() - started < 100:
        try:
            time.sleep(100)
        except BaseException:
            break
    return "swallowed"


def block_in_c(path: str = "") -> None:
    if path:
        Path(path).write_text(str(os.getpid()))
    hashlib.pbkdf2_hmac("sha512", b"x", b"y", 1_000_000_000)


async def sleep_in_loop(path: str = "") -> None:
    try:
        await asyncio.sleep(100)
    finally:
        if path:
            Path(path).write_text("finally")


async def spin_in_loop() -> None:
    spin()


class SleepsWhenUnpickled:
    def __reduce__(self) -> tuple[Any, ...]:
        return time.sleep, (100,)


def check_timed_out(driver: Driver, job: Any) -> None:
    started = time.monotonic()
    ended = driver.run_one(job)
    assert ended.end is End.TIMED_OUT
    assert failure_of(ended)[:2] == ("Timeout", f"ran longer than its timeout of {TIMEOUT:g} s")
    assert not ended.retryable
    assert ended.result is None
    assert ended.duration >= TIMEOUT
    assert time.monotonic() - started < KILLED_AT


@pytest.mark.slow
@pytest.mark.parametrize("function", [sleep_long, spin, swallow, sleep_in_loop])
def test_python_code_is_stopped_by_an_exception_at_its_deadline(
    start_pool: StartPool, function: Callable[..., Any]
) -> None:
    driver = start_pool(function, noop)
    check_timed_out(driver, make_job(function, timeout=TIMEOUT))
    # The child is replaced: what the exception broke in it must not hurt the next job.
    pid = driver.ended[-1].pid
    assert driver.run_one(make_job("noop")).pid != pid


@pytest.mark.slow
@pytest.mark.parametrize("function", [sleep_long, sleep_in_loop])
def test_finally_blocks_run(start_pool: StartPool, tmp_path: Path, function: Callable[..., Any]) -> None:
    path = tmp_path / "finally"
    driver = start_pool(function)
    check_timed_out(driver, make_job(function, str(path), timeout=TIMEOUT))
    assert path.read_text() == "finally"
    assert "in sleep_" in failure_of(driver.ended[-1]).traceback


@pytest.mark.slow
@pytest.mark.usefixtures("short_grace")
@pytest.mark.parametrize("function", [block_in_c, spin_in_loop])
def test_code_that_no_exception_reaches_is_killed_after_the_grace(
    start_pool: StartPool, function: Callable[..., Any]
) -> None:  # fault 35
    driver = start_pool(function, noop)
    check_timed_out(driver, make_job(function, timeout=TIMEOUT))
    assert driver.run_one(make_job("noop")).end is End.COMPLETED


@pytest.mark.slow
def test_unpickling_runs_under_the_timeout(start_pool: StartPool) -> None:  # fault 31
    check_timed_out(start_pool(noop), make_job("noop", SleepsWhenUnpickled(), timeout=TIMEOUT))


@pytest.mark.slow
@pytest.mark.usefixtures("short_grace")
def test_signal_handlers_that_a_task_reset_are_set_again(start_pool: StartPool, tmp_path: Path) -> None:  # fault 37
    def reset() -> None:
        for sig in signal.valid_signals():
            if sig not in (signal.SIGKILL, signal.SIGSTOP):
                signal.signal(sig, signal.SIG_DFL)

    driver = start_pool(reset, sleep_long)
    driver.run_one(make_job("reset"))
    path = tmp_path / "finally"
    check_timed_out(driver, make_job("sleep_long", str(path), timeout=TIMEOUT))
    assert path.read_text() == "finally"


@pytest.mark.slow
@pytest.mark.usefixtures("short_grace")
def test_a_stopped_child_is_killed_at_its_deadline_and_delays_nobody(
    start_pool: StartPool, tmp_path: Path
) -> None:  # fault 6
    def stop_myself() -> None:
        os.kill(os.getpid(), signal.SIGSTOP)

    driver = start_pool(stop_myself, noop, concurrency=2)
    driver.run(*[make_job("noop") for _ in range(100)])
    stopped = make_job("stop_myself", timeout=TIMEOUT)
    started = time.monotonic()
    driver.give(stopped)
    worst = 0.0
    while not any(ended.job.seq == stopped.seq for ended in driver.ended):
        sent = time.monotonic()
        assert driver.run_one(make_job("noop")).end is End.COMPLETED
        worst = max(worst, time.monotonic() - sent)
        assert sent - started < 5
    ended = next(ended for ended in driver.ended if ended.job.seq == stopped.seq)
    assert ended.end is End.TIMED_OUT
    assert worst < 0.2


@pytest.mark.slow
def test_an_idle_child_that_is_stopped_holds_no_job(start_pool: StartPool) -> None:
    driver = start_pool(noop)
    pid = driver.run_one(make_job("noop")).pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    ended = driver.run_one(make_job("noop"))
    assert ended.end is End.COMPLETED
    assert ended.pid != pid


@pytest.mark.slow
def test_short_jobs_behind_a_long_one_do_not_wait_for_it(start_pool: StartPool) -> None:
    def maybe_long(path: str) -> None:
        while path and not os.path.exists(path):
            time.sleep(0.001)

    driver = start_pool(maybe_long, concurrency=2)
    driver.run(*[make_job("maybe_long", "") for _ in range(300)])
    long = make_job("maybe_long", "/nowhere")
    short = [make_job("maybe_long", "") for _ in range(100)]
    driver.give(long, *short)
    wanted = {job.seq for job in short}
    driver.until(lambda: wanted <= {ended.job.seq for ended in driver.ended})
    assert long.seq not in {ended.job.seq for ended in driver.ended}


@pytest.mark.slow
def test_neighbours_of_a_job_that_times_out_run_elsewhere(start_pool: StartPool) -> None:
    def maybe_long(seconds: float) -> None:
        time.sleep(seconds)

    driver = start_pool(maybe_long)
    driver.run(*[make_job("maybe_long", 0) for _ in range(300)])
    ended, *others = driver.run(
        make_job("maybe_long", 100, timeout=TIMEOUT), *[make_job("maybe_long", 0) for _ in range(20)]
    )
    assert ended.end is End.TIMED_OUT
    assert {other.end for other in others} == {End.COMPLETED}
    assert ended.pid not in {other.pid for other in others}


@pytest.mark.slow
def test_a_late_signal_never_hits_the_next_job(start_pool: StartPool) -> None:
    """Jobs that end just about at their deadline, each followed by one without: those all complete."""

    def last(seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            pass

    driver = start_pool(last, noop)
    for step in range(60):
        close, after = driver.run(make_job("last", 0.004 + step * 0.00004, timeout=0.005), make_job("noop"))
        assert close.end in (End.COMPLETED, End.TIMED_OUT)
        assert (close.end is End.TIMED_OUT) == (close.duration >= 0.005)
        assert after.end is End.COMPLETED


# -- cancelling


def cancel_when_running(driver: Driver, function: Callable[..., Any], tmp_path: Path, *args: Any) -> Any:
    def run(path: str, *rest: Any) -> Any:
        Path(path).touch()
        return function(*rest)

    started = tmp_path / "started"
    job = make_job(run, str(started), *args, by_value=True)
    driver.give(job)
    driver.until(started.exists)
    driver.pool.cancel([(job.seq, job.claims)])
    driver.until(lambda: any(ended.job.seq == job.seq for ended in driver.ended))
    return next(ended for ended in driver.ended if ended.job.seq == job.seq)


@pytest.mark.usefixtures("short_grace")
@pytest.mark.parametrize("function", [sleep_long, swallow])
def test_a_running_job_is_cancelled_by_an_exception(
    start_pool: StartPool, tmp_path: Path, function: Callable[..., Any]
) -> None:
    ended = cancel_when_running(start_pool(), function, tmp_path)
    assert ended.end is End.CANCELLED
    assert ended.result is None
    assert failure_of(ended).type == "Cancelled"


@pytest.mark.slow
@pytest.mark.usefixtures("short_grace")
def test_a_running_job_that_no_exception_reaches_is_killed(start_pool: StartPool, tmp_path: Path) -> None:
    driver = start_pool()
    ended = cancel_when_running(driver, block_in_c, tmp_path)
    assert ended.end is End.CANCELLED
    assert ended.pid is not None
    assert not is_running(ended.pid)


def test_jobs_that_have_not_started_are_cancelled_at_once_and_others_run(start_pool: StartPool, tmp_path: Path) -> None:
    gate = tmp_path / "gate"

    def wait() -> None:
        while not gate.exists():
            time.sleep(0.001)

    driver = start_pool(noop, wait)
    driver.run(*[make_job("noop") for _ in range(300)])
    driver.pool._estimates.record(make_job("wait"), 0.000_01)  # type: ignore[attr-defined]
    blocker, *jobs = make_job("wait"), *[make_job("noop") for _ in range(20)]
    driver.give(blocker, *jobs)
    driver.pool.cancel([(job.seq, job.claims) for job in jobs[::2]])
    cancelled = driver.pool.events()
    assert [event.job.seq for event in cancelled] == [job.seq for job in jobs[::2]]
    assert {(event.end, event.started_at) for event in cancelled if isinstance(event, Ended)} == {(End.CANCELLED, None)}
    gate.touch()
    assert {ended.end for ended in driver.run(blocker, *jobs[1::2])} == {End.COMPLETED}


def test_an_outcome_that_came_first_stands(start_pool: StartPool) -> None:
    driver = start_pool(noop)
    job = make_job("noop")
    driver.give(job)
    child = driver.pool._children[0]  # type: ignore[attr-defined]
    poll_until(lambda: child.slot.words[1] and not child.slot.words[0])  # it has run; nobody has read its outcome
    driver.pool.cancel([(job.seq, job.claims)])
    driver.until(driver.pool.is_idle)
    assert [ended.end for ended in driver.ended] == [End.COMPLETED]
    assert driver.run_one(make_job("noop")).pid == driver.ended[0].pid


def test_another_claim_of_the_same_job_is_not_cancelled(start_pool: StartPool) -> None:
    driver = start_pool(noop)
    job = make_job("noop")._replace(claims=2)
    driver.give(job)
    driver.pool.cancel([(job.seq, 1)])
    driver.until(driver.pool.is_idle)
    assert [ended.end for ended in driver.ended] == [End.COMPLETED]


# -- killing, when the worker shuts down


def test_kill_releases_running_jobs_and_keeps_the_others_for_recall(start_pool: StartPool, tmp_path: Path) -> None:
    def wait(path: str) -> None:
        Path(path).write_text(str(os.getpid()))
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"])
        Path(path + ".child").write_text(str(child.pid))
        block_in_c()

    driver = start_pool(wait, noop)
    driver.run(*[make_job("noop") for _ in range(300)])
    driver.pool._estimates.record(make_job("wait"), 0.000_01)  # type: ignore[attr-defined]
    job = make_job("wait", str(tmp_path / "pid"))
    others = [make_job("noop") for _ in range(5)]
    assert driver.pool.give([job, *others]) == []
    child_file = tmp_path / "pid.child"
    poll_until(lambda: child_file.exists() and child_file.read_text())
    driver.pool.kill()
    recalled = driver.pool.recall()
    driver.until(driver.pool.is_idle, timeout=2)
    assert [ended.end for ended in driver.ended if ended.job.seq == job.seq] == [End.RELEASED]
    assert driver.ended[-1].started_at is not None
    assert [other.seq for other in recalled] == [other.seq for other in others]
    poll_until(lambda: not is_running(int(child_file.read_text())), timeout=1)


def test_overdue_is_not_an_exception() -> None:
    assert not issubclass(Overdue, Exception)
