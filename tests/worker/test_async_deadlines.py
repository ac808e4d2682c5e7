"""Timeouts and cancelling in event loops: the job stops, and its neighbours are hurt as little as possible."""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
import time
from pathlib import Path

import pytest
from pool_driver import Driver, StartPool, failure_of, make_job, poll_until, value_of

from gigq.context import current_job
from gigq.storage.leases import ClaimedJob, End
from gigq.worker.pools.base import Ended

TIMEOUT = 0.15  # seconds


async def noop() -> None: ...


async def nap(seconds: float) -> str:
    await asyncio.sleep(seconds)
    return "slept"


async def wait_for(gate: str, started: str) -> int:
    Path(started, current_job().id).touch()
    while not os.path.exists(gate):
        await asyncio.sleep(0.002)
    return os.getpid()


async def sleep_long(path: str = "") -> None:
    try:
        await asyncio.sleep(100)
    finally:
        if path:
            Path(path).write_text("finally")


async def swallow() -> str:
    try:
        await asyncio.sleep(100)
    except asyncio.CancelledError:
        return "swallowed"
    return ""


async def go_on() -> None:
    while True:
        try:
            await asyncio.sleep(100)
        except asyncio.CancelledError:
            continue


async def spin() -> None:
    while True:
        pass


async def spin_in_a_task() -> None:
    await asyncio.create_task(spin())


async def block_in_c() -> None:
    hashlib.pbkdf2_hmac("sha512", b"x", b"y", 1_000_000_000)


def spin_in_a_thread() -> None:
    while True:
        pass


def block_in_a_thread() -> None:
    hashlib.pbkdf2_hmac("sha512", b"x", b"y", 1_000_000_000)


FUNCTIONS = (
    noop, nap, wait_for, sleep_long, swallow, go_on, spin, spin_in_a_task, block_in_c, spin_in_a_thread,
    block_in_a_thread,
)  # fmt: skip


class Neighbours:
    """Jobs beside the one that is tested: they have started, and end when `let_go` is called."""

    def __init__(self, driver: Driver, folder: Path, count: int = 5) -> None:
        self._driver, self._gate, started = driver, folder / "gate", folder / "started"
        started.mkdir()
        self.jobs = [make_job("wait_for", str(self._gate), str(started)) for _ in range(count)]
        driver.give(*self.jobs)
        driver.until(lambda: len(os.listdir(started)) == count)

    def let_go(self) -> list[Ended]:
        self._gate.touch()
        return self._driver.wait(*self.jobs)


def has_ended(driver: Driver, job: ClaimedJob) -> bool:
    return job.seq in {ended.job.seq for ended in driver.ended}


def check_timed_out(ended: Ended) -> None:
    assert ended.end is End.TIMED_OUT
    assert failure_of(ended)[:2] == ("Timeout", f"ran longer than its timeout of {TIMEOUT:g} s")
    assert not ended.retryable
    assert ended.result is None
    assert TIMEOUT <= ended.duration < TIMEOUT + 5


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sleep_long", "swallow"])
def test_a_coroutine_is_cancelled_at_its_deadline_and_nothing_else_happens(
    start_async: StartPool, tmp_path: Path, name: str
) -> None:
    driver = start_async(*FUNCTIONS)
    neighbours = Neighbours(driver, tmp_path)
    ended = driver.run_one(make_job(name, timeout=TIMEOUT))
    check_timed_out(ended)
    assert ended.duration < TIMEOUT + 1  # long before the grace is over
    assert {value_of(other) for other in neighbours.let_go()} == {ended.pid}


def test_finally_blocks_run_and_the_failure_says_where_it_was_stopped(start_async: StartPool, tmp_path: Path) -> None:
    path = tmp_path / "finally"
    ended = start_async(*FUNCTIONS).run_one(make_job("sleep_long", str(path), timeout=TIMEOUT))
    check_timed_out(ended)
    assert path.read_text() == "finally"
    assert "in sleep_long" in failure_of(ended).traceback
    assert "loop_child" not in failure_of(ended).traceback


