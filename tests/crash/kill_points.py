"""Processes of a worker, killed at each of their system calls in turn."""

from __future__ import annotations

import json
import os
import random
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from typing import Final, NamedTuple

from processes import below, is_running, until
from rig import PATIENCE_SECONDS, Rig
from strace import Point, Shot, Trace

TARGETS: Final = ("worker", "worker", "worker", "start", "forker", "child", "submitter")
"""Which process is shot at; a worker is most often, since it has most to lose."""


class Hit(NamedTuple):
    """What came of a shot."""

    target: str
    shot: Shot
    point: Point | None  # None: the process did all it had to do with fewer calls


class Shooter:
    """Shoots at one rig's processes, one after the other, and checks it in between."""

    def __init__(self, rig: Rig, seed: int) -> None:
        self._rig = rig
        self._draw = random.Random(seed)
        self._number = 0
        self._counts: dict[str, Counter[str]] = {}

    def shoot(self, count: int, targets: tuple[str, ...] = TARGETS) -> Iterator[Hit]:
        """Make `count` shots that hit; what missed is told too, and not counted."""
        for target in dict.fromkeys(targets):
            self._learn(target)
        hits = 0
        while hits < count:
            target = targets[self._number % len(targets)]
            hit = self.once(target, self._choose(target))
            hits += hit.point is not None
            yield hit

    def _learn(self, target: str) -> None:
        """Count the calls that a target makes when nobody shoots."""
        if target not in self._counts:
            self._counts[target] = Counter()
            for _ in range(2):
                trace = self._round(target, None)
                self._counts[target] |= trace.counts()

    def _choose(self, target: str) -> Shot:
        counts = self._counts[target]
        # Rare calls (a sync, an unlink) matter no less than frequent ones (a lock); the square root is in between.
        (call,) = self._draw.choices(list(counts), [count**0.5 for count in counts.values()])
        return Shot(call, self._draw.randint(1, counts[call]))

    def once(self, target: str, shot: Shot) -> Hit:
        """Shoot, and check what can be checked at once."""
        trace = self._round(target, shot)
        self._rig.check(drained=False, whole=self._number % 10 == 0)
        return Hit(target, shot, trace.point())

    def _round(self, target: str, shot: Shot | None) -> Trace:
        self._number += 1
        if target == "submitter":
            return self._submitter(shot)
        return self._worker(target, shot)

    def _attach(self, pid: int, who: str, shot: Shot | None) -> Trace:
        return Trace(pid, who, self._rig.folder / "strace.log", shot)

    def _worker(self, target: str, shot: Shot | None) -> Trace:
        rig = self._rig
        # Before it starts, for what is left behind: it is waited for then, not only found by the way.
        rig.submit(self._draw)
        worker = rig.worker(stops=target == "start", marks=True)
        if target == "start":
            trace = self._attach(worker, "loop", shot)
            os.kill(worker, signal.SIGCONT)
        else:
            trace = self._attach(self._victim(worker, target), "loop" if target == "worker" else target, shot)
        beneath: list[int] = []
        for _ in range(2):
            if is_running(worker):
                beneath = below(worker) or beneath
            rig.submit(self._draw)

        def is_over() -> bool:
            nonlocal beneath
            beneath = below(worker) or beneath
            if target == "start" and is_running(worker) and not any(row.pid == worker for row in rig.queue.workers()):
                return False
            return not is_running(trace.pid) or not rig.unfinished()

        until(is_over, PATIENCE_SECONDS)
        if trace.pid != worker:
            until(lambda: not rig.unfinished(), PATIENCE_SECONDS)  # the worker lives on, and does all that there is
            assert is_running(worker)
            beneath = below(worker)
        with suppress(ProcessLookupError):
            os.kill(worker, signal.SIGKILL)
        rig.see_end(worker, beneath)
        trace.end()
        return trace

    def _victim(self, worker: int, target: str) -> int:
        if target == "worker":
            return worker
        forker, child, *_ = self._family(worker)
        return forker if target == "forker" else child

    def _family(self, worker: int) -> list[int]:
        until(lambda: len(below(worker)) >= 3, PATIENCE_SECONDS)
        return below(worker)

    def _submitter(self, shot: Shot | None) -> Trace:
        rig = self._rig
        name = f"submitter {self._number}"
        request = {"do": "submit", "stops": True, "seed": self._draw.randrange(10**9), "name": name}
        pid = rig.fork(request)
        trace = self._attach(pid, "submitter", shot)
        rig.let_go(pid)
        trace.end()
        self._check_whole(name)
        return trace

    def _check_whole(self, name: str) -> None:
        """Check that of each call of a dead submitter all jobs are stored or none, and none after one that is not."""
        lines = map(json.loads, (self._rig.folder / "intents").read_text().splitlines())
        wanted = {line["tag"]: line["count"] for line in lines if line["tag"].startswith(name + "/")}
        jobs = self._rig.queue.list(limit=1000)
        stored = Counter(job.description for job in jobs if job.description.startswith(name + "/"))
        complete = [stored[tag] == count for tag, count in wanted.items()]
        assert stored.keys() <= wanted.keys(), stored
        assert all(complete[:-1]), (wanted, stored)  # only the last call may have been cut short
        assert all(stored[tag] in (0, count) for tag, count in wanted.items()), (wanted, stored)
