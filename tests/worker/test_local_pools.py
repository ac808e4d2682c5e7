"""The thread pool and the inline pool; and what all pools have in common, with the others too."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from pool_driver import Driver, FakeApp, descriptors, ends, failure_of, make_job, poll_until, value_of

from gigq.context import current_job
from gigq.storage.leases import End
from gigq.worker.pools.asyncio import AsyncPool
from gigq.worker.pools.base import Pool
from gigq.worker.pools.inline import InlinePool
from gigq.worker.pools.process import ProcessPool
from gigq.worker.pools.thread import ThreadPool

release = threading.Event()


def add(a: int, b: int = 1) -> int:
    return a + b


def wait() -> None:
    release.wait(20)


def where() -> str:
    return threading.current_thread().name


async def who() -> str:
    await asyncio.sleep(0)
    return current_job().id


def fail() -> None:
    raise ValueError("no")


def leave() -> None:
    sys.exit(3)


def sleep(seconds: float) -> str:
    time.sleep(seconds)
    return "slept"


def report() -> None:
    current_job().progress(0.5, "half")


APP = FakeApp(add, wait, where, who, fail, leave, sleep, report)


def thread_pool(concurrency: int = 2, **options: Any) -> ThreadPool:
    return ThreadPool(APP, url=None, concurrency=concurrency, **options)


@pytest.fixture
def threads() -> Iterator[Driver]:
    release.clear()
    pool = thread_pool()
    pool.start()
    yield Driver(pool)
    release.set()
    pool.stop()


POOLS: dict[str, Callable[[], Pool]] = {
    "thread": thread_pool,
    "inline": lambda: InlinePool(APP, url=None),
    "process": lambda: ProcessPool(APP, url=None, concurrency=2),
    "async": lambda: AsyncPool(APP, url=None, concurrency=5, children=2),
}


@pytest.fixture
def driver(request: pytest.FixtureRequest) -> Iterator[Driver]:
    pool = POOLS[request.param]()
    hello = pool.start()
    assert "add" in hello.tasks
    yield Driver(pool)
    pool.stop()


of_all_pools = pytest.mark.parametrize("driver", POOLS, indirect=True)


@of_all_pools
def test_jobs_run_and_report(driver: Driver) -> None:
    all_ended = driver.run(*[make_job("add", n) for n in range(50)])
    assert [value_of(ended) for ended in all_ended] == list(range(1, 51))
    assert driver.pool.is_idle()


@of_all_pools
def test_coroutines_run_in_the_context_of_their_job(driver: Driver) -> None:
    job = make_job("who")
    assert value_of(driver.run_one(job)) == job.id


@of_all_pools
def test_functions_travel_with_their_jobs(driver: Driver) -> None:
    assert value_of(driver.run_one(make_job(lambda: 42, by_value=True))) == 42


@of_all_pools
def test_a_failure_ends_its_own_job_alone(driver: Driver) -> None:
    all_ended = driver.run(make_job("fail"), make_job("leave"), make_job("add", 1))
    assert ends(all_ended) == ["failed", "failed", "completed"]
    assert failure_of(all_ended[0]).message == "no"
    assert [ended.retryable for ended in all_ended] == [True, True, False]


@of_all_pools
def test_progress_is_told(driver: Driver) -> None:
    driver.run_one(make_job("report"))
    assert [(p.fraction, p.message) for p in driver.progress] == [(0.5, "half")]


@pytest.mark.parametrize("kind", ["thread", "inline"])
@pytest.mark.parametrize("soft", [False, True])
def test_tasks_with_a_timeout_are_left_to_workers_that_can_stop_them(
    kind: str, soft: bool, caplog: pytest.LogCaptureFixture
) -> None:
    app = FakeApp(add, fail)
    app.tasks["fail"] = replace(app.tasks["fail"], timeout=30.0)
    pool: Pool = (
        ThreadPool(app, url=None, concurrency=1, soft_timeouts=soft)
        if kind == "thread"
        else InlinePool(app, url=None, soft_timeouts=soft)
    )
    known = pool.start().tasks
    pool.stop()
    assert sorted(known) == (["add", "fail"] if soft else ["add"])
    assert ("left to other workers" in caplog.text) is not soft


@pytest.mark.parametrize("driver", ["thread", "inline"], indirect=True)
def test_a_timeout_that_a_caller_gave_and_that_cannot_be_enforced_fails_the_job(driver: Driver) -> None:
    ended = driver.run_one(make_job("add", 1, timeout=5))
    assert ended.end is End.FAILED
    assert ended.started_at is None
    assert "soft_timeouts=True" in failure_of(ended).message


@pytest.mark.parametrize("kind", ["thread", "inline"])
def test_a_soft_timeout_is_recorded_when_the_job_returns(kind: str) -> None:
    pool: Pool = thread_pool(soft_timeouts=True) if kind == "thread" else InlinePool(APP, url=None, soft_timeouts=True)
    pool.start()
    driver = Driver(pool)
    late, early = driver.run(make_job("sleep", 0.03, timeout=0.02), make_job("sleep", 0, timeout=5))
    pool.stop()
    assert late.end is End.TIMED_OUT
    assert late.result is None
    assert failure_of(late).message == "ran longer than its timeout of 0.02 s"
    assert early.end is End.COMPLETED


def test_each_thread_takes_one_job(threads: Driver) -> None:
    pool = threads.pool
    assert pool.wanted() == 2
    jobs = [make_job("wait") for _ in range(3)]
    assert pool.give(jobs) == jobs[2:]
    assert pool.wanted() == 0
    assert not pool.is_idle()
    release.set()
    threads.until(pool.is_idle)
    assert pool.wanted() == 2


def test_jobs_run_in_threads_of_the_pool(threads: Driver) -> None:
    assert value_of(threads.run_one(make_job("where"))).startswith("gigq-worker-")


def test_nothing_that_escapes_from_a_job_ends_its_thread(threads: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    def break_down(*args: object) -> None:
        raise SystemExit("a mistake of ours")

    with monkeypatch.context() as patch:
        patch.setattr("gigq.worker.execute.Executor.execute", break_down)
        ended = [threads.run_one(make_job("add", 1)) for _ in range(5)]
    assert {failure_of(end).type for end in ended} == {"SystemExit"}
    assert value_of(threads.run_one(make_job("add", 1))) == 2


def test_a_running_job_cannot_be_cancelled(threads: Driver) -> None:
    job = make_job("wait")
    threads.pool.give([job])
    poll_until(lambda: threads.pool._running == 1)  # type: ignore[attr-defined]
    threads.pool.cancel([(job.seq, job.claims)])
    threads.pool.kill()
    release.set()
    threads.until(threads.pool.is_idle)
    assert ends(threads.ended) == ["completed"]


def test_a_thread_that_does_not_end_does_not_keep_the_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    from gigq.worker.pools import thread

    monkeypatch.setattr(thread, "STOP_SECONDS", 0.05)
    release.clear()
    before = descriptors()
    pool = thread_pool(1)
    pool.start()
    pool.give([make_job("wait")])
    poll_until(lambda: pool._running == 1)
    pool.stop()
    assert descriptors() == before
    release.set()
    poll_until(lambda: pool._running == 0)


def test_the_inline_pool_runs_in_the_calling_thread() -> None:
    pool = InlinePool(APP, url=None)
    pool.start()
    jobs = [make_job("where"), make_job("where")]
    assert pool.wanted() == 1
    assert pool.give(jobs) == jobs[1:]
    assert pool.wanted() == 0
    assert pool.give(jobs[1:]) == jobs[1:]
    (ended,) = pool.events()
    assert value_of(ended) == threading.current_thread().name
    assert pool.wanted() == 1
    pool.stop()
    assert os.getpid()
