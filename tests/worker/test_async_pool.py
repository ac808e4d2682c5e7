"""The pool of event loops in good times: many jobs at once, plain functions beside them."""

from __future__ import annotations

import asyncio
import functools
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from pool_driver import Driver, FakeApp, StartPool, descriptors, ends, failure_of, is_running, make_job, value_of

from gigq.context import current_job
from gigq.job import Job
from gigq.queue import JobQueue
from gigq.retry import Retry
from gigq.storage.leases import ClaimedJob, ClaimRequest, End, Outcome
from gigq.storage.rows import BY_VALUE
from gigq.testing.harness import worker_row
from gigq.worker.pools.asyncio import AsyncPool


async def noop() -> None: ...


async def double(n: int) -> int:
    await asyncio.sleep(0)
    return 2 * n


async def wait_for(gate: str, started: str = "") -> int:
    """Wait until the file `gate` exists; leave a mark in the folder `started`."""
    if started:
        Path(started, current_job().id).touch()
    while not os.path.exists(gate):
        await asyncio.sleep(0.002)
    return os.getpid()


def plain(n: int) -> int:
    return 2 * n


def started_in(driver: Driver, folder: Path, count: int) -> None:
    driver.until(lambda: len(os.listdir(folder)) >= count)


def test_jobs_get_their_own_results(start_async: StartPool) -> None:
    driver = start_async(double, plain, children=2)
    jobs = [make_job("double" if n % 3 else "plain", n) for n in range(300)]
    assert [value_of(ended) for ended in driver.run(*jobs)] == [2 * n for n in range(300)]
    assert driver.pool.is_idle()


@pytest.mark.parametrize(("concurrency", "children"), [(12, 2), (5, 2), (3, 1)])
def test_as_many_run_at_once_as_there_are_slots_and_no_more(
    start_async: StartPool, tmp_path: Path, concurrency: int, children: int
) -> None:
    gate, started = tmp_path / "gate", tmp_path / "started"
    started.mkdir()
    driver = start_async(wait_for, noop, concurrency=concurrency, children=children)
    driver.run(*[make_job("noop") for _ in range(50)])  # short ones, so that some are handed out ahead
    jobs = [make_job("wait_for", str(gate), str(started)) for _ in range(concurrency + 7)]
    driver.give(*jobs)
    started_in(driver, started, concurrency)
    driver.until(lambda: driver.pool.wanted() == 0)
    for _ in range(20):
        driver.turn(longest=0.005)
    assert len(os.listdir(started)) == concurrency
    gate.touch()
    pids = Counter(value_of(ended) for ended in driver.wait(*jobs))
    assert len(pids) == children


def test_what_waits_behind_running_jobs_can_be_taken_back_and_never_runs(
    start_async: StartPool, tmp_path: Path
) -> None:
    gate, started = tmp_path / "gate", tmp_path / "started"
    started.mkdir()
    driver = start_async(wait_for, noop, concurrency=4)
    driver.run(*[make_job("noop") for _ in range(50)])
    jobs = [make_job("wait_for", str(gate), str(started))._replace(priority=n % 3) for n in range(30)]
    rest = driver.pool.give(jobs)
    started_in(driver, started, 4)
    back = driver.pool.recall()
    assert {job.seq for job in [*back, *rest]} == {job.seq for job in jobs[4:]}
    assert back == sorted(back, key=lambda job: (-job.priority, job.seq))
    gate.touch()
    driver.until(driver.pool.is_idle)
    assert {ended.job.seq for ended in driver.ended[50:]} == {job.seq for job in jobs[:4]}
    assert len(os.listdir(started)) == 4


def test_each_coroutine_has_its_own_job_and_progress(start_async: StartPool) -> None:
    async def report(number: int) -> str:
        current_job().progress(number / 100, f"at {number}")
        await asyncio.sleep(0.005)
        return current_job().id

    driver = start_async(report)
    jobs = [make_job("report", number) for number in range(20)]
    assert [value_of(ended) for ended in driver.run(*jobs)] == [job.id for job in jobs]
    assert {(p.job.seq, p.message) for p in driver.progress} == {
        (job.seq, f"at {number}") for number, job in enumerate(jobs)
    }


