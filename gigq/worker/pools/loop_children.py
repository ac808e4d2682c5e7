"""The supervisor's side of a child that runs many jobs at once, in an event loop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from gigq.worker.pools.children import Child
from gigq.worker.pools.endings import StopReason
from gigq.worker.pools.slots import BEAT, BEGUN, BUSY, SINCE, STOP

BEAT_NS: Final = 20_000_000  # a loop that runs jobs notes so often that it turns: 0.1 % of a processor
BLOCKED_NS: Final = 3 * BEAT_NS  # without that, it is blocked: a coroutine computes, or waits in a plain call


@dataclass(slots=True)
class LoopStop:
    """A job was told to stop, or is to be told."""

    reason: StopReason
    asked_at: int  # monotonic nanoseconds
    is_told: bool = False
    is_told_twice: bool = False


class LoopChild(Child):
    """A child process with an event loop, which runs up to `slots` jobs at once.

    It reads a token only when it has a free slot, notes it when the job begins, and frees the slot when the outcome has
    left it. So the jobs on the account whose tokens are not in the socket any more, and which have begun, are those
    that it has started, up to `slots` of them. The table in shared memory tells since when each runs.
    """

    def __init__(self, number: int, body_limit_bytes: int, slots: int) -> None:
        self.slots = slots
        super().__init__(number, body_limit_bytes)
        self.stops: dict[int, LoopStop] = {}  # by token
        self.given_at = 0  # monotonic nanoseconds
        self.end_reason: StopReason | None = None  # why all of its jobs are stopped
        self.end_cause: str | None = None  # what is said of those that are stopped for no fault of theirs
        self.is_lagging = False  # it was said that its loop is blocked

    @property
    def busy(self) -> int:
        """How many jobs it runs, as it says itself."""
        return self.slot.words[BUSY]

    @property
    def begun(self) -> int:
        """The last token whose job has begun; jobs begin in the order of their tokens."""
        return self.slot.words[BEGUN]

    def started(self, token: int) -> int:
        """Return when a job was started, in monotonic nanoseconds; 0: it is not known to run."""
        at = self.slot.find(token, self.slots)
        return self.slot.words[at + SINCE] if at else 0

    def tell_to_stop(self, token: int) -> bool:
        """Mark a running job in the table; the child looks there when the signal comes. False: it is not there."""
        at = self.slot.find(token, self.slots)
        if at:
            self.slot.words[at + STOP] = token
        return at > 0

    def lag(self, now: int) -> int:
        """Return for how many nanoseconds the loop has not turned; 0 when it runs nothing, and may sleep."""
        words = self.slot.words
        return max(0, now - words[BEAT]) if words[BUSY] else 0

    def stop_reason(self, token: int) -> StopReason | None:
        """Return why a job was told to stop, None if it was not."""
        stop = self.stops.get(token)
        return self.end_reason if stop is None else stop.reason
