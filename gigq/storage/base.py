"""What every storage engine must do, and the rows that cross its boundary.

The verbs name intent. Each one that changes a job is one transaction, and each change of state is one guarded
statement, so that a late writer changes nothing. `gigq.testing.conformance` holds an engine to all of it.

The rows are named tuples, not frozen dataclasses: they are made for every job on the hot path, straight from a
database row, by C code.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Final, NamedTuple, Protocol

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


class Watch(Protocol):
    """Notices that the database has changed."""

    def wait(self, timeout: float) -> bool:
        """Block up to `timeout` seconds; return True if something may have changed since the last call."""
        ...


class Listener(Protocol):
    """Where a worker's wake-ups arrive."""

    @property
    def address(self) -> str | None:
        """What submitters must know to wake this worker; stored with it."""
        ...

    def fileno(self) -> int:
        """Return a descriptor that becomes readable on a wake-up."""
        ...

    def drain(self) -> None:
        """Forget the wake-ups that have arrived."""
        ...

    def close(self) -> None:
        """Stop listening."""
        ...


class Storage(Protocol):
    """The engine under `JobQueue`. Safe to use from several threads, and in the child of a fork.

    Every method raises `StorageBusy` if the database stayed locked for too long and `StorageError` for whatever else
    its engine reports; nothing was stored then, unless it is `OutcomeUnknown`.
    """

    @property
    def url(self) -> str:
        """The URL that opens this storage again, in any process of this host."""
        ...

    # -- submitters

    def submit(self, jobs: Sequence[NewJob]) -> None:
        """Store `jobs` in one transaction, in this order; parents may stand anywhere in it. Wake workers.

        Raises:
            DependencyError: a parent is neither stored nor among `jobs`.
            AlreadySubmitted: an id is stored already.
        """
        ...

    def cancel(self, job_id: str, reason: str) -> JobState:
        """Cancel a pending job, or ask the worker of a running one to; return the state that it is in now.

        Raises:
            JobNotFound: no such job.
        """
        ...

    def retry(self, job_id: str) -> JobState:
        """Put a job that ended badly back, attempts at 0, and with it the dependants that fell with it.

        Raises:
            JobNotFound: no such job.
            IllegalTransition: the job has not ended badly.
        """
        ...

    # -- workers

    def register(self, worker: WorkerRow) -> None:
        """Store a worker that starts."""
        ...

    def heartbeat(self, worker: str) -> bool:
        """Raise the worker's beat. False: others took it for dead, and it must register again."""
        ...

    def unregister(self, worker: str) -> None:
        """Mark a worker as stopped. It should hold no job any more; from what it holds it is rescued."""
        ...

    def claim(self, request: ClaimRequest) -> Claimed:
        """Promote jobs that are due, then claim the first ready ones: by priority, then by submission.

        Only a worker that is registered gets any; one that is marked as stopped must register again.
        """
        ...

    def finish(self, worker: str, outcomes: Sequence[Outcome], claim_more: ClaimRequest | None = None) -> Finished:
        """Record `outcomes`, release or cancel dependants, and claim more, in one transaction."""
        ...

    def rescue(self, worker: str, reason: str) -> list[Rescued]:
        """Take all jobs from a dead worker and mark it as stopped."""
        ...

    def report_progress(self, worker: str, reports: Sequence[tuple[int, int, float, str]]) -> None:
        """Store (seq, claims, fraction, message) of running jobs; those whose lease was lost change nothing."""
        ...

    def listen(self, worker: str) -> Listener:
        """Open the place where this worker's wake-ups arrive."""
        ...

    # -- questions

    def get(self, job_id: str) -> JobRow:
        """Return one job.

        Raises:
            JobNotFound: no such job.
        """
        ...

    def states(self, job_ids: Sequence[str]) -> Mapping[str, JobState]:
        """Return the states of those of `job_ids` that are stored."""
        ...

    def find(
        self,
        *,
        state: JobState | None = None,
        queue: str | None = None,
        task: str | None = None,
        workflow: str | None = None,
        limit: int = 100,
    ) -> list[JobRow]:
        """Return jobs that match all given conditions, the newest first. `workflow` is a name or an id."""
        ...

    def find_ids(self, *, start: str = "", end: str = "", limit: int = 10) -> list[str]:
        """Return ids that begin with `start` and end with `end`, the last in order first.

        `start` is found by an index. `end` is compared with the ids of the last `ENDS_COMPARED` jobs only, so that the
        question has a bound in a database of any size.
        """
        ...

    def stats(self) -> dict[JobState, int]:
        """Return how many jobs are in each of the six states."""
        ...

    def unfinished(self, tasks: Sequence[str], queues: Sequence[str] | None) -> bool:
        """Return whether a job that such a worker could run is ready, or waits for its next attempt."""
        ...

    def executions(self, job_id: str) -> list[ExecutionRow]:
        """Return the ended attempts of a job, in order."""
        ...

    def parents(self, job_id: str) -> list[tuple[JobRow, When]]:
        """Return what a job depends on."""
        ...

    def dependants(self, job_id: str) -> list[tuple[JobRow, When]]:
        """Return what depends on a job."""
        ...

    def arguments(self, job_id: str) -> bytes:
        """Return the stored arguments of a job. Raises JobNotFound."""
        ...

    def result(self, job_id: str) -> bytes | None:
        """Return the stored result of a completed job, None if it returned None. Raises JobNotFound."""
        ...

    def workers(self) -> list[WorkerRow]:
        """Return the workers that have not stopped, oldest first."""
        ...

    def ready_before(self, job_id: str) -> int:
        """Return how many ready jobs of the same queue are to be claimed before this one."""
        ...

    def watch(self) -> Watch:
        """Return something that notices changes; use it from one thread."""
        ...

    # -- upkeep

    def prune(self, older_than: float) -> int:
        """Delete jobs that ended more than `older_than` seconds ago and that no unfinished job needs; count them."""
        ...

    def close(self) -> None:
        """Close this process's connections. The storage opens new ones if it is used again."""
        ...
