"""Children that are forked while other threads of the app hold locks."""

from __future__ import annotations

import pytest
from workshop import Workshop, attempts, until

from gigq import JobState

CHILDREN = 1000


@pytest.mark.slow
def test_fault_39_of_a_thousand_children_forked_while_threads_hold_locks_none_hangs(workshop: Workshop) -> None:
    crowded = workshop.load("crowded")
    workshop.environment["GIGQ_TEST_CROWD"] = "1"
    worker = workshop.work("crowded:app", concurrency=3)
    assert "started 5 threads while they were imported" in worker.log
    ending = crowded.use_locks_and_leave.map(range(CHILDREN))
    beside = crowded.add.map(range(200))
    until(lambda: workshop.queue.stats()[JobState.FAILED] == CHILDREN, 100)
    assert beside.get(20) == list(range(200))
    lines = workshop.lines("left")
    assert sorted(int(line[1]) for line in lines) == list(range(CHILDREN))
    assert len({line[2] for line in lines}) == CHILDREN  # each had a process of its own
    assert all(attempts(job) == [JobState.FAILED] for job in ending[::50])
    assert worker.poll() is None
