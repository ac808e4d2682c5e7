"""Children that are replaced: after so many jobs, or when they hold too much memory."""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from pool_driver import Driver, StartPool, ends, is_running, make_job, value_of

from gigq.context import current_job
from gigq.errors import ConfigurationError
from gigq.storage.leases import End
from gigq.worker import Worker
from gigq.worker.pool_choice import as_bytes
from gigq.worker.pools import limits as limits_module
from gigq.worker.pools.limits import Limits, resident_bytes

MIB = 1 << 20
_kept: list[bytes] = []

Start = Callable[..., Driver]


def whoami() -> int:
    return os.getpid()


def leak(mebibytes: int) -> int:
    _kept.append(b"x" * (mebibytes * MIB))
    return os.getpid()


async def whoami_in_loop() -> int:
    await asyncio.sleep(0)
    return os.getpid()


async def leak_in_loop(mebibytes: int) -> int:
    return leak(mebibytes)


async def wait_for(gate: str, started: str) -> int:
    Path(started, current_job().id).touch()
    while not os.path.exists(gate):
        await asyncio.sleep(0.002)
    return os.getpid()


@pytest.fixture(params=["process", "async"])
def start(request: pytest.FixtureRequest, start_pool: StartPool, start_async: StartPool) -> Start:
    """A function that starts a pool of either kind with these limits, one child."""

    def begin(**of_limits: int) -> Driver:
        if request.param == "process":
            return start_pool(whoami, leak, limits=Limits(**of_limits))
        # The same names, so that the tests need not know which pool they have.
        return start_async(whoami_in_loop, leak_in_loop, concurrency=10, limits=Limits(**of_limits))

    begin.suffix = "" if request.param == "process" else "_in_loop"  # type: ignore[attr-defined]
    return begin


def name(start: Start, task: str) -> str:
    return task + start.suffix  # type: ignore[attr-defined,no-any-return]


def test_a_process_child_runs_so_many_jobs_and_no_more(start_pool: StartPool) -> None:
    driver = start_pool(whoami, limits=Limits(max_jobs=30))
    counts = Counter(value_of(ended) for ended in driver.run(*[make_job("whoami") for _ in range(300)]))
    assert max(counts.values()) == 30
    assert 10 <= len(counts) <= 30  # those whose jobs were taken back for another child had fewer
    driver.until(lambda: not any(is_running(pid) for pid in list(counts)[:5]))


def test_children_with_loops_are_replaced_while_many_jobs_run(start_async: StartPool) -> None:
    driver = start_async(whoami_in_loop, concurrency=10, children=2, limits=Limits(max_jobs=30))
    counts = Counter(value_of(ended) for ended in driver.run(*[make_job("whoami_in_loop") for _ in range(600)]))
    assert len(counts) >= 10
    # One may go on while its predecessors end what they run, but not for long.
    assert max(counts.values()) <= 90
    assert ends(driver.ended) == ["completed"] * 600


def test_one_job_for_each_child(start: Start) -> None:
    driver = start(max_jobs=1)
    pids = [value_of(driver.run_one(make_job(name(start, "whoami")))) for _ in range(12)]
    assert len(set(pids)) == 12


