"""The six states of a job and the one table of what may happen in each.

Storage engines cite these events in their SQL, the tests compare every engine with this table, and the picture in
the documentation is drawn from it. A state and an event lead to exactly one state: where the end depends on whether
attempts remain, there are two events, and the caller decides which of them happened.
"""

from __future__ import annotations

from enum import StrEnum
from types import MappingProxyType
from typing import Final

from gigq.errors import IllegalTransition


class JobState(StrEnum):
    """Where a job is in its life. The values are what the database stores and what people read."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    TIMEOUT = "TIMEOUT"

    @property
    def is_terminal(self) -> bool:
        """True where nothing more happens unless a person asks for a retry."""
        return self in TERMINAL_STATES


TERMINAL_STATES: Final = frozenset({JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED, JobState.TIMEOUT})


class Event(StrEnum):
    """What can happen to a job."""

    CLAIM = "claim"
    COMPLETE = "complete"
    FAIL = "fail"
    FAIL_RETRIED = "fail, retried"
    TIME_OUT = "time out"
    TIME_OUT_RETRIED = "time out, retried"
    LOSE = "lose"
    LOSE_RETRIED = "lose, retried"
    RELEASE = "release"
    RELEASE_LAST = "release, last attempt"
    CANCEL = "cancel"
    RETRY = "retry"


_PENDING, _RUNNING = JobState.PENDING, JobState.RUNNING

TRANSITIONS: Final = MappingProxyType(
    {
        (_PENDING, Event.CLAIM): _RUNNING,
        (_PENDING, Event.CANCEL): JobState.CANCELLED,
        (_RUNNING, Event.COMPLETE): JobState.COMPLETED,
        (_RUNNING, Event.FAIL): JobState.FAILED,
        (_RUNNING, Event.FAIL_RETRIED): _PENDING,
        (_RUNNING, Event.TIME_OUT): JobState.TIMEOUT,
        (_RUNNING, Event.TIME_OUT_RETRIED): _PENDING,
        (_RUNNING, Event.LOSE): JobState.FAILED,
        (_RUNNING, Event.LOSE_RETRIED): _PENDING,
        (_RUNNING, Event.RELEASE): _PENDING,
        (_RUNNING, Event.RELEASE_LAST): JobState.FAILED,
        (_RUNNING, Event.CANCEL): JobState.CANCELLED,
        (JobState.FAILED, Event.RETRY): _PENDING,
        (JobState.TIMEOUT, Event.RETRY): _PENDING,
        (JobState.CANCELLED, Event.RETRY): _PENDING,
    }
)


def after(state: JobState, event: Event) -> JobState:
    """Return the state that `event` leads to from `state`.

    Raises:
        IllegalTransition: the event cannot happen in that state.
    """
    try:
        return TRANSITIONS[state, event]
    except KeyError:
        possible = sorted(e.value for s, e in TRANSITIONS if s is state)
        raise IllegalTransition(
            f"a {state} job can {' / '.join(possible) or 'not change any more'}, got {event.value!r}"
        ) from None
