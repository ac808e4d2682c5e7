"""Waiting for jobs to end, without a server that could tell."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Final

from gigq.errors import JobNotFound
from gigq.retry import seconds
from gigq.states import JobState
from gigq.storage.base import Storage

# Looking again after a twentieth of the time waited so far costs little and is noticed by nobody.
PART_OF_TIME_WAITED: Final = 0.05
SHORTEST_SECONDS: Final = 0.0002
LONGEST_SECONDS: Final = 0.05


def pause_after(waited: float) -> float:
    """Return how long to sleep after `waited` seconds without news."""
    return min(max(waited * PART_OF_TIME_WAITED, SHORTEST_SECONDS), LONGEST_SECONDS)


def wait_until_ended(storage: Storage, job_id: str, timeout: float | timedelta | None) -> JobState:
    """Block until the job has ended; return its state.

    Raises:
        TimeoutError: it has not ended after `timeout` seconds.
        JobNotFound: it is not stored.
    """
    limit = float("inf") if timeout is None else seconds("timeout", timeout)
    started = time.monotonic()
    watch = storage.watch()  # before the first look, so that no change falls between the two
    changed = True
    state: JobState | None = None
    while True:
        waited = time.monotonic() - started
        if changed:
            state = storage.states([job_id]).get(job_id)
            if state is None:
                raise JobNotFound(job_id)
            if state.is_terminal:
                return state
        if waited >= limit:
            raise TimeoutError(f"job {job_id} is still {state} after {limit:g} s")
        changed = watch.wait(min(pause_after(waited), limit - waited))