def test_a_child_that_holds_too_much_memory_is_replaced_after_its_job(
    start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    limit = resident_bytes(os.getpid()) + 100 * MIB
    driver = start(max_memory_bytes=limit)
    small = {value_of(driver.run_one(make_job(name(start, "leak"), 1))) for _ in range(3)}
    assert len(small) == 1
    big = driver.run_one(make_job(name(start, "leak"), 150))
    assert {value_of(big)} == small
    after = driver.run_one(make_job(name(start, "whoami")))
    assert value_of(after) not in small
    assert "MiB of memory, above" in caplog.text
    assert {ended.end for ended in driver.ended} == {End.COMPLETED}


@pytest.mark.slow
def test_a_task_that_leaks_a_little_each_time_never_fails(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits_module, "MEASURE_NS", 0)
    driver = start(max_memory_bytes=resident_bytes(os.getpid()) + 40 * MIB)
    pids = {value_of(ended) for ended in driver.run(*[make_job(name(start, "leak"), 4) for _ in range(60)])}
    assert 3 <= len(pids) <= 20


def test_more_than_concurrency_never_run_while_a_process_child_is_replaced(
    start_pool: StartPool, tmp_path: Path
) -> None:
    lock = tmp_path / "lock"

    def alone() -> int:
        os.close(os.open(lock, os.O_CREAT | os.O_EXCL))  # fails if another one runs
        time.sleep(0.001)
        os.unlink(lock)
        return os.getpid()

    driver = start_pool(alone, limits=Limits(max_jobs=3))
    assert len({value_of(ended) for ended in driver.run(*[make_job("alone") for _ in range(30)])}) >= 10


# -- replacing a child in whose loop long jobs run


def test_a_successor_takes_the_free_slots_while_long_jobs_end_where_they_are(
    start_async: StartPool, tmp_path: Path
) -> None:
    gate, started = tmp_path / "gate", tmp_path / "started"
    started.mkdir()
    driver = start_async(wait_for, whoami_in_loop, concurrency=4, limits=Limits(max_jobs=10))
    long = [make_job("wait_for", str(gate), str(started)) for _ in range(2)]
    driver.give(*long)
    driver.until(lambda: len(os.listdir(started)) == 2)
    # With one child, and old jobs in it, there is always a place for new ones.
    pids = [value_of(ended) for ended in driver.run(*[make_job("whoami_in_loop") for _ in range(50)])]
    assert len(set(pids)) == 2
    more = [make_job("wait_for", str(gate), str(started)) for _ in range(5)]
    driver.give(*more)
    driver.until(lambda: len(os.listdir(started)) == 4)
    for _ in range(20):
        driver.turn(longest=0.005)
    assert len(os.listdir(started)) == 4  # two here, two there: as many as the concurrency allows
    gate.touch()
    first, second, *others = driver.wait(*long, *more)
    assert value_of(first) == value_of(second) == pids[0]
    assert value_of(others[0]) != pids[0]
    assert {ended.end for ended in driver.ended} == {End.COMPLETED}


def test_old_children_with_long_jobs_do_not_pile_up(start_async: StartPool, tmp_path: Path) -> None:
    gate, started = tmp_path / "gate", tmp_path / "started"
    started.mkdir()
    driver = start_async(wait_for, whoami_in_loop, concurrency=10, limits=Limits(max_jobs=5))
    long = [make_job("wait_for", str(gate), str(started)) for _ in range(8)]
    for number, job in enumerate(long, 1):
        driver.give(job)
        driver.until(lambda number=number: len(os.listdir(started)) == number)  # type: ignore[misc]
        driver.run(*[make_job("whoami_in_loop") for _ in range(10)])
        assert len(driver.pool._children) <= 3  # type: ignore[attr-defined]
    gate.touch()
    assert {ended.end for ended in driver.wait(*long)} == {End.COMPLETED}


# -- what a user says


@pytest.mark.parametrize(
    ("text", "count"),
    [("200M", 200 * MIB), ("1.5 GiB", 1536 * MIB), ("64kb", 65536), ("1000", 1000), (123, 123), ("2g", 2048 * MIB)],
)
def test_sizes(text: int | str, count: int) -> None:
    assert as_bytes("size", text) == count


@pytest.mark.parametrize("size", ["", "M", "20X", "-5M", "0", 0, -1, True, 1.5, "1e9"])
def test_sizes_that_are_none(size: object) -> None:
    with pytest.raises(ConfigurationError, match=r"max_memory_per_child must be .* such as 200M"):
        Worker("jobs.db", max_memory_per_child=size)  # type: ignore[arg-type]


@pytest.mark.parametrize("pool", ["thread", "inline"])
@pytest.mark.parametrize("option", ["max_jobs_per_child", "max_memory_per_child"])
def test_pools_without_children_refuse_limits_of_children(pool: str, option: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{option} needs child processes, which the {pool} pool"):
        Worker("jobs.db", pool=pool, **{option: 5})  # type: ignore[arg-type]


@pytest.mark.parametrize("pool", ["process", "thread", "inline"])
def test_only_the_async_pool_is_told_how_many_children_it_has(pool: str) -> None:
    with pytest.raises(ConfigurationError, match="children is for the async pool"):
        Worker("jobs.db", pool=pool, children=2)  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [0, -1, True, "2", 1.5])
@pytest.mark.parametrize("option", ["children", "max_jobs_per_child"])
def test_counts_that_are_none(option: str, value: object) -> None:
    with pytest.raises(ConfigurationError, match=f"{option} must be"):
        Worker("jobs.db", pool="async", **{option: value})  # type: ignore[arg-type]


def test_defaults_of_the_async_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    from gigq.worker import pool_choice

    monkeypatch.setattr(pool_choice, "usable_cpus", lambda: 3)
    assert Worker("jobs.db", pool="async").concurrency == 300
    assert Worker("jobs.db", pool="async", children=2).concurrency == 200
    choice = Worker("jobs.db", pool="async", concurrency=2)._choice
    assert (choice.concurrency, choice.children) == (2, 2)
