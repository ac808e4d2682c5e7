"""When a child has run for long enough and is replaced: for tasks, and libraries under them, that leak."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from typing import Final

from gigq.worker.pools.children import Child

MEASURE_NS: Final = 100_000_000  # a child's memory is looked at no more often than this: 15 µs each time

_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Limits:
    """What a child may do before it is replaced. None: no limit.

    Attributes:
        max_jobs: how many jobs it may be given.
        max_memory_bytes: how much memory it may hold (resident) when a job has ended.
    """

    max_jobs: int | None = None
    max_memory_bytes: int | None = None

    @property
    def quota(self) -> int:
        """How many jobs a child may be given."""
        return sys.maxsize if self.max_jobs is None else self.max_jobs

    def reached(self, child: Child, now: int) -> str | None:
        """Return which limit a child has reached that has reported the end of a job, in words; None: none.

        `now` is monotonic nanoseconds. Memory is looked at from time to time, and always when the child is idle: it
        may stay so, holding its memory.
        """
        if child.quota <= 0:
            return f"was given {self.max_jobs:,} jobs"
        limit = self.max_memory_bytes
        if limit is None or (child.ahead and now - child.measured_at < MEASURE_NS):
            return None
        child.measured_at = now
        held = resident_bytes(child.pid)
        return f"holds {_mib(held)} of memory, above {_mib(limit)}" if held > limit else None


NO_LIMITS: Final = Limits()


def resident_bytes(pid: int | None) -> int:
    """Return the memory that a process holds, 0 if it is gone; see statm in proc(5)."""
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:
            return int(file.read().split()[1]) * _PAGE_BYTES
    except (OSError, IndexError):
        return 0


def _mib(count: int) -> str:
    return f"{count / (1 << 20):,.0f} MiB"
