"""Random schedules, a few of very many, and one job with many parents. `python tests/crash schedules` runs more."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import fan_in
import pytest
import schedules
from processes import below, is_running, until
from rig import Rig

from gigq import JobState

pytestmark = pytest.mark.slow


def test_random_schedules_lose_nothing_and_repeat_nothing(tmp_path: Path) -> None:
    ran = list(schedules.run(tmp_path, seed=1, count=5))
    assert len({step for schedule in ran for step in schedule.steps}) > 7


def test_fault_41_a_job_with_many_parents_runs_once_though_their_worker_is_killed(tmp_path: Path) -> None:
    fan_in.run(tmp_path, parents=3000, kills=2)


def test_fault_05_a_worker_that_stands_still_past_its_lease_changes_nothing_afterwards(rig: Rig) -> None:
    stopped = rig.worker(concurrency=1, lease=0.5)
    rig.submit_steps(300)
    until(lambda: rig.queue.stats()[JobState.RUNNING])
    until(lambda: rig.stop(stopped))
    child = below(stopped)[1]
    other = rig.worker(concurrency=1, lease=0.5)
    until(lambda: not rig.unfinished() and [row.pid for row in rig.queue.workers()] == [other])
    os.kill(stopped, signal.SIGCONT)
    until(lambda: len(rig.queue.workers()) == 2)  # it has registered again
    assert is_running(child)
    rig.check(drained=True)
    for pid in (stopped, other):
        os.kill(pid, signal.SIGTERM)
        until(lambda pid=pid: not is_running(pid))  # type: ignore[misc]  # bound now
    rig.check(drained=True)
