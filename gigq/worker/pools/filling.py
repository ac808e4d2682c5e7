"""Decide which child with an event loop gets which job, and how many more there is use for.

Invariant: never more than `concurrency` jobs run at once. While no child is on its way out, the slots of all children
together are `concurrency`, so tokens may wait at any of them. While one is, its jobs still use slots that its successor
has too; then nothing waits anywhere: a token is given only for a slot that is free in the whole pool.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence

from gigq.storage.leases import ClaimedJob
from gigq.worker.pools.estimates import AHEAD_JOBS, AHEAD_SECONDS, Estimates
from gigq.worker.pools.loop_children import BLOCKED_NS, LoopChild
from gigq.worker.pools.sharing import AHEAD_NS


def reserve(child: LoopChild, typical: float | None, now: int) -> int:
    """Return how many jobs may wait at a child for its next free slots: about as many as it ends in 5 ms."""
    if typical is None:
        return 0
    if len(child.ahead) >= child.slots and now - max(child.active_at, child.given_at) > AHEAD_NS:
        return 0  # all slots are taken by longer jobs
    return min(AHEAD_JOBS, int(AHEAD_SECONDS * child.slots / max(typical, 1e-9)))


def rooms(children: Sequence[LoopChild], concurrency: int, estimates: Estimates, now: int) -> tuple[list[int], int]:
    """Return how many jobs each child may be given, and how many all together."""
    running = sum([min(len(child.ahead), child.slots) for child in children])
    is_handing_over = any(child.is_retiring and child.ahead for child in children)
    typical = estimates.typical
    found: list[int] = []
    for child in children:
        ahead = len(child.ahead)
        if child.is_retiring or child.quota <= 0 or child.lag(now) > BLOCKED_NS:
            found.append(0)
        else:
            room = child.slots + (0 if is_handing_over else reserve(child, typical, now)) - ahead
            found.append(max(0, min(room, child.quota)))
    total = sum(found)
    return found, min(total, max(0, concurrency - running)) if is_handing_over else total


def wanted(children: Sequence[LoopChild], concurrency: int, estimates: Estimates, now: int) -> int:
    """Return how many jobs fit now, and about as many as end until the next ones are claimed."""
    found, total = rooms(children, concurrency, estimates, now)
    if any(child.is_retiring for child in children):
        return total
    typical = estimates.typical
    return total + sum([reserve(child, typical, now) for child, room in zip(children, found, strict=True) if room])


def share_out(
    jobs: Sequence[ClaimedJob],
    children: Sequence[LoopChild],
    concurrency: int,
    estimates: Estimates,
    last_token: int,
    now: int,
) -> tuple[int, set[int]]:
    """Assign the first of `jobs` to the children with the most room; return how many, and which children got some."""
    found, total = rooms(children, concurrency, estimates, now)
    heap = [(-room, index) for index, room in enumerate(found) if room]
    heapq.heapify(heap)
    touched: set[int] = set()
    given = 0
    for job in jobs[:total]:
        room, index = heap[0]
        child = children[index]
        if not child.ahead:
            child.active_at = now
        given += 1
        child.assign(last_token + given, job, 0.0)
        if index not in touched:
            touched.add(index)
            child.given_at = now
        if room == -1:
            heapq.heappop(heap)
        else:
            heapq.heapreplace(heap, (room + 1, index))
    return given, touched
