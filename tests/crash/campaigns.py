"""Many kills, many schedules, many cuts: each campaign fills a report and raises at the first broken invariant."""

from __future__ import annotations

import itertools
import os
import random
import shutil
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

import schedules
import wal_cuts
from kill_points import Shooter
from processes import below, is_running
from report import Report
from rig import Rig

HITS_OF_ONE_RIG: Final = 60  # each check reads the whole database: beyond this a new one is cheaper
BATCH: Final = 500  # jobs of one call in the load


def kill_points(folder: Path, report: Report, *, seed: int, count: int) -> None:
    """Hit `count` kill points."""
    done = 0
    for number in itertools.count():
        if done >= count:
            return
        wanted = min(HITS_OF_ONE_RIG, count - done)
        place = folder / f"kill-points-{seed}-{number}"
        with Rig(place) as rig:
            try:
                for hit in Shooter(rig, seed + number).shoot(wanted):
                    report.kills += 1
                    if hit.point is not None:
                        report.points[hit.point] += 1
                        done += 1
                rig.drain()
                report.add(rig)
            except BaseException as error:
                error.add_note(f"python tests/crash kill-points --seed {seed + number} --count {wanted}; see {place}")
                raise
        shutil.rmtree(place)
        report.progress(f"{done} of {count} kill points, {len(report.points)} distinct, seed {seed + number}")


def random_schedules(folder: Path, report: Report, *, seed: int, count: int) -> None:
    """Run `count` random schedules."""
    for number, _ in enumerate(schedules.run(folder, seed, count), 1):
        report.schedules += 1
        if number % 20 == 0:
            report.progress(f"{number} of {count} schedules")


def cuts(folder: Path, report: Report, *, seed: int, count: int) -> None:
    """Make `count` cuts of the write-ahead log, half of them at each durability."""
    for durability in ("power", "process"):
        made = wal_cuts.cuts(folder / durability, seed=seed, durability=durability, each=10)
        for _ in itertools.islice(made, count // 2):
            report.cuts += 1
        made.close()
        report.progress(f"{count // 2} cuts with durability {durability!r}")


def load(folder: Path, report: Report, *, seed: int, jobs: int) -> None:
    """Run `jobs` jobs under two workers, of which something is killed every second or so."""
    place = folder / f"load-{seed}"
    draw = random.Random(seed)
    with Rig(place) as rig:
        workers = [rig.worker(), rig.worker()]
        submitted, kill_at = 0, time.monotonic() + draw.uniform(0.1, 1.5)
        try:
            while submitted < jobs or rig.unfinished():
                if submitted < jobs and rig.unfinished() < 4 * BATCH:
                    size = min(BATCH, jobs - submitted)
                    rig.submit_steps(size)
                    submitted += size
                if time.monotonic() >= kill_at:
                    kill_at = time.monotonic() + draw.uniform(0.1, 1.5)
                    report.kills += 1
                    workers = _kill_something(rig, draw, workers)
                time.sleep(0.005)  # between two looks
            for pid in workers:
                rig.kill(pid)
            rig.drain()
            report.add(rig)
        except BaseException as error:
            error.add_note(f"load of seed {seed}, see {place}")
            raise
        finally:
            for pid in workers:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
    shutil.rmtree(place)


def _kill_something(rig: Rig, draw: random.Random, workers: list[int]) -> list[int]:
    worker = draw.choice(workers)
    beneath = below(worker)
    if beneath and draw.random() < 0.5:
        with suppress(ProcessLookupError):
            os.kill(draw.choice(beneath), signal.SIGKILL)
    else:
        rig.kill(worker)
    return [pid if is_running(pid) else rig.worker() for pid in workers]