@pytest.mark.slow
def test_many_deadlines_at_once(start_async: StartPool) -> None:
    driver = start_async(*FUNCTIONS, concurrency=100, children=2)
    jobs = [make_job("nap", 0.05 if n % 2 else 100, timeout=0.3) for n in range(200)]
    all_ended = driver.run(*jobs)
    assert [ended.end for ended in all_ended] == [End.TIMED_OUT, End.COMPLETED] * 100
    assert len({ended.pid for ended in all_ended}) == 2


@pytest.mark.slow
@pytest.mark.usefixtures("short_grace")
@pytest.mark.parametrize("name", ["spin", "spin_in_a_task"])
def test_a_coroutine_that_never_yields_is_stopped_by_an_exception_and_its_neighbours_live(
    start_async: StartPool, tmp_path: Path, name: str
) -> None:
    driver = start_async(*FUNCTIONS)
    neighbours = Neighbours(driver, tmp_path)
    ended = driver.run_one(make_job(name, timeout=TIMEOUT))
    check_timed_out(ended)
    assert "in spin" in failure_of(ended).traceback or name == "spin_in_a_task"
    # What the exception broke there must not hurt the next jobs: those run in another child.
    assert driver.run_one(make_job("noop")).pid != ended.pid
    assert {value_of(other) for other in neighbours.let_go()} == {ended.pid}


@pytest.mark.slow
@pytest.mark.usefixtures("short_grace")
@pytest.mark.parametrize("name", ["block_in_c", "block_in_a_thread", "go_on"])
def test_what_no_exception_stops_is_killed_and_its_neighbours_have_lost_an_attempt(
    start_async: StartPool, tmp_path: Path, name: str
) -> None:  # fault 35
    driver = start_async(*FUNCTIONS)
    neighbours = Neighbours(driver, tmp_path)
    job = make_job(name, timeout=TIMEOUT)
    check_timed_out(driver.run_one(job))
    for lost in driver.wait(*neighbours.jobs):
        assert lost.end is End.LOST
        assert failure_of(lost).message == f"killed with its event loop, because job {job.id} ({name}) did not stop"
        assert lost.started_at is not None
    assert driver.run_one(make_job("noop")).end is End.COMPLETED
    assert len(driver.ended) == len(neighbours.jobs) + 2


@pytest.mark.slow
@pytest.mark.usefixtures("short_grace")
def test_neighbours_that_end_within_the_grace_have_ended(start_async: StartPool) -> None:
    driver = start_async(*FUNCTIONS)
    stuck, short = make_job("go_on", timeout=TIMEOUT), [make_job("nap", 0.4) for _ in range(10)]
    all_ended = driver.run(stuck, *short)
    check_timed_out(all_ended[0])
    assert {value_of(ended) for ended in all_ended[1:]} == {"slept"}


@pytest.mark.slow
@pytest.mark.usefixtures("short_grace")
def test_new_jobs_run_elsewhere_while_a_stuck_one_has_its_grace(start_async: StartPool) -> None:
    driver = start_async(*FUNCTIONS, concurrency=3)
    stuck = make_job("block_in_c", timeout=TIMEOUT)
    driver.give(stuck)
    others = driver.run(*[make_job("noop") for _ in range(20)])
    assert {ended.end for ended in others} == {End.COMPLETED}
    assert not has_ended(driver, stuck)
    check_timed_out(*driver.wait(stuck))


@pytest.mark.slow
def test_a_plain_function_is_stopped_by_an_exception_in_its_thread(start_async: StartPool, tmp_path: Path) -> None:
    driver = start_async(*FUNCTIONS)
    neighbours = Neighbours(driver, tmp_path)
    ended = driver.run_one(make_job("spin_in_a_thread", timeout=TIMEOUT))
    check_timed_out(ended)
    assert "in spin_in_a_thread" in failure_of(ended).traceback
    assert {value_of(other) for other in neighbours.let_go()} == {ended.pid}


