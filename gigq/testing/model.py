"""What a storage must do, written a second time in the plainest way: a dictionary of jobs and no index, lock or SQL.

Tests do the same to a storage and to this model and compare. It follows `gigq.states` event by event, and raises
`IllegalTransition` where that table has no entry, so an engine and the table cannot drift apart unseen.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from gigq.errors import IllegalTransition
from gigq.states import Event, JobState, after
from gigq.storage.leases import ClaimRequest, End, Outcome
from gigq.storage.rows import NewJob, When

_FINAL_EVENTS = {
    End.COMPLETED: Event.COMPLETE,
    End.FAILED: Event.FAIL,
    End.TIMED_OUT: Event.TIME_OUT,
    End.LOST: Event.LOSE,
    End.CANCELLED: Event.CANCEL,
}
_RETRIED_EVENTS = {
    End.FAILED: Event.FAIL_RETRIED,
    End.TIMED_OUT: Event.TIME_OUT_RETRIED,
    End.LOST: Event.LOSE_RETRIED,
}


@dataclass(slots=True)
class ModelJob:
    """A job as the model sees it."""

    id: str
    seq: int
    task: str
    queue: str
    priority: int
    max_attempts: int
    due_at: float | None
    parents: dict[str, When]
    state: JobState = JobState.PENDING
    attempts: int = 0
    claims: int = 0
    worker: str | None = None
    finished_at: float | None = None
    cancel_requested: bool = False
    fell: bool = False  # cancelled by a parent's end, and not by a person
    result: bytes | None = None
    executions: list[tuple[int, int, str, End]] = field(default_factory=list)  # claims, attempt, worker, end


class StorageModel:
    """All jobs in a dictionary. Its methods are the storage's verbs, with the time as an argument."""

    def __init__(self) -> None:
        self.jobs: dict[str, ModelJob] = {}
        self.stopped: set[str] = set()
        self._last_seq = 0

    # -- what follows from the jobs

    def unmet(self, job: ModelJob) -> int:
        """Count the parents that have not ended."""
        return sum(not self.jobs[parent].state.is_terminal for parent in job.parents)

    def next_due_at(self) -> float | None:
        """Return when the next job that waits for its time is due."""
        waiting = [job.due_at for job in self.jobs.values() if job.state is JobState.PENDING and job.due_at is not None]
        return min(waiting, default=None)

    def held_by(self, worker: str) -> list[ModelJob]:
        """Return the jobs that a worker runs."""
        return [job for job in self.jobs.values() if job.state is JobState.RUNNING and job.worker == worker]

    def _children(self, parent: str) -> Iterator[ModelJob]:
        return (job for job in list(self.jobs.values()) if parent in job.parents)

    def _bad_parent(self, job: ModelJob) -> bool:
        ended = ((self.jobs[parent].state, when) for parent, when in job.parents.items())
        return any(state.is_terminal and not when.is_met_by(state) for state, when in ended)

    # -- verbs

    def submit(self, jobs: Sequence[NewJob], now: float) -> None:
        for job in jobs:
            self._last_seq += 1
            due_at = now + job.delay if job.delay else job.run_at
            self.jobs[job.id] = ModelJob(
                job.id,
                self._last_seq,
                job.task,
                job.queue,
                job.priority,
                job.max_attempts,
                due_at if due_at is not None and due_at > now else None,
                {parent.job_id: parent.when for parent in job.parents},
            )
        for job in jobs:
            self._fall_if_doomed(self.jobs[job.id], now)

    def claim(self, request: ClaimRequest, now: float) -> list[str]:
        for job in self.jobs.values():
            if job.state is JobState.PENDING and job.due_at is not None and job.due_at <= now:
                job.due_at = None
        if request.worker in self.stopped:
            return []
        ready = [
            job
            for job in self.jobs.values()
            if job.state is JobState.PENDING
            and job.due_at is None
            and self.unmet(job) == 0
            and job.task in request.tasks
            and (request.queues is None or job.queue in request.queues)
        ]
        ready.sort(key=lambda job: (-job.priority, job.seq))
        claimed = ready[: request.limit]
        for job in claimed:
            job.state = after(job.state, Event.CLAIM)
            job.attempts += 1
            job.claims += 1
            job.worker = request.worker
        return [job.id for job in claimed]

    def finish(self, worker: str, outcomes: Sequence[Outcome], now: float) -> list[Outcome]:
        """Record ends; return those whose lease was lost."""
        fenced, ended = [], []
        for outcome in outcomes:
            job = self.jobs.get(outcome.id)
            if job is None or (job.state, job.claims, job.worker) != (JobState.RUNNING, outcome.claims, worker):
                fenced.append(outcome)
                continue
            self._end(job, worker, outcome, now)
            ended.append(job)
        self._settle_ended(ended, now)
        return fenced

    def _settle_ended(self, ended: Sequence[ModelJob], now: float) -> None:
        """Let the dependants feel the ends, after all of one transaction: what is to be tried again is pending then."""
        for job in ended:
            if job.state.is_terminal:
                self._settle(job, now)
            else:
                self._fall_if_doomed(job, now)  # while it ran, a parent was retried and ended in another way

    def _end(self, job: ModelJob, worker: str, outcome: Outcome, now: float) -> None:
        started = outcome.started_at is not None
        if outcome.end is not End.RELEASED or started:
            job.executions.append((job.claims, outcome.attempt, worker, outcome.end))
        spent = job.attempts >= job.max_attempts
        if outcome.end is End.RELEASED:
            event = Event.RELEASE_LAST if started and spent else Event.RELEASE
            if job.cancel_requested:
                event = Event.CANCEL
            if not started or event is Event.RELEASE:
                job.attempts -= 1
        elif outcome.end not in _RETRIED_EVENTS or outcome.retry_in is None or spent:
            event = _FINAL_EVENTS[outcome.end]
        else:
            event = Event.CANCEL if job.cancel_requested else _RETRIED_EVENTS[outcome.end]
        job.state = after(job.state, event)
        if job.state is JobState.PENDING:
            job.due_at = now + outcome.retry_in if outcome.retry_in else None
            return
        job.result = outcome.result if job.state is JobState.COMPLETED else None
        job.finished_at = outcome.finished_at

    def _settle(self, parent: ModelJob, now: float) -> None:
        for child in self._children(parent.id):
            self._fall_if_doomed(child, now)

    def _fall_if_doomed(self, job: ModelJob, now: float) -> None:
        if job.state is JobState.PENDING and self._bad_parent(job):
            job.state = after(job.state, Event.CANCEL)
            job.fell = True
            job.finished_at = now
            self._settle(job, now)

    def rescue(self, worker: str, now: float) -> dict[str, JobState]:
        self.stopped.add(worker)
        held = self.held_by(worker)
        for job in held:
            lost = Outcome(job.seq, job.id, job.claims, job.attempts, End.LOST, now, now, retry_in=0)
            self._end(job, worker, lost, now)
        self._settle_ended(held, now)
        return {job.id: job.state for job in held}

    def cancel(self, job_id: str, now: float) -> JobState:
        job = self.jobs[job_id]
        if job.state is JobState.PENDING:
            job.state = after(job.state, Event.CANCEL)
            job.finished_at = now
            self._settle(job, now)
        elif job.state is JobState.RUNNING:
            job.cancel_requested = True
        return job.state

    def retry(self, job_id: str) -> set[str]:
        """Put a job back; return the ids of all that came back."""
        job = self.jobs[job_id]
        after(job.state, Event.RETRY)
        if self._bad_parent(job):
            raise IllegalTransition("what it depends on has ended badly")
        revived = {job_id}
        self._put_back(job)
        # Until nothing changes: whatever fell, below something that came back, and has no bad parent left.
        while more := {
            child.id
            for parent in revived
            for child in self._children(parent)
            if child.fell and child.state is JobState.CANCELLED and not self._bad_parent(child)
        }:
            for child_id in more:
                self._put_back(self.jobs[child_id])
            revived |= more
        return revived

    def _put_back(self, job: ModelJob) -> None:
        if job.attempts:
            job.due_at = None
        job.state = after(job.state, Event.RETRY)
        job.attempts = 0
        job.finished_at = None
        job.cancel_requested = False
        job.fell = False

    def prune(self, older_than: float, now: float) -> int:
        newest = max((job.seq for job in self.jobs.values()), default=0)
        count = 0
        # Until nothing changes: what fell keeps its parents, without which it could be retried in vain.
        while gone := [
            job
            for job in self.jobs.values()
            if job.state.is_terminal
            and job.finished_at is not None
            and job.finished_at <= now - older_than
            and job.seq != newest
            and all(child.state.is_terminal and not child.fell for child in self._children(job.id))
        ]:
            for job in gone:
                for child in self._children(job.id):
                    del child.parents[job.id]
                del self.jobs[job.id]
            count += len(gone)
        return count
