"""The pool of threads: for tasks that wait more than they compute, in the supervisor's own process."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import Final

from gigq.signing import Signer
from gigq.storage.leases import ClaimedJob
from gigq.worker.execute import RESULT_LIMIT_BYTES
from gigq.worker.pools import endings
from gigq.worker.pools.base import Hello, PoolEvent, Progress
from gigq.worker.pools.local import LocalExecutor
from gigq.worker.source import ModuleTarget, TaskSource
from gigq.worker.wake_pipe import open_wake_pipe

STOP_SECONDS: Final = 1.0  # for threads to end at `stop`; one that runs a job cannot be made to


class ThreadPool:
    """Runs each job in one of `concurrency` threads; coroutines each in an event loop of their own.

    A thread cannot be stopped: `cancel` and `kill` reach only what has not started, and a running job ends with its
    own outcome. A task that ends the process ends the worker. See `LocalExecutor` about timeouts.
    """

    can_kill = False

    def __init__(
        self,
        source: TaskSource | ModuleTarget | None,
        *,
        url: str | None,
        concurrency: int,
        soft_timeouts: bool = False,
        signer: Signer | None = None,
        result_limit_bytes: int = RESULT_LIMIT_BYTES,
    ) -> None:
        self.concurrency = concurrency
        self._local = LocalExecutor(
            source, url, soft_timeouts=soft_timeouts, signer=signer, result_limit_bytes=result_limit_bytes
        )
        self._changed = threading.Condition()  # guards what follows, up to the blank line
        self._waiting: deque[ClaimedJob] = deque()
        self._running = 0
        self._events: list[PoolEvent] = []
        self._is_stopping = False

        self._threads: list[threading.Thread] = []

    def start(self) -> Hello:
        """Load the app into this process and start the threads; see `Pool.start`."""
        hello = self._local.start()
        self._woken, self._wake = open_wake_pipe()
        for number in range(self.concurrency):
            # Daemons: a job that never ends must not keep the program from ending.
            thread = threading.Thread(target=self._work, name=f"gigq-worker-{number}", daemon=True)
            thread.start()
            self._threads.append(thread)
        return hello

    def filenos(self) -> Sequence[int]:
        """Return the descriptor that threads wake the loop by."""
        return (self._woken,)

    def wanted(self) -> int:
        """Return how many threads are free; see `Pool.wanted`."""
        with self._changed:
            return self._free()

    def _free(self) -> int:
        return self.concurrency - self._running - len(self._waiting)

    def give(self, jobs: Sequence[ClaimedJob]) -> list[ClaimedJob]:
        """Start a job in each free thread, return the rest; see `Pool.give`."""
        with self._changed:
            count = self._free()
            self._waiting.extend(jobs[:count])
            self._changed.notify(count)
        return list(jobs[count:])

    def events(self) -> list[PoolEvent]:
        """Return what has happened; see `Pool.events`."""
        with self._changed:
            events, self._events = self._events, []
            with contextlib.suppress(BlockingIOError):
                os.read(self._woken, 4096)
        return events

    def tend(self) -> float | None:
        """Do nothing: a thread can neither be stopped nor hold jobs behind the one it runs."""
        return None

    def recall(self, *, blocked_only: bool = False) -> list[ClaimedJob]:
        """Take back the jobs that no thread has taken yet; see `Pool.recall`."""
        if blocked_only:
            return []
        with self._changed:
            jobs = list(self._waiting)
            self._waiting.clear()
        return jobs

    def cancel(self, jobs: Sequence[tuple[int, int]]) -> None:
        """Cancel those of these (seq, claims) that have not started."""
        leases = set(jobs)
        with self._changed:
            for job in [job for job in self._waiting if (job.seq, job.claims) in leases]:
                self._waiting.remove(job)
                self._tell(endings.unstarted(job))

    def is_idle(self) -> bool:
        """Return whether no job is in the pool."""
        with self._changed:
            return not (self._running or self._waiting or self._events)

    def kill(self) -> None:
        """Do nothing: threads cannot be stopped."""

    def stop(self) -> None:
        """End the threads that are free. One that runs a job goes on, without anybody hearing of it, to its end."""
        with self._changed:
            self._is_stopping = True
            self._changed.notify_all()
        deadline = time.monotonic() + STOP_SECONDS
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        with self._changed:  # a thread that still runs a job must not write to what these numbers name next
            os.close(self._woken)
            os.close(self._wake)
            self._wake = -1
        self._local.close()

    # -- in the threads

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._waiting:
                    if self._is_stopping:
                        return
                    self._changed.wait()
                job = self._waiting.popleft()
                self._running += 1

            def report(fraction: float, message: str, job: ClaimedJob = job) -> None:
                with self._changed:
                    self._tell(Progress(job, fraction, message))

            ended = self._local.run(job, report)
            with self._changed:
                self._running -= 1
                self._tell(ended)

    def _tell(self, event: PoolEvent) -> None:
        """Pass an event to the loop; the lock is held."""
        self._events.append(event)
        if self._wake >= 0:
            with contextlib.suppress(BlockingIOError):  # full: the loop is awake already
                os.write(self._wake, b"\0")
