"""The account of tokens: every job is run or taken back, and a death names the right one."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from collections import Counter
from pathlib import Path

import pytest
from pool_driver import Driver, StartPool, make_job

from gigq.storage.leases import ClaimedJob, End


def note(path: str, number: int) -> None:
    """Leave a mark outside gigq: one short write to a file opened for appending is atomic."""
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(fd, f"{number}\n".encode())
    os.close(fd)


def noted(path: Path) -> Counter[int]:
    return Counter(int(line) for line in path.read_text().splitlines())


@pytest.mark.slow
def test_each_job_runs_exactly_once_under_random_recalls(start_pool: StartPool, tmp_path: Path) -> None:
    count = 20_000
    seed = random.randrange(1 << 32)
    print("seed", seed)
    draw = random.Random(seed)
    path = tmp_path / "ledger"
    driver = start_pool(note, concurrency=2)
    waiting = [make_job("note", str(path), number) for number in range(count)]
    recalled = 0
    deadline = time.monotonic() + 60
    while len(driver.ended) < count:
        assert time.monotonic() < deadline
        wanted = driver.pool.wanted()
        waiting = driver.pool.give(waiting[:wanted]) + waiting[wanted:]
        if draw.random() < 0.5:
            back = driver.pool.recall()
            recalled += len(back)
            waiting = back + waiting
        driver.turn(longest=0.001)
    assert {ended.end for ended in driver.ended} == {End.COMPLETED}
    assert noted(path) == Counter(range(count))
    assert recalled > 100
    assert driver.pool.is_idle()


@pytest.mark.slow
def test_a_kill_at_any_moment_loses_exactly_the_job_that_had_started(start_pool: StartPool, tmp_path: Path) -> None:
    """Each job notes its start and its end. A job that is COMPLETED has noted both once; no other one has run."""
    kills = 60
    seed = random.randrange(1 << 32)
    print("seed", seed)
    draw = random.Random(seed)
    starts, ends = tmp_path / "starts", tmp_path / "ends"
    starts.touch()
    ends.touch()

    def work(number: int, starts: str, ends: str) -> None:
        note(starts, number)
        note(ends, number)

    driver = start_pool(work, note, concurrency=2)
    by_number: dict[int, ClaimedJob] = {}
    waiting: list[ClaimedJob] = []
    done = kill_at = 0
    deadline = time.monotonic() + 60
    while done < kills or not driver.pool.is_idle():
        assert time.monotonic() < deadline
        if done < kills:
            while len(waiting) < 600:
                number = len(by_number)
                job = by_number[number] = make_job("work", number, str(starts), str(ends))
                waiting.append(job)
        wanted = driver.pool.wanted()
        waiting = driver.pool.give(waiting[:wanted]) + waiting[wanted:]
        if done < kills and len(driver.ended) >= kill_at:
            pids = [child.pid for child in driver.pool._children if child.pid and child.is_proven]  # type: ignore[attr-defined]
            if pids:
                for _ in range(draw.randrange(200)):  # some microseconds, so that kills fall anywhere in the loop
                    pass
                with contextlib.suppress(ProcessLookupError):  # the one before has not been buried yet
                    os.kill(draw.choice(pids), signal.SIGKILL)
                done += 1
                kill_at = len(driver.ended) + draw.randrange(20, 200)
        driver.turn(longest=0.002)
        if done >= kills:
            waiting = []
    check_account(driver, by_number, noted(starts), noted(ends))


def check_account(driver: Driver, by_number: dict[int, ClaimedJob], starts: Counter[int], ends: Counter[int]) -> None:
    number_of = {job.seq: number for number, job in by_number.items()}
    recorded = Counter(number_of[ended.job.seq] for ended in driver.ended)
    assert max(recorded.values()) == 1
    assert max(starts.values()) == 1
    lost = [number_of[ended.job.seq] for ended in driver.ended if ended.end is End.LOST]
    completed = {number_of[ended.job.seq] for ended in driver.ended if ended.end is End.COMPLETED}
    assert len(lost) + len(completed) == len(driver.ended)
    # What completed has run to its end, and what has started has been recorded.
    assert all(starts[number] == ends[number] == 1 for number in completed)
    assert set(starts) <= completed | set(lost)
    # A kill loses one job at most, and all of those kills together some.
    assert 0 < len(lost) <= 60


def test_what_is_recalled_never_runs(start_pool: StartPool, tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    path.touch()
    driver = start_pool(note)
    driver.run(*[make_job("note", str(path), -1) for _ in range(200)])
    jobs = [make_job("note", str(path), number) for number in range(50)]
    rest = driver.pool.give(jobs)
    back = driver.pool.recall()
    driver.until(driver.pool.is_idle)
    kept = {ended.job.seq for ended in driver.ended}
    assert not kept & {job.seq for job in [*back, *rest]}
    assert sum(noted(path).values()) == len(driver.ended)


def test_recalled_jobs_come_back_the_most_urgent_first(start_pool: StartPool) -> None:
    def noop() -> None: ...

    driver = start_pool(noop)
    driver.run(*[make_job("noop") for _ in range(300)])
    jobs = [make_job("noop")._replace(priority=n % 3) for n in range(30)]
    driver.pool.give(jobs)
    back = driver.pool.recall()
    assert back == sorted(back, key=lambda job: (-job.priority, job.seq))