@pytest.mark.slow
def test_an_exception_for_a_plain_function_never_hits_the_next_one(start_async: StartPool) -> None:
    """Jobs that end just about at their deadline, each followed by one without: those all complete."""

    def last(seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            pass

    driver = start_async(last)
    for step in range(60):
        close, after = driver.run(make_job("last", 0.004 + step * 0.00004, timeout=0.005), make_job("last", 0))
        assert close.end in (End.COMPLETED, End.TIMED_OUT)
        assert (close.end is End.TIMED_OUT) == (close.duration >= 0.005)
        assert after.end is End.COMPLETED


@pytest.mark.slow
@pytest.mark.usefixtures("short_grace")
def test_signal_handlers_that_a_job_reset_are_set_again(start_async: StartPool) -> None:  # fault 37
    async def reset() -> None:
        for sig in signal.valid_signals():
            if sig not in (signal.SIGKILL, signal.SIGSTOP):
                signal.signal(sig, signal.SIG_DFL)

    driver = start_async(reset, *FUNCTIONS)
    pid = driver.run_one(make_job("reset")).pid
    check_timed_out(driver.run_one(make_job("sleep_long", timeout=TIMEOUT)))
    assert driver.run_one(make_job("noop")).pid == pid


# -- loops that do not turn


@pytest.mark.slow
def test_jobs_do_not_wait_for_a_blocked_loop_while_another_turns(start_async: StartPool, tmp_path: Path) -> None:
    gate = tmp_path / "gate"

    async def block() -> None:
        while not gate.exists():
            time.sleep(0.002)

    driver = start_async(block, *FUNCTIONS, children=2)
    driver.run(*[make_job("noop") for _ in range(50)])
    blocked = make_job("block")
    driver.give(blocked)
    for _ in range(3):
        driver.run(*[make_job("noop") for _ in range(50)])
    assert not has_ended(driver, blocked)
    gate.touch()
    assert driver.wait(blocked)[0].end is End.COMPLETED


def test_a_job_that_blocks_the_loop_holds_back_no_outcome_before_it(start_async: StartPool, tmp_path: Path) -> None:
    gate = tmp_path / "gate"

    async def block() -> None:
        while not gate.exists():
            time.sleep(0.002)

    driver = start_async(block, *FUNCTIONS)
    driver.run(*[make_job("noop") for _ in range(50)])
    before, blocked = [make_job("noop") for _ in range(3)], make_job("block")
    driver.give(*before, blocked)
    driver.wait(*before)
    assert not has_ended(driver, blocked)
    gate.touch()
    driver.wait(blocked)


@pytest.mark.slow
def test_a_blocked_loop_is_named_in_the_log(
    start_async: StartPool, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gigq.worker.pools import asyncio as async_pool

    monkeypatch.setattr(async_pool, "LAG_SAID_NS", 100_000_000)

    async def block(path: str) -> None:
        while not os.path.exists(path):
            time.sleep(0.002)

    driver = start_async(block, *FUNCTIONS)
    job = make_job("block", str(tmp_path / "gate"))
    driver.give(job)
    driver.until(lambda: "is blocked: one of its jobs (block)" in caplog.text)
    (tmp_path / "gate").touch()
    driver.wait(job)
    assert caplog.text.count("is blocked") == 1


@pytest.mark.slow
def test_an_idle_child_that_is_stopped_holds_no_job(start_async: StartPool) -> None:
    driver = start_async(noop)
    pid = driver.run_one(make_job("noop")).pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    ended = driver.run_one(make_job("noop"))
    assert ended.end is End.COMPLETED
    assert ended.pid != pid


@pytest.mark.slow
@pytest.mark.usefixtures("short_grace")
def test_a_stopped_child_is_killed_at_a_deadline_in_it(start_async: StartPool, tmp_path: Path) -> None:  # fault 6
    driver = start_async(*FUNCTIONS)
    neighbours = Neighbours(driver, tmp_path, count=1)
    job = make_job("nap", 100, timeout=0.5)
    driver.give(job, make_job("noop"))
    driver.until(lambda: driver.ended)  # the second one, so the first has started
    pid = driver.ended[0].pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    assert [ended.end for ended in driver.wait(job, *neighbours.jobs)] == [End.TIMED_OUT, End.LOST]


# -- cancelling


@pytest.mark.parametrize("name", ["sleep_long", "swallow", "spin_in_a_thread"])
def test_a_running_job_is_cancelled_and_its_neighbours_are_not(
    start_async: StartPool, tmp_path: Path, name: str
) -> None:
    driver = start_async(*FUNCTIONS)
    neighbours = Neighbours(driver, tmp_path)
    job, other = make_job(name), make_job("noop")
    driver.give(job)
    driver.run_one(other)  # started after it
    driver.pool.cancel([(job.seq, job.claims), (other.seq, other.claims), (neighbours.jobs[0].seq, 7)])
    (ended,) = driver.wait(job)
    assert (ended.end, ended.result, failure_of(ended).type) == (End.CANCELLED, None, "Cancelled")
    assert {value_of(neighbour) for neighbour in neighbours.let_go()} == {ended.pid}


@pytest.mark.slow
@pytest.mark.usefixtures("short_grace")
@pytest.mark.parametrize("name", ["spin", "block_in_c"])
def test_a_job_that_blocks_its_loop_can_be_cancelled(start_async: StartPool, name: str) -> None:
    driver = start_async(*FUNCTIONS)
    job = make_job(name)
    driver.give(job)
    driver.until(lambda: driver.pool._children[0].busy)  # type: ignore[attr-defined]
    driver.pool.cancel([(job.seq, job.claims)])
    assert driver.wait(job)[0].end is End.CANCELLED
    assert driver.run_one(make_job("noop")).end is End.COMPLETED


def give_more_than_fits(driver: Driver, folder: Path) -> tuple[list[ClaimedJob], list[ClaimedJob]]:
    """Give jobs that fill all slots and wait there, and others behind them."""
    driver.run(*[make_job("noop") for _ in range(50)])
    (folder / "started").mkdir()
    slots = driver.pool.concurrency
    running = [make_job("wait_for", str(folder / "gate"), str(folder / "started")) for _ in range(slots)]
    waiting = [make_job("noop") for _ in range(5)]
    assert driver.pool.give([*running, *waiting]) == []
    poll_until(lambda: len(os.listdir(folder / "started")) == slots)
    return running, waiting


def test_jobs_that_have_not_started_are_cancelled_at_once(start_async: StartPool, tmp_path: Path) -> None:
    driver = start_async(*FUNCTIONS, concurrency=3)
    running, waiting = give_more_than_fits(driver, tmp_path)
    driver.pool.cancel([(job.seq, job.claims) for job in waiting[::2]])
    cancelled = [event for event in driver.pool.events() if isinstance(event, Ended)]
    assert [(event.job.seq, event.end, event.started_at) for event in cancelled] == [
        (job.seq, End.CANCELLED, None) for job in waiting[::2]
    ]
    (tmp_path / "gate").touch()
    rest = driver.pool.recall()
    assert {ended.end for ended in driver.wait(*running)} == {End.COMPLETED}
    assert {ended.end for ended in driver.run(*rest)} == {End.COMPLETED}
    assert {job.seq for job in rest} <= {job.seq for job in waiting[1::2]}


def test_kill_releases_what_runs_and_keeps_the_rest_for_recall(start_async: StartPool, tmp_path: Path) -> None:
    driver = start_async(*FUNCTIONS, concurrency=4)
    running, waiting = give_more_than_fits(driver, tmp_path)
    driver.pool.kill()
    recalled = driver.pool.recall()
    assert {ended.end for ended in driver.wait(*running, timeout=2)} == {End.RELEASED}
    assert [job.seq for job in recalled] == [job.seq for job in waiting]
    assert driver.pool.is_idle()
