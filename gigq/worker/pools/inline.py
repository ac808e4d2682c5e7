"""The inline pool: each job runs in the thread that gives it, at once. For tests and for debuggers."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence

from gigq.signing import Signer
from gigq.storage.leases import ClaimedJob
from gigq.worker.execute import RESULT_LIMIT_BYTES
from gigq.worker.pools.base import Ended, Hello, PoolEvent, Progress
from gigq.worker.pools.local import LocalExecutor
from gigq.worker.source import ModuleTarget, TaskSource
from gigq.worker.wake_pipe import open_wake_pipe


class InlinePool:
    """Runs one job within each `give`, which blocks until it has ended. Nothing of it can be stopped or taken back."""

    can_kill = False

    def __init__(
        self,
        source: TaskSource | ModuleTarget | None,
        *,
        url: str | None,
        soft_timeouts: bool = False,
        signer: Signer | None = None,
        result_limit_bytes: int = RESULT_LIMIT_BYTES,
    ) -> None:
        self.concurrency = 1
        self._local = LocalExecutor(
            source, url, soft_timeouts=soft_timeouts, signer=signer, result_limit_bytes=result_limit_bytes
        )
        self._events: list[PoolEvent] = []

    def start(self) -> Hello:
        """Load the app into this process; see `Pool.start`."""
        hello = self._local.start()
        self._woken, self._wake = open_wake_pipe()
        return hello

    def filenos(self) -> Sequence[int]:
        """Return a descriptor that is readable after a job has run, so that the loop comes for its end at once."""
        return (self._woken,)

    def wanted(self) -> int:
        """Return 1, or 0 while there are events to be fetched."""
        return 0 if any(isinstance(event, Ended) for event in self._events) else 1

    def give(self, jobs: Sequence[ClaimedJob]) -> list[ClaimedJob]:
        """Run the first of `jobs` to its end, return the rest."""
        if not jobs or not self.wanted():
            return list(jobs)
        job = jobs[0]
        self._events.append(
            self._local.run(job, lambda fraction, text: self._events.append(Progress(job, fraction, text)))
        )
        os.write(self._wake, b"\0")
        return list(jobs[1:])

    def events(self) -> list[PoolEvent]:
        """Return what has happened; see `Pool.events`."""
        with contextlib.suppress(BlockingIOError):
            os.read(self._woken, 4096)
        events, self._events = self._events, []
        return events

    def tend(self) -> float | None:
        """Do nothing: nothing runs while the loop has its turn."""
        return None

    def recall(self, *, blocked_only: bool = False) -> list[ClaimedJob]:
        """Return nothing: whatever was given has run."""
        return []

    def cancel(self, jobs: Sequence[tuple[int, int]]) -> None:
        """Do nothing: whatever was given has run."""

    def is_idle(self) -> bool:
        """Return whether no job is in the pool."""
        return not self._events

    def kill(self) -> None:
        """Do nothing: whatever was given has run."""

    def stop(self) -> None:
        """Close what was opened."""
        os.close(self._woken)
        os.close(self._wake)
        self._local.close()
