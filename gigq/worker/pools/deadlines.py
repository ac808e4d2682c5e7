"""When running jobs will be overdue, of many jobs at once."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from typing import Final

from gigq.worker.pools.loop_children import LoopChild

_NS: Final = 1_000_000_000
_SPARED: Final = 1_000  # entries of ended jobs that may stay


class Deadlines:
    """A heap of deadlines, the earliest first.

    A job is entered when it is given, with the deadline it would have if it started at once. When that has come, the
    table of its child says when it did start; then its entry is right. Entries of jobs that have ended stay until they
    are due, or outnumber the others: of a million short jobs with a timeout of an hour not many are kept.
    """

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, LoopChild]] = []  # monotonic nanoseconds, token, child

    def add(self, child: LoopChild, token: int, timeout: float, now: int) -> None:
        """Enter a job that is given to a child now."""
        heapq.heappush(self._heap, (now + int(timeout * _NS), token, child))

    def overdue(self, now: int) -> Iterator[tuple[LoopChild, int]]:
        """Take out the jobs that are overdue: child and token."""
        heap = self._heap
        while heap and heap[0][0] <= now:
            _, token, child = heapq.heappop(heap)
            entry = child.ahead.get(token)
            if entry is None or child.killed_at is not None:
                continue
            timeout = entry[0].timeout
            assert timeout is not None
            # One that has not started may start now at the earliest.
            deadline = (child.started(token) or now) + int(timeout * _NS)
            if deadline <= now:
                yield child, token
            else:
                heapq.heappush(heap, (deadline, token, child))

    def next_at(self, running: int) -> int | None:
        """Return when to call `overdue` again, None: nothing is timed. `running`: how many jobs there are at all."""
        if len(self._heap) > 2 * running + _SPARED:
            self._heap = [entry for entry in self._heap if entry[1] in entry[2].ahead]
            heapq.heapify(self._heap)
        return self._heap[0][0] if self._heap else None
