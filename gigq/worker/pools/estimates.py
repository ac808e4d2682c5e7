"""How long jobs take, learned from those that ended, so that short ones can be handed out ahead."""

from __future__ import annotations

from typing import Final

from gigq.storage.leases import ClaimedJob
from gigq.storage.rows import BY_VALUE

AHEAD_SECONDS: Final = 0.005  # of work handed out ahead: less starves children, more delays urgent jobs
AHEAD_JOBS: Final = 256  # and never more jobs than this: 79,000 no-op jobs/s were measured with it, no more beyond
SOON_SECONDS: Final = 0.020  # a child that is free this soon is worth a claimed job in reserve

_WEIGHT: Final = 0.2  # of the newest duration
_REMEMBERED: Final = 10_000  # names of jobs whose functions travel with them are the user's, without bound


class Estimates:
    """Exponentially weighted averages: of each task, and of all jobs together."""

    def __init__(self) -> None:
        self.typical: float | None = None  # seconds a job took, of whatever task
        self._seconds: dict[str, float] = {}

    def record(self, job: ClaimedJob, seconds: float) -> None:
        """Learn from a job that ended."""
        kind = job.task if job.task != BY_VALUE else f"{BY_VALUE} {job.name}"
        known = self._seconds.get(kind)
        if known is None:
            if len(self._seconds) >= _REMEMBERED:
                self._seconds.clear()
            self._seconds[kind] = seconds
        else:
            self._seconds[kind] = known + _WEIGHT * (seconds - known)
        typical = self.typical
        self.typical = seconds if typical is None else typical + _WEIGHT * (seconds - typical)

    def of(self, job: ClaimedJob) -> float | None:
        """Return the seconds that a job will probably take, None if nothing like it has run."""
        return self._seconds.get(job.task if job.task != BY_VALUE else f"{BY_VALUE} {job.name}")

    def full_load(self) -> int:
        """Return how many typical jobs make a full load; 1 while nothing is known."""
        if self.typical is None:
            return 1
        return max(1, min(AHEAD_JOBS, int(AHEAD_SECONDS / max(self.typical, 1e-9))))
