"""What a claim costs, in steps of SQLite's virtual machine: not the machine's speed, and not a plan's wording."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from gigq.storage.leases import ClaimRequest, End
from gigq.storage.sqlite import SqliteStorage
from gigq.testing.clock import FakeClock
from gigq.testing.harness import TASK, Harness, new_job, outcome


def _fill(storage: SqliteStorage, count: int) -> None:
    """Store a mix: ready in two queues, of tasks nobody knows, waiting for their time or for a job that never runs."""
    blocker = new_job(task="nobody.knows")
    storage.submit([blocker])
    for start in range(0, count, 10_000):
        batch = []
        for number in range(start, min(start + 10_000, count)):
            kind = number % 5
            batch.append(
                new_job(
                    task="nobody.knows" if kind == 0 else TASK,
                    queue="ab"[number % 2],
                    priority=number % 7,
                    delay=1000.0 + number if kind == 1 else None,
                    parents=[blocker.id] if kind == 2 else (),
                )
            )
        storage.submit(batch)


def _steps(storage: SqliteStorage, act: Callable[[], object]) -> int:
    count = 0

    def step() -> int:
        nonlocal count
        count += 1
        return 0

    storage._database.read(lambda db: db.set_progress_handler(step, 1))
    act()
    storage._database.read(lambda db: db.set_progress_handler(None, 0))
    return count


@pytest.mark.slow
def test_claims_and_ends_cost_the_same_with_a_thousand_and_with_fifty_thousand_jobs(tmp_path: Path) -> None:
    costs = []
    for count in (1_000, 50_000):
        clock = FakeClock()
        storage = SqliteStorage(tmp_path / f"{count}.db", durability="process", now=clock.now)
        _fill(storage, count)
        request = ClaimRequest("w1", 16, (TASK,))
        harness = Harness(storage, clock)
        harness.claim(limit=16)
        jobs = harness.claim(limit=16)
        ends = [outcome(job, End.FAILED, clock.now(), reason="boom", retry_in=5) for job in jobs]
        costs.append(
            (
                _steps(storage, lambda: storage.claim(request)),  # noqa: B023  # called at once
                _steps(storage, lambda: storage.finish("w1", ends, request)),  # noqa: B023
                _steps(storage, lambda: storage.rescue("nobody", "silent")),  # noqa: B023
                _steps(storage, lambda: storage.heartbeat("w1")),  # noqa: B023
            )
        )
        assert len(storage.claim(request).jobs) == 16
        storage.close()
    few, many = costs
    for cost_of_few, cost_of_many in zip(few, many, strict=True):
        assert cost_of_many <= cost_of_few * 1.1, f"{few} → {many} steps"


@pytest.mark.slow
def test_a_claim_costs_as_much_as_there_are_lanes_and_not_as_each_of_them_could_give(tmp_path: Path) -> None:
    costs = []
    for lanes, each in ((300, 1), (300, 20)):
        storage = SqliteStorage(tmp_path / f"{each}.db", durability="process")
        storage.submit([new_job(queue=f"q{number % lanes}") for number in range(lanes * each)])
        Harness(storage, FakeClock())  # registers the workers
        costs.append(_steps(storage, lambda: storage.claim(ClaimRequest("w1", 8, (TASK,)))))  # noqa: B023
        storage.close()
    one, twenty = costs
    assert twenty <= one * 1.1
    assert one < 300 * 60  # the jobs of 8 lanes are looked at, not those of all


@pytest.mark.slow
def test_a_worker_that_names_its_queue_does_not_pay_for_the_others(tmp_path: Path) -> None:
    costs = []
    for lanes in (1, 1000):
        storage = SqliteStorage(tmp_path / f"{lanes}.db", durability="process")
        storage.submit([new_job(queue=f"q{number}") for number in range(lanes)])
        Harness(storage, FakeClock())
        costs.append(_steps(storage, lambda: storage.claim(ClaimRequest("w1", 8, (TASK,), ("q0",)))))  # noqa: B023
        storage.close()
    assert costs[0] == costs[1]