def test_a_flood_of_progress_is_thinned(start_async: StartPool) -> None:
    async def flood() -> None:
        for step in range(10_000):
            current_job().progress(step / 10_000)

    driver = start_async(flood)
    driver.run_one(make_job("flood"))
    assert 2 <= len(driver.progress) < 500


def test_failures_and_retries_are_those_of_their_job_alone(start_async: StartPool) -> None:
    async def fail() -> None:
        raise ValueError("no")

    async def again() -> None:
        raise Retry(delay=7)

    async def leave() -> None:
        sys.exit(3)

    async def wrong(a: int) -> None: ...

    driver = start_async(fail, again, leave, wrong, double)
    failed, retried, left, misfit, good = driver.run(*map(make_job, ["fail", "again", "leave"]), make_job("wrong"),
                                                     make_job("double", 4))  # fmt: skip
    assert failure_of(failed)[:2] == ("ValueError", "no")
    assert retried.retryable
    assert retried.retry_delay == 7
    assert failure_of(left).type == "SystemExit"
    assert "expected" in failure_of(misfit).message
    assert not misfit.retryable
    assert value_of(good) == 8
    assert len({ended.pid for ended in driver.ended}) == 1


# -- plain functions


def test_plain_functions_run_in_threads_and_do_not_hold_the_loop(start_async: StartPool, tmp_path: Path) -> None:
    gate = tmp_path / "gate"

    def block() -> tuple[str, bool]:
        while not gate.exists():
            time.sleep(0.002)
        return current_job().id, threading.current_thread() is threading.main_thread()

    driver = start_async(block, noop, concurrency=10)
    jobs = [make_job("block") for _ in range(9)]
    driver.give(*jobs)
    driver.run(*[make_job("noop") for _ in range(30)])
    assert len(driver.ended) == 30
    gate.touch()
    assert [value_of(ended) for ended in driver.wait(*jobs)] == [(job.id, False) for job in jobs]


def test_threads_are_used_again(start_async: StartPool) -> None:
    def ident() -> int:
        return threading.get_ident()

    driver = start_async(ident)
    assert len({value_of(driver.run_one(make_job("ident"))) for _ in range(5)}) == 1


def test_progress_from_a_plain_function(start_async: StartPool) -> None:
    def report() -> None:
        current_job().progress(0.5, "half")

    driver = start_async(report)
    driver.run_one(make_job("report"))
    assert [p.message for p in driver.progress] == ["half"]


def test_a_plain_function_that_returns_a_coroutine(start_async: StartPool) -> None:
    def make(n: int) -> Any:
        return double(n)

    assert value_of(start_async(make).run_one(make_job("make", 21))) == 42


@pytest.mark.parametrize("function", [lambda n: 2 * n, double, functools.partial(double)])
def test_functions_travel_with_their_jobs(start_async: StartPool, function: Any) -> None:
    assert value_of(start_async().run_one(make_job(function, 21, by_value=True))) == 42


def test_an_unknown_task_is_a_failure(start_async: StartPool) -> None:
    assert failure_of(start_async(noop).run_one(make_job("nothing"))).type == "TaskNotFound"


def test_big_arguments_and_outputs_are_read_from_the_database(start_async: StartPool, tmp_path: Path) -> None:
    queue = JobQueue(tmp_path / "jobs.db")
    storage = queue.storage
    parent = Job(function=plain, params={"n": 1})
    queue.submit(parent)
    queue.submit(Job(function=double, params={"n": parent.output}))
    storage.register(worker_row("w1", 0.0))
    driver = start_async(url=storage.url)
    results = []
    for _ in range(2):
        (job,) = _claim(storage)
        ended = driver.run_one(job._replace(arguments=None))
        results.append(value_of(ended))
        storage.finish(
            "w1",
            [Outcome(job.seq, job.id, job.claims, job.attempt, ended.end, ended.started_at, 0.0, result=ended.result)],
        )
    queue.close()
    assert results == [2, 4]


def _claim(storage: Any) -> list[ClaimedJob]:
    claimed: list[ClaimedJob] = storage.claim(ClaimRequest("w1", 1, [BY_VALUE])).jobs
    return claimed


