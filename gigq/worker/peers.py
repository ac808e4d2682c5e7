"""Which other workers are dead.

Invariant: nobody compares clocks. A worker is dead when its beat has not changed for LEASE_SECONDS of this process's
own time, counting only time in which this worker could write itself; or at once, when its process is gone from a host
whose process ids this worker sees.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from gigq.plain import plain
from gigq.storage.rows import WorkerRow
from gigq.worker.identity import is_gone, process_started

LEASE_SECONDS: Final = 10.0
STEP_AT_MOST_SECONDS: Final = 3.0  # a longer silence of our own (a stopped process, a locked database) proves nothing


class Peers:
    """Watches the beats of other workers."""

    def __init__(self, own_id: str, own_host: str, started: Callable[[int], int | None] = process_started) -> None:
        self._own_id = own_id
        self._own_host = own_host
        self._started = started
        self._silence: dict[str, tuple[int, float]] = {}  # worker: its last beat, seconds without another one

    def dead(self, workers: Iterable[WorkerRow], elapsed: float) -> dict[str, str]:
        """Return the dead among `workers`, each with a reason, `elapsed` own seconds after the last call."""
        found: dict[str, str] = {}
        silence: dict[str, tuple[int, float]] = {}
        for worker in workers:
            if worker.id == self._own_id:
                continue
            beat, silent = self._silence.get(worker.id, (worker.beat, 0.0))
            silent = 0.0 if beat != worker.beat else silent + min(elapsed, STEP_AT_MOST_SECONDS)
            silence[worker.id] = (worker.beat, silent)
            if is_gone(worker, self._own_host, self._started):
                found[worker.id] = f"the process {worker.pid} of worker {plain(worker.name)} is gone"
            elif silent >= LEASE_SECONDS:
                found[worker.id] = f"worker {plain(worker.name)} gave no sign of life for {LEASE_SECONDS:g} s"
        self._silence = silence
        return found
