"""Decide how an attempt ended, from what its child wrote, or from how its child died. Pure functions."""

from __future__ import annotations

import json
from enum import Enum
from typing import Any, NamedTuple

from gigq.payload import Failure
from gigq.storage.leases import ClaimedJob, End
from gigq.worker.pools import channel
from gigq.worker.pools.base import Ended


class StopReason(Enum):
    """Why a running job is stopped."""

    TIMEOUT = "timeout"
    CANCEL = "cancel"
    RELEASE = "release"


class Stop(NamedTuple):
    """A running job was told to stop."""

    token: int
    reason: StopReason
    asked_at: int  # monotonic nanoseconds


def of_outcome(job: ClaimedJob, frame: channel.Frame, reason: StopReason | None, pid: int | None) -> Ended:
    """Return how a job ended that reported its end itself; `reason` is why it was told to stop, if it was."""
    end, result, error, retryable, delay = End.COMPLETED, frame.body or None, None, False, None
    if frame.kind == channel.FAILED:
        end, result = End.FAILED, None
        retryable, delay, error = channel.decode_failure(frame.body)
    if job.timeout is not None and frame.duration >= job.timeout:
        # Whatever it did afterwards: it may have swallowed the exception and returned.
        end, failure = End.TIMED_OUT, timed_out(job.timeout, _traceback(error))
    elif reason is StopReason.CANCEL and frame.flags & channel.STOPPED:
        # Without the flag it had ended before the exception could reach it, and what it did stands.
        end, failure = End.CANCELLED, Failure("Cancelled", "cancelled while it was running", _traceback(error))
    else:
        return Ended(job, end, frame.started_at, frame.duration, pid, result, error, retryable, delay)
    return Ended(job, end, frame.started_at, frame.duration, pid, None, failure.to_json())


def of_death(
    job: ClaimedJob, reason: StopReason | None, cause: str, started_at: float, duration: float, pid: int | None
) -> Ended:
    """Return how a job ended whose child died while it ran; `cause` says why."""
    if reason is StopReason.RELEASE:
        end, failure = End.RELEASED, Failure("Released", "stopped with its worker", "")
    elif reason is StopReason.CANCEL:
        end, failure = End.CANCELLED, Failure("Cancelled", "cancelled, and killed because it went on", "")
    elif job.timeout is not None and (reason is StopReason.TIMEOUT or duration >= job.timeout):
        end, failure = End.TIMED_OUT, timed_out(job.timeout, "")
    else:
        end, failure = End.LOST, Failure("ChildDied", cause, "")
    return Ended(job, end, started_at, duration, pid, None, failure.to_json())


def unstarted(job: ClaimedJob) -> Ended:
    """Return the end of a job that was cancelled before it started."""
    return Ended(
        job, End.CANCELLED, None, 0.0, None, None, Failure("Cancelled", "cancelled before it started", "").to_json()
    )


def timed_out(timeout: float, traceback: str) -> Failure:
    """Describe a timeout."""
    return Failure("Timeout", f"ran longer than its timeout of {timeout:g} s", traceback)


def _traceback(error: str | None) -> str:
    """Return the traceback in a failure that a child has written."""
    if error is None:
        return ""
    try:
        value: Any = json.loads(error)["traceback"]
    except (ValueError, TypeError, KeyError):
        return ""
    return value if isinstance(value, str) else ""
