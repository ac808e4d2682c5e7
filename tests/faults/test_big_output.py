"""Results of 100 MB, and a gigabyte on the standard streams: the worker stays small and goes on."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from workshop import Worker, Workshop, attempts, until

from gigq import ConfigurationError, JobFailed, JobState
from gigq import Worker as GigqWorker

pytestmark = pytest.mark.slow  # each starts a worker

COMPLETED, FAILED = JobState.COMPLETED, JobState.FAILED

BIG_BYTES = 100_000_000
PASSING_BYTES = 20_000_000
FLOOD_MIB = 512  # on each of the two


def most_memory(pid: int) -> int:
    """Return the most bytes of memory that a process has used so far."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("the kernel does not say")


def check_beats(workshop: Workshop, worker: Worker, before: int) -> None:
    """Check that a worker gave signs of life, and lost no lease."""

    def beat() -> int:
        (row,) = [row for row in workshop.queue.workers() if row.pid == worker.pid]
        return row.beat

    until(lambda: beat() > before)
    assert "took this worker for dead" not in worker.log
    assert "fenced" not in worker.log


def test_fault_29_a_result_over_the_limit_is_a_typed_failure_and_never_reaches_the_worker(workshop: Workshop) -> None:
    hostile = workshop.load("hostile")
    worker = workshop.work("hostile:app", concurrency=1)
    job = hostile.make_bytes.delay(BIG_BYTES)
    with pytest.raises(JobFailed, match=r"at most 67,?108,?864 bytes when pickled, got 100,?000,?0\d\d") as failed:
        job.get(30)
    assert failed.value.type == "ResultTooLarge"
    assert attempts(job) == [FAILED]
    assert len(workshop.lines("make_bytes")) == 1  # the work is done: it is not run again
    assert most_memory(worker.pid) < BIG_BYTES


def test_fault_29_a_result_below_the_limit_is_stored_while_the_worker_beats_on(workshop: Workshop) -> None:
    hostile = workshop.load("hostile")
    worker = workshop.work("hostile:app", "--result-limit", str(2 * PASSING_BYTES), concurrency=2)
    before = workshop.queue.workers()[0].beat
    workshop.work("hostile:app", "--queues", "other", concurrency=1)  # watches the first one's beat
    job, refused = hostile.make_bytes.delay(PASSING_BYTES), hostile.make_bytes.delay(3 * PASSING_BYTES)
    beside = hostile.add.map(range(50))
    assert beside.get(30) == list(range(50))
    assert len(job.get(30)) == PASSING_BYTES
    assert attempts(job) == [COMPLETED]
    with pytest.raises(JobFailed, match="ResultTooLarge"):
        refused.get(30)
    # The parts and the whole of one result, and SQLite's copy; and what a worker takes by itself.
    assert most_memory(worker.pid) < 5 * PASSING_BYTES + 60_000_000
    check_beats(workshop, worker, before)


@pytest.mark.parametrize("pool", ["process", "thread", "inline"])
def test_fault_29_the_limit_of_results_can_be_set_in_every_pool(workshop: Workshop, pool: Any) -> None:
    hostile = workshop.load("hostile")
    jobs = [hostile.make_bytes.delay(size) for size in (900, 1100)]
    GigqWorker(hostile.app, pool=pool, concurrency=1, burst=True, result_limit_bytes=1000).run()
    assert jobs[0].get(0) == bytes(900)
    with pytest.raises(JobFailed, match="ResultTooLarge: the result must be at most 1000 bytes"):
        jobs[1].get(0)


@pytest.mark.parametrize("limit", [0, -1, True, 1.5])
def test_fault_29_a_limit_that_is_none_is_refused(limit: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"result_limit_bytes must be (an int|at least 1)"):
        GigqWorker("jobs.db", result_limit_bytes=limit)


def drain(fd: int, counts: list[int]) -> None:
    while count := len(os.read(fd, 1 << 20)):
        counts.append(count)


def test_fault_30_a_gigabyte_on_the_standard_streams_passes_and_others_go_on(workshop: Workshop) -> None:
    hostile = workshop.load("hostile")
    worker = subprocess.Popen(
        [sys.executable, "-m", "gigq", "worker", "hostile:app", "-c", "3"],
        cwd=workshop.folder, env=workshop.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    counts: dict[int, list[int]] = {1: [], 2: []}
    assert worker.stdout is not None
    assert worker.stderr is not None
    readers = [
        threading.Thread(target=drain, args=(stream.fileno(), counts[number]))
        for number, stream in ((1, worker.stdout), (2, worker.stderr))
    ]
    for reader in readers:
        reader.start()
    try:
        floods = [hostile.flood.delay(number, FLOOD_MIB) for number in (1, 2)]
        beside = hostile.add.map(range(100))
        assert beside.get(30) == list(range(100))
        for flood in floods:
            assert flood.get(60) is None
            assert attempts(flood) == [COMPLETED]
        assert most_memory(worker.pid) < 150_000_000
    finally:
        worker.terminate()
        worker.wait(20)
        for reader in readers:
            reader.join(20)
        worker.stdout.close()
        worker.stderr.close()
    assert sum(counts[1]) == FLOOD_MIB << 20
    assert sum(counts[2]) - (FLOOD_MIB << 20) in range(1, 1000)  # the worker's own log is there too
