"""Callers in many threads, and in event loops."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from gigq import App, JobFailed, JobNotFound, JobState, SchemaTooNew
from gigq.storage.sqlite import schema

LONGEST_BLOCK_SECONDS = 0.05  # for which an event loop may stand still
LOCKED_SECONDS = 0.5


def double(number: int) -> int:
    return number * 2


@pytest.mark.slow
def test_threads_share_one_app_and_every_call_is_counted(app: App, hand: Any) -> None:
    task = app.task(double)
    start = threading.Barrier(32)
    ids: list[str] = []
    errors: list[BaseException] = []

    def call(number: int) -> None:
        try:
            start.wait(10)
            for _ in range(20):
                job = task.delay(number)
                assert job.state is JobState.PENDING
                ids.append(job.id)
            ids.extend(job.id for job in task.map(range(10)))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=call, args=(number,)) for number in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert errors == []
    assert len(set(ids)) == 32 * 30
    assert app.queue.stats()[JobState.PENDING] == 32 * 30


@contextmanager
def locked(path: Path, seconds: float) -> Iterator[threading.Event]:
    """Hold the write lock from another connection for a time, in a thread of its own."""
    taken, released = threading.Event(), threading.Event()

    def hold() -> None:
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        taken.set()
        time.sleep(seconds)  # not synchronisation: the length of the lock is what is tested
        other.execute("ROLLBACK")
        other.close()
        released.set()

    thread = threading.Thread(target=hold)
    thread.start()
    assert taken.wait(10)
    yield released
    thread.join(10)


@asynccontextmanager
async def measured_blocks() -> AsyncIterator[list[float]]:
    """Measure for how long the loop stands still, by a task that wants to run every millisecond."""
    blocks: list[float] = []

    async def tick() -> None:
        while True:
            before = time.perf_counter()
            await asyncio.sleep(0.001)
            blocks.append(time.perf_counter() - before - 0.001)

    ticker = asyncio.create_task(tick())
    await asyncio.sleep(0.01)
    yield blocks
    ticker.cancel()


@pytest.mark.slow
def test_an_event_loop_goes_on_while_the_database_is_locked(app: App, hand: Any, tmp_path: Path) -> None:
    task = app.task(double)
    done = task.delay(1)
    hand.run()

    async def main() -> None:
        with locked(tmp_path / "jobs.db", LOCKED_SECONDS) as released:
            async with measured_blocks() as blocks:
                jobs = await asyncio.gather(*(task.adelay(number) for number in range(20)), done)
                assert released.is_set()  # the submissions did wait for the lock
            assert len(blocks) > 50
            assert max(blocks) < LONGEST_BLOCK_SECONDS
        assert jobs[-1] == 2
        assert {job.state for job in jobs[:-1]} == {JobState.PENDING}

    asyncio.run(main())
    assert hand.stored() == 21


def test_awaiting_a_job_gives_its_result_or_raises(app: App, hand: Any) -> None:
    task = app.task(double)

    async def main() -> None:
        good, bad = await task.adelay(4), await task.adelay(5)
        waiting = [asyncio.ensure_future(_wait(job)) for job in (good, good, bad)]
        await asyncio.sleep(0)
        await asyncio.to_thread(hand.run)
        await asyncio.to_thread(hand.fail, ValueError("no"))
        first, second, third = await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), 10)
        assert (first, second) == (8, 8)
        assert isinstance(third, JobFailed)
        with pytest.raises(TypeError):
            await task.adelay()  # type: ignore[call-arg]

    asyncio.run(main())


async def _wait(job: Any) -> Any:
    return await job


def test_an_awaited_job_that_is_pruned_is_not_waited_for_for_ever(app: App, hand: Any) -> None:
    job = app.task(double).delay(1)
    app.task(double).delay(2)
    job.cancel()
    app.queue.prune(older_than=0)

    async def main() -> None:
        with pytest.raises(JobNotFound):
            await asyncio.wait_for(_wait(job), 10)

    asyncio.run(main())


def test_giving_up_an_awaited_job_leaves_the_others(app: App, hand: Any) -> None:
    task = app.task(double)
    first, second = task.delay(1), task.delay(2)

    async def main() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(_wait(second), 0.01)
        waiting = asyncio.ensure_future(_wait(first))
        await asyncio.to_thread(hand.run)
        assert await asyncio.wait_for(waiting, 10) == 2

    asyncio.run(main())


def test_one_app_serves_one_event_loop_after_another(app: App, hand: Any) -> None:
    task = app.task(double)
    for number in range(3):

        async def main(number: int = number) -> int:
            job = await task.adelay(number)
            await asyncio.to_thread(hand.run)
            return await asyncio.wait_for(_wait(job), 10)

        assert asyncio.run(main()) == number * 2


def test_trouble_with_the_database_reaches_whoever_awaits(app: App, tmp_path: Path) -> None:
    job = app.task(double).delay(1)
    app.queue.close()
    with sqlite3.connect(tmp_path / "jobs.db") as other:
        other.execute("INSERT INTO gigq_migrations VALUES (?, ?, 0)", (len(schema.MIGRATIONS) + 1,) * 2)
    other.close()

    async def main() -> None:
        with pytest.raises(SchemaTooNew):
            await asyncio.wait_for(_wait(job), 10)

    asyncio.run(main())
