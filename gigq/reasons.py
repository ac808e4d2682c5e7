"""Why a pending job does not run yet: nothing waits in silence."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from gigq.clock import utc_text
from gigq.states import JobState
from gigq.storage.base import Storage
from gigq.storage.rows import BY_VALUE, JobRow, WorkerRow

_NAMED_AT_MOST: Final = 3


def why_pending(storage: Storage, job: JobRow, now: Callable[[], float] = time.time) -> str | None:
    """Return what `job` waits for, in one line; None if it is not pending."""
    if job.state is not JobState.PENDING:
        return None
    if job.unmet:
        return _parents(storage, job)
    if job.due_at is not None:
        return _time(job, now())
    return _worker(storage.workers(), job) or _turn(storage, job)


def _parents(storage: Storage, job: JobRow) -> str:
    waiting = [parent for parent, _ in storage.parents(job.id) if not parent.state.is_terminal]
    named = ", ".join(f"{parent.name} ({parent.id}, {parent.state})" for parent in waiting[:_NAMED_AT_MOST])
    more = f" and {len(waiting) - _NAMED_AT_MOST} more" if len(waiting) > _NAMED_AT_MOST else ""
    return f"{len(waiting)} of the jobs it depends on: {named}{more}"


def _time(job: JobRow, now: float) -> str:
    assert job.due_at is not None
    what = f"attempt {job.attempts + 1} of {job.max_attempts}" if job.attempts else "its time"
    return f"{what}, due in {max(0.0, job.due_at - now):.0f} s ({utc_text(job.due_at)})"


def _worker(workers: list[WorkerRow], job: JobRow) -> str | None:
    if not workers:
        return "a worker: none is running"
    serving = [worker for worker in workers if worker.queues is None or job.queue in worker.queues]
    if not serving:
        return f"a worker for queue {job.queue!r}: none of the {len(workers)} running serves it"
    if job.task != BY_VALUE and not any(job.task in worker.tasks for worker in serving):
        return f"a worker that knows task {job.task!r}: none of the {len(serving)} running for this queue does"
    return None


def _turn(storage: Storage, job: JobRow) -> str:
    ahead = storage.ready_before(job.id)
    return "its turn: it is next" if ahead == 0 else f"its turn: {ahead} ready jobs of its queue come first"
