"""Children with event loops that die: which jobs had started is known, and no other is hurt."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from pool_driver import Driver, StartPool, failure_of, is_running, make_job, value_of
from test_process_deaths import (
    close_everything,
    kill_myself,
    leave_a_grandchild,
    leave_by_os_exit,
    segfault,
    write_rubbish,
)

from gigq.storage.leases import ClaimedJob, End


async def noop() -> None: ...


def note(path: str, *words: object) -> None:
    """Leave a mark outside gigq: one short write to a file opened for appending is atomic."""
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(fd, (" ".join(map(str, words)) + "\n").encode())
    os.close(fd)


async def work(path: str, number: int, attempt: int, seconds: float) -> int:
    note(path, "start", number, attempt)
    if seconds:
        await asyncio.sleep(seconds)
    note(path, "end", number, attempt)
    return number


def plain_work(path: str, number: int, attempt: int, seconds: float) -> int:
    note(path, "start", number, attempt)
    time.sleep(seconds)
    note(path, "end", number, attempt)
    return number


class Account:
    """Gives jobs and, as a worker does, those again that were lost; then compares with what the jobs have noted."""

    def __init__(self, driver: Driver, path: Path, draw: random.Random) -> None:
        self._driver, self._path, self._draw = driver, path, draw
        self.waiting: list[ClaimedJob] = []
        self._seen = 0
        self._of: dict[int, tuple[int, int]] = {}  # (number, attempt) by seq
        self._last = 0
        self.recorded: Counter[tuple[int, int, End]] = Counter()

    def add(self, count: int) -> None:
        for _ in range(count):
            self._last += 1
            self._give(self._last, 1)

    def _give(self, number: int, attempt: int) -> None:
        name = "plain_work" if self._draw.random() < 0.1 else "work"
        seconds = self._draw.choice([0, 0, 0.002, 0.02, 0.05])
        job = make_job(name, str(self._path), number, attempt, seconds)
        self._of[job.seq] = number, attempt
        self.waiting.append(job)

    def turn(self) -> None:
        pool = self._driver.pool
        wanted = pool.wanted()
        self.waiting = pool.give(self.waiting[:wanted]) + self.waiting[wanted:]
        if self._draw.random() < 0.1:
            self.waiting = pool.recall() + self.waiting
        self._driver.turn(longest=0.002)
        for ended in self._driver.ended[self._seen :]:
            number, attempt = self._of[ended.job.seq]
            self.recorded[number, attempt, ended.end] += 1
            if ended.end is End.LOST:
                self._give(number, attempt + 1)
            else:
                assert value_of(ended) == number
        self._seen = len(self._driver.ended)

    def check(self) -> int:
        """Check all; return how many attempts were lost."""
        assert set(self.recorded.values()) == {1}
        lost = {(number, attempt) for number, attempt, end in self.recorded if end is End.LOST}
        completed = {(number, attempt) for number, attempt, end in self.recorded if end is End.COMPLETED}
        assert len(lost) + len(completed) == len(self.recorded)
        # Each job has succeeded once, after as many attempts as it was given.
        assert Counter(number for number, _ in completed) == Counter(range(1, self._last + 1))
        assert {(number, attempt - 1) for number, attempt in lost | completed if attempt > 1} == lost
        starts: Counter[tuple[int, int]] = Counter()
        ends: Counter[tuple[int, int]] = Counter()
        for line in self._path.read_text().splitlines():
            what, number, attempt = line.split()
            (starts if what == "start" else ends)[int(number), int(attempt)] += 1
        assert set(starts.values()) == {1}  # no attempt ran twice
        assert set(starts) <= lost | completed  # what has started has been recorded
        assert all(ends[attempt] == 1 for attempt in completed)
        # What was lost had started, but for those that were killed between beginning and saying so: a few each kill.
        assert len(lost - set(starts)) <= 0.2 * len(lost) + 20
        return len(lost)


@pytest.mark.slow
@pytest.mark.parametrize("children", [1, 2])
def test_kills_at_any_moment_lose_what_had_started_and_nothing_else(
    start_async: StartPool, tmp_path: Path, children: int
) -> None:
    kills = 25
    seed = random.randrange(1 << 32)
    print("seed", seed)
    draw = random.Random(seed)
    driver = start_async(work, plain_work, concurrency=200, children=children)
    account = Account(driver, tmp_path / "ledger", draw)
    done = kill_at = 0
    deadline = time.monotonic() + 60
    while done < kills or account.waiting or not driver.pool.is_idle():
        assert time.monotonic() < deadline
        if done < kills and len(account.waiting) < 400:
            account.add(200)
        if done < kills and len(driver.ended) >= kill_at:
            pids = [child.pid for child in driver.pool._children if child.pid and child.is_proven]  # type: ignore[attr-defined]
            if pids:
                for _ in range(draw.randrange(300)):  # some microseconds, so that kills fall anywhere in the loop
                    pass
                with contextlib.suppress(ProcessLookupError):  # the one before has not been buried yet
                    os.kill(draw.choice(pids), signal.SIGKILL)
                done += 1
                kill_at = len(driver.ended) + draw.randrange(20, 300)
        account.turn()
    lost = account.check()
    assert kills < lost <= kills * 200


@pytest.mark.slow
def test_jobs_run_exactly_once_under_random_recalls(start_async: StartPool, tmp_path: Path) -> None:
    seed = random.randrange(1 << 32)
    print("seed", seed)
    driver = start_async(work, plain_work, concurrency=20, children=2)
    account = Account(driver, tmp_path / "ledger", random.Random(seed))
    account.add(3_000)
    deadline = time.monotonic() + 60
    while account.waiting or not driver.pool.is_idle():
        assert time.monotonic() < deadline
        account.turn()
    assert account.check() == 0


# -- jobs that kill their child


@pytest.mark.parametrize(
    ("function", "cause"),
    [
        (leave_by_os_exit, "exited with status 3 (the task called os._exit?)"),
        (segfault, "killed by signal 11 (SIGSEGV)"),
        (kill_myself, "killed by signal 9 (SIGKILL)"),
        (close_everything, "the task closed gigq's descriptors, so its outcome could not be reported"),
        (write_rubbish, "a job in this event loop wrote to gigq's channel"),
    ],
)
def test_a_death_costs_those_that_had_started_an_attempt_and_names_the_cause(
    start_async: StartPool, tmp_path: Path, function: Callable[[], None], cause: str
) -> None:  # faults 1, 34, 36
    async def hostile() -> None:
        await asyncio.sleep(0.01)
        function()
        await asyncio.sleep(100)

    async def wait() -> None:
        Path(tmp_path / "started").touch()
        await asyncio.sleep(100)

    driver = start_async(hostile, wait, noop, concurrency=3)
    neighbour, job = make_job("wait"), make_job("hostile")
    driver.give(neighbour)
    driver.until((tmp_path / "started").exists)
    others = [make_job("noop") for _ in range(30)]
    driver.give(job, *others)
    for lost in driver.wait(neighbour, job):
        assert lost.end is End.LOST
        assert failure_of(lost).message == cause
        assert lost.started_at is not None
    all_ended = driver.wait(*others)
    assert sum(ended.end is not End.COMPLETED for ended in all_ended) <= 1  # the third slot's
    assert len(driver.ended) == len(others) + 2
    assert driver.run_one(make_job("noop")).end is End.COMPLETED


@pytest.mark.slow
def test_a_job_that_reads_tokens_loses_nobodys_job(start_async: StartPool) -> None:
    async def read_all() -> None:
        for fd in range(3, 1100):
            with contextlib.suppress(OSError):
                os.set_blocking(fd, False)
                os.read(fd, 80)

    driver = start_async(read_all, noop, concurrency=4)
    driver.run(*[make_job("noop") for _ in range(50)])
    driver.run(make_job("read_all"), *[make_job("noop") for _ in range(30)])
    assert len(driver.ended) == len({ended.job.seq for ended in driver.ended})
    assert driver.run_one(make_job("noop")).end is End.COMPLETED


def test_grandchildren_die_with_a_child(start_async: StartPool, tmp_path: Path) -> None:  # fault 35
    path = tmp_path / "pid"
    driver = start_async(leave_a_grandchild)
    assert driver.run_one(make_job("leave_a_grandchild", str(path), "die")).end is End.LOST
    driver.until(lambda: not is_running(int(path.read_text())), timeout=2)


def test_an_idle_child_that_is_killed_is_replaced(start_async: StartPool) -> None:  # fault 1
    driver = start_async(noop)
    pid = driver.run_one(make_job("noop")).pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    driver.until(lambda: not is_running(pid))
    assert driver.run_one(make_job("noop")).pid != pid
