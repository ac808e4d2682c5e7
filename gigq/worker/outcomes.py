"""From what a pool saw to what storage records: whether another attempt follows, and when."""

from __future__ import annotations

import logging
import time
from typing import Final

from gigq.payload import Failure
from gigq.plain import plain
from gigq.retry import RetryPolicy
from gigq.storage.leases import ClaimedJob, End, Outcome
from gigq.worker.pools.base import Ended, Hello

log = logging.getLogger("gigq.worker")


def outcome_of(ended: Ended, hello: Hello) -> Outcome:
    """Return the outcome of an attempt."""
    job = ended.job
    if ended.end is End.COMPLETED and ended.started_at is not None:  # nearly always: nothing is left to decide
        return Outcome(
            job.seq, job.id, job.claims, job.attempt, End.COMPLETED,
            ended.started_at, ended.started_at + ended.duration, ended.pid, ended.result,
        )  # fmt: skip
    finished_at = time.time() if ended.started_at is None else ended.started_at + ended.duration
    reason = None if ended.error is None else str(Failure.from_json(ended.error))
    return Outcome(
        job.seq, job.id, job.claims, job.attempt, ended.end, ended.started_at, finished_at, ended.pid,
        ended.result, ended.error, reason, _retry_in(ended, hello),
    )  # fmt: skip


def release_of(job: ClaimedJob) -> Outcome:
    """Return the outcome of a job that had not started and goes back."""
    return Outcome(job.seq, job.id, job.claims, job.attempt, End.RELEASED, None, time.time())


_VERBS: Final = {
    End.COMPLETED: "completed",
    End.FAILED: "failed",
    End.TIMED_OUT: "timed out",
    End.LOST: "was lost",
    End.RELEASED: "was given back",
    End.CANCELLED: "was cancelled",
}


def log_end(ended: Ended, outcome: Outcome) -> None:
    """Log how an attempt ended: what failed as a warning, what completed only for those who look closely."""
    bad = outcome.end in (End.FAILED, End.TIMED_OUT, End.LOST)
    job = ended.job
    text = f"{job.name} ({job.id}) attempt {job.attempt} of {job.max_attempts} {_VERBS[outcome.end]}"
    if outcome.reason is not None:
        text += f": {outcome.reason}"
    if bad:
        again = outcome.retry_in is not None and job.attempt < job.max_attempts
        text += f"; again in {outcome.retry_in:.3g} s" if again else "; not tried again"
    # Made plain here, and not by our own formatter alone: a program that calls app.worker() has its own handlers.
    log.log(logging.WARNING if bad else logging.DEBUG, "%s", plain(text))


def _retry_in(ended: Ended, hello: Hello) -> float | None:
    job = ended.job
    if ended.end is End.LOST:
        return 0.0
    if ended.end is End.FAILED and ended.retryable:
        return ended.retry_delay if ended.retry_delay is not None else _policy(job, hello).delay_after(job.attempt)
    if ended.end is End.TIMED_OUT and (policy := _policy(job, hello)).on_timeout:
        return policy.delay_after(job.attempt)
    return None


def _policy(job: ClaimedJob, hello: Hello) -> RetryPolicy:
    task = hello.tasks.get(job.task)
    return RetryPolicy.stored(job.policy, hello.default_policy if task is None else task.policy)
