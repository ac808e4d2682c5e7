"""What many kills have come to, and how it is printed."""

from __future__ import annotations

import sys
import time
from collections import Counter
from dataclasses import dataclass, field

from rig import Rig
from strace import Point

BETWEEN = ("claim: committed", "hand out", "loop, jobs out", "collect", "task", "after the task", "finish: begin",
           "finish: statements")  # fmt: skip
"""Phases after a claim was committed and before the commit of a job's end has begun."""


@dataclass(slots=True)
class Report:
    """Grows while a command runs, and is valid at any time."""

    started_at: float = field(default_factory=time.monotonic)
    kills: int = 0
    points: Counter[Point] = field(default_factory=Counter)
    supervisors: int = 0  # killed, and watched to see what of them runs on
    late: int = 0  # of those: something ran for more than 0.1 s
    slowest: float = 0.0  # seconds
    schedules: int = 0
    cuts: int = 0
    jobs: int = 0
    starts: int = 0
    recorded: int = 0
    unstarted: int = 0
    lost: int = 0
    twice: int = 0
    stuck: int = 0

    def add(self, rig: Rig) -> None:
        """Check a drained database, and add what the check has counted."""
        tally = rig.check(drained=True)
        self.supervisors += rig.supervisor_kills
        self.late += len(rig.late)
        self.slowest = max([self.slowest, *rig.late])
        self.jobs += tally.jobs
        self.starts += tally.starts
        self.recorded += tally.recorded
        self.unstarted += tally.unstarted
        self.lost += len(tally.lost)
        self.twice += len(tally.twice)
        self.stuck += len(tally.stuck)

    def between(self) -> int:
        """Return how many distinct points lie between a claim and the commit of a finish."""
        return sum(point.phase in BETWEEN for point in self.points)

    def inside(self) -> int:
        """Return how many distinct points lie inside a commit."""
        return sum(point.phase.endswith(": commit") for point in self.points)

    def progress(self, text: str) -> None:
        """Print one line."""
        print(f"{time.monotonic() - self.started_at:7.1f} s  {text}", flush=True)

    def show(self) -> None:
        """Print all of it."""
        by_phase = Counter((point.who, point.phase) for point in self.points)
        if by_phase:
            print("\ndistinct (call, nth) points by process and phase:")
            for (who, phase), count in sorted(by_phase.items()):
                kills = sum(n for point, n in self.points.items() if (point.who, point.phase) == (who, phase))
                print(f"  {count:5} ({kills:5} kills)  {who}, {phase}")
        rows = {
            "seconds": round(time.monotonic() - self.started_at),
            "kills": self.kills,
            "kill points hit": self.points.total(),
            "distinct points": len(self.points),
            "  between claim and finish": self.between(),
            "  inside a commit": self.inside(),
            "supervisors killed": self.supervisors,
            "  children gone after > 0.1 s": self.late,
            "random schedules": self.schedules,
            "cuts of the log": self.cuts,
            "jobs": self.jobs,
            "executions seen from outside": self.starts,
            "executions recorded": self.recorded,
            "  of these never started": self.unstarted,
            "lost": self.lost,
            "recorded twice": self.twice,
            "stuck": self.stuck,
        }
        print()
        for name, value in rows.items():
            print(f"{name:32}{value:12,}")
        if self.late:
            print(f"the slowest end of a child came {self.slowest:.2f} s after its supervisor's")
        sys.stdout.flush()
