"""Short ways to say what happens to jobs, for tests of storages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from gigq.ids import new_id
from gigq.payload import Failure
from gigq.states import JobState
from gigq.storage.base import Storage
from gigq.storage.leases import ClaimedJob, ClaimRequest, End, Finished, Outcome
from gigq.storage.rows import NewJob, Parent, When, WorkerRow
from gigq.testing.clock import FakeClock

TASK: Final = "shop.pack"
WORKER: Final = "w1"

Parents = Sequence[str] | Mapping[str, When]


def new_job(
    name: str = "job",
    *,
    id: str | None = None,
    task: str = TASK,
    queue: str = "default",
    priority: int = 0,
    max_attempts: int = 3,
    timeout: float | None = None,
    policy: str | None = None,
    arguments: bytes = b"arguments",
    workflow: tuple[str, str] | None = None,
    delay: float | None = None,
    run_at: float | None = None,
    parents: Parents = (),
) -> NewJob:
    """Return a job to be stored. `parents` are ids, or ids with the end that is waited for."""
    edges = parents if isinstance(parents, Mapping) else dict.fromkeys(parents, When.SUCCESS)
    return NewJob(
        id=id or new_id(),
        name=name,
        task=task,
        function=task,
        queue=queue,
        priority=priority,
        max_attempts=max_attempts,
        timeout=timeout,
        policy=policy,
        arguments=arguments,
        summary="1, 2",
        description="packs a parcel",
        workflow=None if workflow is None else workflow[0],
        workflow_id=None if workflow is None else workflow[1],
        delay=delay,
        run_at=run_at,
        parents=[Parent(job_id, when) for job_id, when in edges.items()],
    )


def worker_row(worker: str, now: float, *, address: str | None = None) -> WorkerRow:
    """Return a worker that serves every queue and knows `TASK`."""
    return WorkerRow(
        id=worker,
        name=f"name of {worker}",
        hostname="here",
        host="machine/namespace",
        pid=4242,
        pid_started=7,
        pool="process",
        concurrency=2,
        queues=None,
        tasks=(TASK,),
        address=address,
        started_at=now,
        beat_at=now,
    )


def outcome(
    job: ClaimedJob,
    end: End,
    now: float,
    *,
    started: bool = True,
    result: bytes | None = None,
    reason: str | None = None,
    retry_in: float | None = None,
) -> Outcome:
    """Return the end of the attempt that `job` was claimed for."""
    error = None if reason is None else Failure("ValueError", reason, "traceback").to_json()
    return Outcome(
        seq=job.seq,
        id=job.id,
        claims=job.claims,
        attempt=job.attempt,
        end=end,
        started_at=now if started else None,
        finished_at=now,
        pid=99 if started else None,
        result=result,
        error=error,
        reason=reason,
        retry_in=retry_in,
    )


class Harness:
    """A storage and its clock, with the steps of a job's life as one-liners."""

    def __init__(self, storage: Storage, clock: FakeClock) -> None:
        self.storage = storage
        self.clock = clock
        self._registered: set[str] = set()

    def submit(
        self,
        name: str = "job",
        *,
        task: str = TASK,
        queue: str = "default",
        priority: int = 0,
        max_attempts: int = 3,
        delay: float | None = None,
        run_at: float | None = None,
        workflow: tuple[str, str] | None = None,
        parents: Parents = (),
    ) -> str:
        """Store one job and return its id."""
        job = new_job(
            name,
            task=task,
            queue=queue,
            priority=priority,
            max_attempts=max_attempts,
            delay=delay,
            run_at=run_at,
            workflow=workflow,
            parents=parents,
        )
        self.storage.submit([job])
        return job.id

    def claim(
        self,
        worker: str = WORKER,
        *,
        limit: int = 10,
        tasks: Sequence[str] = (TASK,),
        queues: Sequence[str] | None = None,
    ) -> list[ClaimedJob]:
        """Claim jobs for a worker, which registers before its first claim."""
        if worker not in self._registered:
            self.register(worker)
        return self.storage.claim(ClaimRequest(worker, limit, tasks, queues)).jobs

    def claimed_ids(self, *, limit: int = 10) -> list[str]:
        """Claim jobs and return only their ids."""
        return [job.id for job in self.claim(limit=limit)]

    def claim_one(self, worker: str = WORKER) -> ClaimedJob:
        """Claim the next job, which must exist."""
        (job,) = self.claim(worker, limit=1)
        return job

    def end(
        self,
        job: ClaimedJob,
        end: End = End.COMPLETED,
        *,
        worker: str = WORKER,
        started: bool = True,
        result: bytes | None = None,
        reason: str | None = None,
        retry_in: float | None = None,
    ) -> Finished:
        """Record how a claimed job's attempt ended."""
        ended = outcome(job, end, self.clock.now(), started=started, result=result, reason=reason, retry_in=retry_in)
        return self.storage.finish(worker, [ended])

    def run(self, job_id: str, end: End = End.COMPLETED, *, result: bytes | None = None) -> None:
        """Claim the next job, which must be this one, and end it at once, with no further attempt."""
        job = self.claim_one()
        assert job.id == job_id, f"expected {job_id} to be next, got {job.name} ({job.id})"
        finished = self.end(job, end, result=result, reason=None if end is End.COMPLETED else "boom")
        assert finished.fenced == []

    def state(self, job_id: str) -> JobState:
        """Return a job's state."""
        return self.storage.get(job_id).state

    def register(self, worker: str = WORKER, *, address: str | None = None) -> None:
        """Store a worker that starts now, and listens at `address`."""
        self._registered.add(worker)
        self.storage.register(worker_row(worker, self.clock.now(), address=address))
