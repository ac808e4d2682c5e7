"""The rows that cross a storage's boundary.

They are named tuples, not frozen dataclasses: they are made for every job on the hot path, straight from a database
row, by C code.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Final, NamedTuple

from gigq.states import JobState

BY_VALUE: Final = "(by value)"
"""The task name of jobs whose function travels with them; no task can be called this."""

INLINE_BYTES: Final = 32 * 1024
"""Arguments up to this size travel through the supervisor; a child reads bigger ones from the database itself."""


ENDS_COMPARED: Final = 100_000
"""How many jobs are looked at for one whose id ends in a certain way: 20 ms, and enough for what people have before
their eyes."""


class When(StrEnum):
    """Which end of its parent a dependant waits for."""

    SUCCESS = "success"
    FAILURE = "failure"
    ALWAYS = "always"

    def is_met_by(self, state: JobState) -> bool:
        """Return whether a parent that ended in `state` lets the dependant run."""
        if self is When.ALWAYS:
            return True
        if self is When.SUCCESS:
            return state is JobState.COMPLETED
        return state in (JobState.FAILED, JobState.TIMEOUT)


class Parent(NamedTuple):
    """A dependency of a new job."""

    job_id: str
    when: When


class NewJob(NamedTuple):
    """A job to be stored."""

    id: str
    name: str
    task: str
    function: str  # qualified name, for people
    queue: str
    priority: int
    max_attempts: int
    timeout: float | None  # seconds
    policy: str | None  # RetryPolicy as JSON, None: the task's own
    arguments: bytes
    summary: str  # the arguments as text, for people: listings never unpickle
    description: str
    workflow: str | None
    workflow_id: str | None
    delay: float | None  # seconds from now by the storage's clock
    run_at: float | None  # epoch seconds
    parents: Sequence[Parent]


class JobRow(NamedTuple):
    """A stored job, without its payloads. Times are epoch seconds."""

    seq: int
    id: str
    name: str
    task: str
    function: str
    queue: str
    priority: int
    state: JobState
    unmet: int
    due_at: float | None
    attempts: int
    max_attempts: int
    claims: int
    timeout: float | None
    policy: str | None
    summary: str
    description: str
    workflow: str | None
    workflow_id: str | None
    worker: str | None
    submitted_at: float
    claimed_at: float | None
    finished_at: float | None
    cancel_requested_at: float | None
    error: str | None
    progress: float | None
    progress_message: str | None


class ExecutionRow(NamedTuple):
    """One ended attempt. `state` is how the attempt ended; an attempt that was given back is CANCELLED."""

    job_id: str
    attempt: int
    claims: int
    worker: str
    pid: int | None  # of the process that ran it
    state: JobState
    started_at: float | None  # None: claimed, and never started
    finished_at: float
    error: str | None


class WorkerRow(NamedTuple):
    """A worker, as it says of itself. `host` tells apart machines and process-id namespaces, not names."""

    id: str
    name: str
    hostname: str
    host: str
    pid: int
    pid_started: int | None  # the kernel's own start time of `pid`: a process id alone may be reused
    pool: str
    concurrency: int
    queues: tuple[str, ...] | None  # None: every queue
    tasks: tuple[str, ...]
    address: str | None  # where a wake-up is sent
    started_at: float
    beat: int = 0
    beat_at: float = 0.0
    stopped_at: float | None = None