# -- what jobs do to their loop


def test_a_job_that_cancels_all_tasks_fails_its_neighbours_but_ends_no_thread(
    start_async: StartPool, tmp_path: Path
) -> None:
    gate, started = tmp_path / "gate", tmp_path / "started"
    started.mkdir()

    async def cancel_all() -> None:
        for task in asyncio.all_tasks():
            if task is not asyncio.current_task():
                task.cancel()

    def block() -> str:
        Path(started, current_job().id).touch()
        while not gate.exists():
            time.sleep(0.002)
        return "done"

    driver = start_async(cancel_all, wait_for, block)
    blocked, waiting = make_job("block"), make_job("wait_for", str(gate), str(started))
    driver.give(blocked, waiting)
    started_in(driver, started, 2)
    assert driver.run_one(make_job("cancel_all")).end is End.COMPLETED
    (ended,) = driver.wait(waiting)
    assert (ended.end, failure_of(ended).type, ended.retryable) == (End.FAILED, "CancelledError", True)
    gate.touch()
    assert value_of(*driver.wait(blocked)) == "done"


def test_a_loop_that_is_stopped_by_a_job_goes_on(start_async: StartPool, tmp_path: Path) -> None:
    gate = tmp_path / "gate"

    async def stop() -> None:
        asyncio.get_running_loop().stop()
        await asyncio.sleep(0)

    async def exit_in_a_task() -> None:
        async def leave() -> None:
            sys.exit(1)

        task = asyncio.create_task(leave())
        await asyncio.wait([task])
        task.exception()

    driver = start_async(stop, exit_in_a_task, wait_for, noop)
    waiting = make_job("wait_for", str(gate))
    driver.give(waiting)
    assert ends(driver.run(make_job("stop"), make_job("exit_in_a_task"), make_job("noop"))) == ["completed"] * 3
    gate.touch()
    assert value_of(*driver.wait(waiting)) == driver.ended[0].pid


def test_a_forked_copy_of_a_job_takes_no_part(start_async: StartPool) -> None:
    async def fork() -> int:
        return os.fork()  # the copy returns from the function as well

    async def fork_and_wait() -> None:
        os.fork()
        await asyncio.sleep(0.02)

    driver = start_async(fork, fork_and_wait, noop)
    jobs = [make_job(name) for name in ["fork", "noop", "fork_and_wait", "noop"] * 3]
    assert {ended.end for ended in driver.run(*jobs)} == {End.COMPLETED}
    assert len(driver.ended) == len(jobs)


# -- hygiene


def test_nothing_is_left_after_stop() -> None:
    before = descriptors()
    pool = AsyncPool(FakeApp(wait_for), url=None, concurrency=10, children=2)
    pool.start()
    driver = Driver(pool)
    pids = {value_of(ended) for ended in driver.run(*[make_job("wait_for", "/") for _ in range(50)])}
    pool.stop()
    assert descriptors() == before
    assert not any(is_running(pid) for pid in pids)


def test_an_idle_pool_does_not_turn(start_async: StartPool) -> None:
    driver = start_async(noop)
    driver.run_one(make_job("noop"))
    assert driver.pool.tend() is None
    assert driver.pool.events() == []


def test_only_who_needs_asyncio_imports_it(tmp_path: Path) -> None:
    """Neither submitters nor supervisors, of any pool; nor children that run no coroutine."""
    script = tmp_path / "program.py"
    script.write_text(
        "import sys\n"
        "import gigq\n"
        "from gigq.worker import Worker\n"
        "from pool_driver import *\n"
        "from gigq.worker.pools.process import ProcessPool\n"
        "def loaded():\n"
        "    return 'asyncio' in sys.modules\n"
        "pool = ProcessPool(FakeApp(loaded), url=None, concurrency=1)\n"
        "pool.start()\n"
        "assert value_of(Driver(pool).run_one(make_job('loaded'))) is False\n"
        "pool.stop()\n"
        "assert not loaded()\n"
    )
    path = os.pathsep.join([os.path.dirname(__file__), os.getcwd()])
    environment = {**os.environ, "PYTHONPATH": path}
    done = subprocess.run(
        [sys.executable, str(script)], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
