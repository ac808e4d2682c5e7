"""What every storage engine must do.

The verbs name intent. Each one that changes a job is one transaction, and each change of state is one guarded
statement, so that a late writer changes nothing. `gigq.testing.conformance` holds an engine to all of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from gigq.states import JobState
from gigq.storage.rows import ExecutionRow, JobRow, NewJob, When, WorkerRow

if TYPE_CHECKING:
    from gigq.storage.leases import Claimed, ClaimRequest, Finished, Outcome, Rescued


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
