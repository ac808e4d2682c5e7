"""`JobQueue`: the whole store of jobs."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any, TypeAlias, TypeVar

from gigq.errors import ConfigurationError
from gigq.handle import Binding
from gigq.job import Job
from gigq.retry import seconds
from gigq.signing import SecretKey, Signer, make_signer
from gigq.states import JobState
from gigq.storage import Durability, open_storage
from gigq.storage.base import Storage
from gigq.storage.rows import ExecutionRow, WorkerRow
from gigq.submission import submit

T = TypeVar("T")

Jobs: TypeAlias = list[Job[Any]]  # inside the class `list` is the method
Executions: TypeAlias = list[ExecutionRow]
Workers: TypeAlias = list[WorkerRow]


class JobQueue:
    """Submit jobs, look at them, cancel and retry them. Safe to use from several threads, and after a fork.

    Nothing is opened before the first use. Every method raises `StorageBusy` if another program keeps the database
    locked for 30 seconds, and `StorageError` for whatever else the database reports; nothing was stored then, unless
    it is `OutcomeUnknown`.

    Args:
        url: a path, or a `sqlite:///` URL; without one `$GIGQ_URL`, else `gigq.db` in the current folder.
        durability: `"power"` keeps what was committed through a power cut, `"process"` only through the death of
            every process, and stores single jobs faster.
        tasks: tasks by name, to show the functions of stored jobs.
        secret_key: signs arguments and checks results: a str or bytes of at least 32 bytes, or a list of them, of which
            the first signs and all are accepted; without one `$GIGQ_SECRET_KEY`, or what is in the file
            `$GIGQ_SECRET_KEY_FILE`, else nothing is signed.
    """

    def __init__(
        self,
        url: str | os.PathLike[str] | None = None,
        *,
        durability: Durability = "power",
        tasks: Mapping[str, Any] | None = None,
        secret_key: SecretKey | None = None,
    ) -> None:
        from gigq.storage.urls import resolve_url  # takes 7 ms, which `import gigq` does without

        self.url = resolve_url(url)
        self.durability = check_durability(durability)
        self._binding = Binding(
            open_storage(self.url, durability=durability), {} if tasks is None else tasks, make_signer(secret_key)
        )

    def __repr__(self) -> str:
        return f"JobQueue({self.url!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (self.url, self.durability)

    @property
    def storage(self) -> Storage:
        """The engine underneath."""
        return self._binding.storage

    @property
    def signer(self) -> Signer | None:
        """What signs its payloads; None: they are not signed."""
        return self._binding.signer

    @property
    def binding(self) -> Binding:
        """What handles of this queue's jobs hold on to."""
        return self._binding

    def submit(self, job: Job[T]) -> Job[T]:
        """Store a job, with all it depends on that is not stored yet; it is committed when this returns.

        Raises:
            AlreadySubmitted: it is stored already.
            DependencyError: a dependency is unknown, in another database, or part of a cycle.
            PayloadError: the arguments cannot be pickled.
        """
        submit(self._binding, [job])
        return job

    def submit_many(self, jobs: Iterable[Job[T]]) -> list[Job[T]]:
        """Store jobs in one transaction, all or none; return them. Raises what `submit` raises."""
        if isinstance(jobs, Job):
            raise ConfigurationError(f"submit_many takes a list of jobs, got {jobs!r}: write [job], or submit(job)")
        stored = list(jobs)
        submit(self._binding, stored)
        return stored

    def get(self, job_id: str) -> Job[Any]:
        """Return a handle on a stored job.

        Raises:
            JobNotFound: there is none of that id.
        """
        return Job.stored(self.storage.get(job_id), self._binding)

    def cancel(self, job_id: str, reason: str = "cancelled by a person") -> JobState:
        """Cancel a job; return its state: CANCELLED, RUNNING while its worker stops it, or how it had ended.

        Raises:
            JobNotFound: there is none of that id.
        """
        return self.storage.cancel(job_id, reason)

    def retry(self, job_id: str) -> Job[Any]:
        """Run a job again that ended badly, attempts from 1; what fell with it comes back too. Return a handle.

        Raises:
            JobNotFound: there is none of that id.
            IllegalTransition: it has not failed, timed out or been cancelled.
        """
        self.storage.retry(job_id)
        return self.get(job_id)

    def list(
        self,
        *,
        state: JobState | str | None = None,
        queue: str | None = None,
        task: str | None = None,
        workflow: str | None = None,
        limit: int = 100,
    ) -> Jobs:
        """Return the jobs that match all conditions, the newest first, at most `limit`. `workflow` is a name or id."""
        if isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit < 2**63:
            raise ConfigurationError(f"limit must be an int of at least 1, got {limit!r}")
        rows = self.storage.find(
            state=None if state is None else _state(state), queue=queue, task=task, workflow=workflow, limit=limit
        )
        return [Job.stored(row, self._binding) for row in rows]

    def stats(self) -> dict[JobState, int]:
        """Return how many jobs are in each of the six states."""
        return self.storage.stats()

    def executions(self, job_id: str) -> Executions:
        """Return the ended attempts of a job, in order.

        Raises:
            JobNotFound: there is no job of that id.
        """
        self.storage.get(job_id)
        return self.storage.executions(job_id)

    def workers(self) -> Workers:
        """Return the workers that have not stopped."""
        return self.storage.workers()

    def prune(self, *, older_than: float | timedelta) -> int:
        """Delete jobs that ended more than `older_than` (seconds or timedelta) ago; return how many.

        Jobs whose results an unfinished job may still need are spared.
        """
        return self.storage.prune(seconds("older_than", older_than))

    def close(self) -> None:
        """Close this process's connections; further use opens new ones."""
        self.storage.close()


def check_durability(value: Any) -> Durability:
    """Return a durability.

    Raises:
        ConfigurationError: it is neither "power" nor "process".
    """
    if value == "power":
        return "power"
    if value == "process":
        return "process"
    raise ConfigurationError(f'durability must be "power" or "process", got {value!r}')


def _restore(url: str, durability: Durability) -> JobQueue:
    return JobQueue(url, durability=durability)


def _state(value: JobState | str) -> JobState:
    try:
        return JobState(value.upper())
    except (ValueError, AttributeError):
        raise ConfigurationError(f"state must be one of {', '.join(JobState)}, got {value!r}") from None
