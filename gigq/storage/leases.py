"""What a worker and a storage say to each other about the jobs that the worker holds.

Named tuples, as all rows are. Apart from those, since programs that only submit never need them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from enum import StrEnum
from typing import Any, NamedTuple

from gigq.states import JobState


class ClaimedJob(NamedTuple):
    """A job that this worker may run, with the lease (seq, claims) that every later write must show."""

    seq: int
    id: str
    name: str
    task: str
    queue: str
    priority: int
    claims: int
    attempt: int
    max_attempts: int
    timeout: float | None
    policy: str | None
    arguments: bytes | None  # None: larger than INLINE_BYTES, read them with Storage.arguments


claimed_job: Callable[[Iterable[Any]], ClaimedJob] = functools.partial(tuple.__new__, ClaimedJob)
"""Make a ClaimedJob of its values, as `_make` does, without a step in Python: it is done twice for each job."""


class ClaimRequest(NamedTuple):
    """Which jobs a worker can take, and how many."""

    worker: str
    limit: int
    tasks: Sequence[str]
    queues: Sequence[str] | None = None  # None: every queue


class Claimed(NamedTuple):
    """What a claim found."""

    jobs: list[ClaimedJob]
    next_due_at: float | None  # epoch seconds of the next job that is not due yet, None: none waits for its time


class End(StrEnum):
    """How an attempt ended, as the worker saw it; the storage decides the job's state by what attempts remain."""

    COMPLETED = "completed"
    FAILED = "failed"
    TIMED_OUT = "timed out"
    LOST = "lost"
    RELEASED = "released"
    CANCELLED = "cancelled"


class Outcome(NamedTuple):
    """The end of one attempt."""

    seq: int
    id: str
    claims: int
    attempt: int
    end: End
    started_at: float | None  # None: it had not started
    finished_at: float
    pid: int | None = None
    result: bytes | None = None  # None: the function returned None
    error: str | None = None  # a `gigq.payload.Failure` as JSON
    reason: str | None = None  # the same in one line
    retry_in: float | None = None  # seconds until the next attempt, None: no further attempt is wanted


class Finished(NamedTuple):
    """What `finish` did."""

    fenced: list[Outcome]  # outcomes whose lease was lost: nothing was written for them
    cancel: list[tuple[int, int]]  # (seq, claims) of this worker's running jobs that somebody wants cancelled
    claimed: Claimed | None


class Rescued(NamedTuple):
    """A job taken from a dead worker."""

    id: str
    state: JobState
