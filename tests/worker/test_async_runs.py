"""A worker with event loops as a whole: real processes on a real database."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pool_driver import poll_until

from gigq import App, Job, JobCancelled, JobState, JobTimedOut, Worker, current_job


@pytest.fixture
def app(tmp_path: Path) -> Iterator[App]:
    app = App(tmp_path / "jobs.db")
    yield app
    app.queue.close()


def started(job: Job[Any]) -> bool:
    return job.progress is not None and job.progress[0] == 0.5


async def report_and_sleep(seconds: float) -> int:
    current_job().progress(0.5)
    await asyncio.sleep(seconds)
    return current_job().attempt


@pytest.mark.slow
def test_a_killed_child_costs_each_job_in_it_one_attempt_and_all_complete(app: App, tmp_path: Path) -> None:
    ledger = tmp_path / "pids"

    @app.task(max_attempts=2)
    async def sleep_once() -> int:
        if current_job().attempt == 1:
            with ledger.open("a") as file:  # one short line: O_APPEND writes it as a whole
                file.write(f"{os.getpid()}\n")
            await asyncio.sleep(60)
        return current_job().attempt

    @app.task
    async def add(n: int) -> int:
        await asyncio.sleep(0.001)
        return n + 1

    with Worker(app, pool="async", concurrency=40, children=2):
        sleeping = [sleep_once.delay() for _ in range(20)]
        poll_until(lambda: ledger.exists() and len(ledger.read_text().splitlines()) == 20)
        others = add.map(range(300))
        for pid in set(map(int, ledger.read_text().split())):
            os.kill(pid, signal.SIGKILL)
        assert [job.get(timeout=15) for job in sleeping] == [2] * 20
        assert others.get(timeout=15) == [n + 1 for n in range(300)]
    for job in sleeping:
        first, second = job.executions
        assert (first.state, second.state) == (JobState.FAILED, JobState.COMPLETED)
        assert "killed by signal 9 (SIGKILL)" in (first.error or "")
    # What had not begun has lost nothing; of the others a few may have been running.
    again = Counter(len(job.executions) for job in others)
    assert again[1] >= 300 - 40
    assert set(again) <= {1, 2}


@pytest.mark.slow
def test_deadlines_and_cancels_hit_their_job_alone(app: App) -> None:
    task = app.task(report_and_sleep)
    with Worker(app, pool="async", concurrency=10, children=1):
        beside, cancelled = task.delay(1.5), task.delay(60)
        overdue = task.options(timeout=0.3).delay(60)
        poll_until(lambda: started(cancelled))
        cancelled.cancel()
        with pytest.raises(JobCancelled):
            cancelled.get(timeout=10)
        with pytest.raises(JobTimedOut, match=r"longer than its timeout of 0.3 s"):
            overdue.get(timeout=10)
        assert beside.get(timeout=10) == 1


@pytest.mark.slow
def test_a_late_priority_overtakes_what_has_not_started(app: App) -> None:
    @app.task
    async def short() -> float:
        begun = time.monotonic()
        await asyncio.sleep(0.02)
        return begun

    with Worker(app, pool="async", concurrency=4, children=1):
        jobs = [short.delay() for _ in range(300)]
        jobs[0].get(timeout=10)
        urgent = short.options(priority=9).delay()
        begun = urgent.get(timeout=10)
        later = sum(job.get(timeout=20) > begun for job in jobs)
    assert later > 100


@pytest.mark.slow
def test_stopping_gives_back_what_still_runs_without_costing_an_attempt(app: App) -> None:
    task = app.task(report_and_sleep)
    with Worker(app, pool="async", concurrency=3, children=1, drain=0.1):
        jobs = [task.delay(60) for _ in range(5)]
        poll_until(lambda: sum(map(started, jobs)) == 3)
    assert [job.state for job in jobs] == [JobState.PENDING] * 5
    assert [job.attempts for job in jobs] == [0] * 5


@pytest.mark.slow
def test_children_are_replaced_under_load_and_every_job_runs_once(app: App, tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"

    @app.task
    async def note(n: int) -> int:
        with ledger.open("a") as file:
            file.write(f"{n}\n")
        await asyncio.sleep(0.001)
        return os.getpid()

    jobs = note.map(range(500))
    Worker(app, pool="async", concurrency=20, children=2, max_jobs_per_child=50, burst=True).run()
    assert len(set(jobs.get(timeout=1))) >= 5
    assert sorted(map(int, ledger.read_text().split())) == list(range(500))
    assert {len(job.executions) for job in jobs} == {1}


@pytest.mark.slow
def test_payloads_are_signed_as_in_other_pools(tmp_path: Path) -> None:
    app = App(tmp_path / "jobs.db", secret_key="0123456789-the-secret-of-this-test")

    @app.task
    async def nothing() -> None:
        await asyncio.sleep(0)

    @app.task
    async def double(n: int) -> int:
        await asyncio.sleep(0)
        return 2 * n

    @app.task
    def plain(n: int) -> int:
        return n + 1

    with Worker(app, pool="async", concurrency=3, children=1):
        assert double.delay(10).then(plain).get(timeout=10) == 21
        assert nothing.delay().get(timeout=10) is None
    app.queue.close()
