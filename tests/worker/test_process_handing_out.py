"""How many jobs a pool of processes takes, and how big they may be."""

from __future__ import annotations

import os
import time
from pathlib import Path

from pool_driver import (
    StartPool,
    failure_of,
    make_job,
    value_of,
)

from gigq.job import Job
from gigq.queue import JobQueue
from gigq.storage.leases import ClaimRequest, Outcome
from gigq.storage.rows import BY_VALUE
from gigq.testing.harness import worker_row


def add(a: int, b: int = 1) -> int:
    return a + b


def test_one_job_is_handed_out_while_its_duration_is_unknown(start_pool: StartPool) -> None:
    pool = start_pool(add, concurrency=2).pool
    assert pool.wanted() == 2
    jobs = [make_job("add", n) for n in range(5)]
    assert pool.give(jobs) == jobs[2:]
    assert pool.wanted() == 0


def test_short_jobs_are_handed_out_far_ahead(start_pool: StartPool) -> None:
    driver = start_pool(add)
    driver.run(*[make_job("add", n) for n in range(300)])
    assert driver.pool.wanted() > 20
    jobs = [make_job("add", n) for n in range(2000)]
    rest = driver.pool.give(jobs)
    assert 2000 - 256 <= len(rest) < 2000 - 10
    assert rest == jobs[2000 - len(rest) :]


def test_nothing_is_wanted_while_all_children_run_long_jobs(start_pool: StartPool) -> None:
    def wait(path: str) -> None:
        while not os.path.exists(path):
            time.sleep(0.001)

    driver = start_pool(wait, add, concurrency=2)
    driver.run(*[make_job("add", n) for n in range(300)])
    driver.give(make_job("wait", "/nowhere"), make_job("wait", "/nowhere"))
    driver.until(lambda: driver.pool.wanted() == 0)
    assert driver.pool.give([make_job("add", 1)]) != []


def test_big_arguments_pass_through_a_small_pipe(start_pool: StartPool) -> None:
    def size(data: bytes) -> int:
        return len(data)

    driver = start_pool(size, concurrency=2)
    jobs = [make_job("size", bytes(30_000)) for _ in range(500)]
    assert {value_of(ended) for ended in driver.run(*jobs)} == {30_000}


def test_a_result_just_below_the_limit_arrives_and_one_above_does_not(start_pool: StartPool) -> None:  # fault 29
    def make(count: int) -> bytes:
        return b"x" * count

    driver = start_pool(make, result_limit_bytes=3_000_000)
    fits, too_big = driver.run(make_job("make", 2_999_000), make_job("make", 3_000_001))
    assert len(value_of(fits)) == 2_999_000
    assert failure_of(too_big).type == "ResultTooLarge"


def test_children_read_big_arguments_and_outputs_from_the_database(start_pool: StartPool, tmp_path: Path) -> None:
    queue = JobQueue(tmp_path / "jobs.db")
    storage = queue.storage
    parent = Job(function=add, params={"a": 1})
    queue.submit(parent)
    queue.submit(Job(function=add, params={"a": 20, "b": parent.output}))
    storage.register(worker_row("w1", 0.0))
    driver = start_pool(url=storage.url)
    request = ClaimRequest("w1", 1, [BY_VALUE])
    results = []
    for _ in range(2):
        (job,) = storage.claim(request).jobs
        ended = driver.run_one(job._replace(arguments=None))
        results.append(value_of(ended))
        outcome = Outcome(
            job.seq, job.id, job.claims, job.attempt, ended.end, ended.started_at, 0.0, result=ended.result
        )
        storage.finish("w1", [outcome])
    queue.close()
    assert results == [2, 22]
