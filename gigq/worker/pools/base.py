"""What a pool of executors must do for the worker's loop, and what the two say to each other.

A pool runs jobs and reports how each attempt ended. It knows nothing of storage: leases, retries and rescue are the
loop's business. All methods are called from the loop's thread and none of them blocks, except `stop` and, in the
inline pool, `give`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from gigq.retry import RetryPolicy
from gigq.storage.leases import ClaimedJob, End
from gigq.worker.source import TaskSource


class TaskOptions(NamedTuple):
    """What the worker must know about a task without having its function."""

    policy: RetryPolicy


@dataclass(frozen=True, slots=True)
class Hello:
    """What an app says of itself when a pool has loaded it."""

    url: str | None  # None: the worker was given the database itself
    durability: str
    tasks: Mapping[str, TaskOptions]
    default_policy: RetryPolicy


def hello_of(source: TaskSource | None) -> Hello:
    """Return what an app says of itself; None is a worker without an app, for functions that travel with jobs."""
    if source is None:
        return Hello(None, "power", {}, RetryPolicy())
    tasks = {name: TaskOptions(task.policy) for name, task in source.tasks.items()}
    return Hello(source.url, source.durability, tasks, source.default_policy)


class Ended(NamedTuple):
    """An attempt has ended. Times: `started_at` epoch seconds, `duration` seconds by the monotonic clock."""

    job: ClaimedJob
    end: End
    started_at: float | None
    duration: float
    pid: int | None
    result: bytes | None = None
    error: str | None = None  # a Failure as JSON
    retryable: bool = False  # the policy covers the exception
    retry_delay: float | None = None  # asked for by `raise Retry(delay=…)`


class Progress(NamedTuple):
    """A running job says how far it is."""

    job: ClaimedJob
    fraction: float
    message: str


PoolEvent = Ended | Progress


class Pool(Protocol):
    """Executors of jobs.

    The life of a job in a pool: `give` → it may start at any moment from then on → one `Ended` from `events`. A job
    that `recall` or `stop` returns has not started, never will, and gets no `Ended`.
    """

    concurrency: int
    can_kill: bool  # whether `kill` ends what runs

    def start(self) -> Hello:
        """Start, load the app, and say what it contains. May block.

        Raises:
            TargetError: the app cannot be loaded; the message is one clear line.
        """
        ...

    def filenos(self) -> Sequence[int]:
        """Return the descriptors whose readability means that `events` should be called. They may change."""
        ...

    def wanted(self) -> int:
        """Return how many jobs more it could make use of now: what `give` would take, and a small reserve.

        About 5 ms of work lies ahead of each executor. A job counts as what its task took before; a task that has
        not run yet counts as a full load. While every executor is busy with a long job this is 0, because what is
        claimed then would wait here and could run elsewhere.
        """
        ...

    def give(self, jobs: Sequence[ClaimedJob]) -> list[ClaimedJob]:
        """Hand out as many of `jobs`, in this order, as there is room for; return the rest."""
        ...

    def events(self) -> list[PoolEvent]:
        """Return what has happened since the last call, deaths of executors included; never blocks."""
        ...

    def tend(self) -> float | None:
        """Enforce deadlines and take back what waits behind a long job; return the seconds until the next call.

        None: nothing is timed. What it takes back is returned by the next `recall(blocked_only=True)`.
        """
        ...

    def recall(self, *, blocked_only: bool = False) -> list[ClaimedJob]:
        """Take back what has not started: all of it, or what `tend` found waiting behind a long job."""
        ...

    def cancel(self, jobs: Sequence[tuple[int, int]]) -> None:
        """Stop these (seq, claims); each ends CANCELLED once its code has stopped, unless it ended before."""
        ...

    def is_idle(self) -> bool:
        """Return whether no job is in the pool."""
        ...

    def kill(self) -> None:
        """Stop every running job at once; their `Ended` have the end RELEASED (thread and inline pools cannot).

        What has not started stays in the pool, and out of the executors, until `recall` or the next `give`.
        """
        ...

    def stop(self) -> None:
        """End all executors. Called once, when nothing runs any more or nobody wants its outcome."""
        ...
