"""Random schedules: programs that submit, cancel, retry and prune, and workers that come, stand still and die."""

from __future__ import annotations

import os
import random
import shutil
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, Final

from processes import below, is_running, until
from rig import PATIENCE_SECONDS, Rig

from gigq import IllegalTransition, Job, JobNotFound, JobState

LEASE_SECONDS: Final = 0.6  # instead of 10: a worker that is stopped for longer loses what it holds
WORKERS: Final = 3
STEPS: Final = (8, 20)
SCHEDULES_OF_ONE_RIG: Final = 20


class Schedule:
    """One schedule, drawn from its seed alone; what the machine makes of it is never quite the same."""

    def __init__(self, rig: Rig, seed: int) -> None:
        self._rig = rig
        self._draw = random.Random(seed)
        self._workers: list[int] = []
        self._stopped: dict[int, float] = {}  # process id: until when (monotonic)
        self._jobs: list[Job[Any]] = []
        self.steps: list[str] = []

    def run(self) -> None:
        """Run it, have all jobs that are left done, and check everything."""
        moves: list[tuple[int, Callable[[], None]]] = [
            (8, self._submit), (6, self._let_work), (4, self._start), (3, self._kill), (3, self._kill_below),
            (2, self._end), (2, self._stop), (2, self._cancel), (2, self._retry), (1, self._prune), (1, self._lock),
        ]  # fmt: skip
        self._start()
        weights, functions = [weight for weight, _ in moves], [function for _, function in moves]
        for function in self._draw.choices(functions, weights, k=self._draw.randint(*STEPS)):
            self.steps.append(function.__name__.strip("_"))
            function()
            self._wake_those_due()
        self._finish()

    def _finish(self) -> None:
        for pid in self._stopped:
            self._signal(pid, signal.SIGCONT)
        self._stopped = {}
        self._start()
        last = self._workers[-1]
        until(lambda: not self._rig.unfinished(), 60)
        for pid in self._workers[:-1]:
            self._signal(pid, self._draw.choice([signal.SIGTERM, signal.SIGQUIT]))
            until(lambda pid=pid: not is_running(pid), PATIENCE_SECONDS)  # type: ignore[misc]  # bound now
        until(lambda: [row.pid for row in self._rig.queue.workers()] == [last], PATIENCE_SECONDS)
        self._signal(last, signal.SIGTERM)
        until(lambda: not is_running(last), PATIENCE_SECONDS)
        assert self._rig.queue.workers() == []
        self._rig.check(drained=True)

    # -- moves

    def _submit(self) -> None:
        self._jobs += self._rig.submit(self._draw)

    def _start(self) -> None:
        self._workers = [pid for pid in self._workers if is_running(pid)]
        if len(self._workers) >= WORKERS and self.steps[-1:] == ["start"]:
            return
        self._workers.append(self._rig.worker(concurrency=self._draw.randint(1, 2), lease=LEASE_SECONDS))

    def _kill(self) -> None:
        if (pid := self._any_worker()) is not None:
            self._rig.kill(pid)

    def _end(self) -> None:
        if (pid := self._any_worker()) is not None:
            for sig in self._draw.choice([(signal.SIGTERM,), (signal.SIGINT, signal.SIGTERM), (signal.SIGQUIT,)]):
                self._signal(pid, sig)

    def _stop(self) -> None:
        if (pid := self._any_worker()) is not None and self._rig.stop(pid):
            self._stopped[pid] = time.monotonic() + self._draw.uniform(0, 2 * LEASE_SECONDS)

    def _kill_below(self) -> None:
        """Kill a forker, a child or a grandchild."""
        pid = self._any_worker()
        beneath = [] if pid is None else below(pid)
        if beneath:
            self._signal(self._draw.choice(beneath), signal.SIGKILL)

    def _cancel(self) -> None:
        if (job := self._any_job()) is not None:
            with suppress(JobNotFound):
                job.cancel()

    def _retry(self) -> None:
        if (job := self._any_job()) is not None:
            with suppress(JobNotFound, IllegalTransition):  # pruned; not ended, or well
                job.retry()

    def _prune(self) -> None:
        stats = self._rig.queue.stats()
        if self._draw.random() < 0.3 and stats[JobState.COMPLETED]:
            self._rig.pruned |= self._rig.promised
            self._rig.queue.prune(older_than=0)

    def _lock(self) -> None:
        with closing(sqlite3.connect(self._rig.folder / "jobs.db", isolation_level=None, timeout=10)) as other:
            other.execute("BEGIN IMMEDIATE")
            time.sleep(self._draw.uniform(0, 0.1))  # how long another program holds it, not a wait for anything
            other.execute("ROLLBACK")

    def _let_work(self) -> None:
        time.sleep(self._draw.uniform(0, 0.05))  # the schedule's own pace

    # -- whom they meet

    def _any_worker(self) -> int | None:
        running = [pid for pid in self._workers if is_running(pid)]
        return self._draw.choice(running) if running else None

    def _any_job(self) -> Job[Any] | None:
        if not self._jobs:
            return None
        job = self._draw.choice(self._jobs)
        self._rig.tampered.add(job.id)
        return job

    def _signal(self, pid: int, sig: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            os.kill(pid, sig)

    def _wake_those_due(self) -> None:
        for pid, due_at in list(self._stopped.items()):
            if time.monotonic() >= due_at:
                self._signal(pid, signal.SIGCONT)
                del self._stopped[pid]


def run(folder: Path, seed: int, count: int) -> Iterator[Schedule]:
    """Run `count` schedules of the seeds from `seed` on. A failure's message says which one, and what it did."""
    for first in range(seed, seed + count, SCHEDULES_OF_ONE_RIG):
        place = folder / f"schedules-{first}"
        with Rig(place) as rig:
            for number in range(first, min(first + SCHEDULES_OF_ONE_RIG, seed + count)):
                schedule = Schedule(rig, number)
                try:
                    schedule.run()
                except Exception as error:
                    error.add_note(f"python tests/crash schedules --seed {number} --count 1  # {schedule.steps}")
                    raise
                yield schedule
        shutil.rmtree(place)
