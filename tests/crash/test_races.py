"""Fault 7: a rescue and a completion of the same job at the same time; what committed first stays."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import invariants
import pytest

from gigq.states import JobState
from gigq.storage.leases import ClaimRequest, End
from gigq.storage.sqlite import SqliteStorage
from gigq.testing.clock import FakeClock
from gigq.testing.harness import TASK, Harness, outcome

ROUNDS = 20
MOST_ROUNDS = 500  # until each has been first, which the system's scheduler decides


@pytest.mark.slow
def test_fault_07_of_a_rescue_and_a_completion_the_first_one_stays(tmp_path: Path) -> None:
    path, firsts = tmp_path / "jobs.db", set()
    clock = FakeClock(1000.0)
    late, other = (SqliteStorage(path, durability="process", now=clock.now) for _ in range(2))
    with closing(late), closing(other):
        harness = Harness(late, clock)
        for number in range(MOST_ROUNDS):
            if number >= ROUNDS and len(firsts) == 2:
                break
            worker = f"w{number}"
            parent = harness.submit(f"parent {number}", max_attempts=1000, priority=1)
            child = harness.submit(f"child {number}", parents=[parent])
            (job,) = harness.claim(worker, limit=1)
            assert job.id == parent
            start = threading.Barrier(2)
            fenced: list[object] = []

            def complete(job=job, worker=worker, start=start, fenced=fenced) -> None:  # type: ignore[no-untyped-def]  # bound now
                start.wait()
                fenced += late.finish(worker, [outcome(job, End.COMPLETED, 1000.0)]).fenced

            def rescue(worker=worker, start=start) -> None:  # type: ignore[no-untyped-def]
                start.wait()
                other.rescue(worker, "it is gone")

            _both(complete, rescue)
            was_first = not fenced
            firsts.add(was_first)
            state = JobState.COMPLETED if was_first else JobState.PENDING
            assert (late.get(parent).state, late.get(child).unmet) == (state, 0 if was_first else 1)
            (attempt,) = late.executions(parent)
            assert attempt.state is (JobState.COMPLETED if was_first else JobState.FAILED)
            late.cancel(parent, "the next round's job is to be the only one")
            late.cancel(child, "the next round's job is to be the only one")
            assert late.claim(ClaimRequest(worker, 1, (TASK,))).jobs == []
    assert firsts == {True, False}, "one of the two was always first: there was no race"
    with closing(sqlite3.connect(path)) as db:
        found = invariants.Found(db)
    invariants.check_rows(found)
    invariants.check_graph(found)


def _both(*calls: Callable[[], None]) -> None:
    threads = [threading.Thread(target=call) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()
