"""Fault 41: one job with very many parents, and supervisors killed while its parents end."""

from __future__ import annotations

import random
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Final

from processes import is_running, until
from rig import PATIENCE_SECONDS, Rig

from gigq import Job, JobState

SUPERVISOR_BYTES: Final = 60_000_000  # what a supervisor may take, whatever the graph


def run(folder: Path, *, parents: int, kills: int, seed: int = 1) -> None:
    """Have `parents` jobs run before one other, kill the worker `kills` times, and check that it runs once."""
    draw = random.Random(seed)
    with Rig(folder) as rig:
        queue, mill = rig.queue, rig.mill
        jobs: list[Job[int]] = [mill.nothing.job(number) for number in range(parents)]
        last: Job[int] = Job(function=mill.step, args=(41,), dependencies=jobs)
        queue.submit(last)
        rig.shapes.promise("", {last: 42})
        completed = 0
        for number in range(kills):
            worker = rig.worker()
            # Where it is killed is drawn within its share of the parents, so that each kill finds some to release.
            aim = int(parents * (number + draw.random()) / (kills + 1))
            until(lambda aim=aim: queue.stats()[JobState.COMPLETED] > aim, 120)  # type: ignore[misc]  # bound now
            assert is_running(worker)
            assert _peak_bytes(worker) < SUPERVISOR_BYTES
            rig.kill(worker)
            stats = queue.stats()
            assert completed <= stats[JobState.COMPLETED] <= parents
            completed = stats[JobState.COMPLETED]
            _check_unmet(folder)
            assert last.state is JobState.PENDING
        rig.drain(120)
        assert last.get(PATIENCE_SECONDS) == 42
        assert [execution.state for execution in last.executions] == [JobState.COMPLETED]
        assert queue.stats()[JobState.COMPLETED] == parents + 1
        rig.check(drained=True)


def _check_unmet(folder: Path) -> None:
    with closing(sqlite3.connect(folder / "jobs.db")) as db:
        said, actual = db.execute(
            """
            SELECT (SELECT unmet FROM jobs WHERE unmet > 0),
                   (SELECT count(*) FROM job_edges JOIN jobs ON seq = parent WHERE state IN ('PENDING', 'RUNNING'))
            """
        ).fetchone()
    assert said == actual


def _peak_bytes(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):  # its own; code and libraries are shared with others
            return int(line.split()[1]) * 1024
    raise AssertionError(f"no memory of {pid} is known")
