"""Decide which child gets which job, and how many more there is use for."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from typing import Final

from gigq.storage.leases import ClaimedJob
from gigq.worker.pools.children import ProcessChild as Child
from gigq.worker.pools.estimates import AHEAD_JOBS, AHEAD_SECONDS, SOON_SECONDS, Estimates

NS: Final = 1_000_000_000
AHEAD_NS: Final = int(AHEAD_SECONDS * NS)
_REBALANCE_SECONDS: Final = 0.002  # of work behind a job, while another child is idle


def work_left(child: Child, now: int) -> float | None:
    """Return the seconds of work a child probably has left; None: it is into a job that takes longer than most."""
    if not child.ahead:
        return 0.0
    token, started = child.running()
    if not token:
        return child.load
    elapsed = now - started
    seconds = child.ahead[token][1]
    if elapsed > AHEAD_NS and elapsed > seconds * NS:
        return None
    return max(1e-9, child.load - min(elapsed / NS, seconds))


def wanted(children: Sequence[Child], estimates: Estimates, now: int) -> int:
    """Return how many jobs fit now, and about the same again as a reserve where a child is free soon."""
    typical, full = estimates.typical, estimates.full_load()
    is_short = typical is not None and typical <= SOON_SECONDS
    count = 0
    for child in children:
        if child.is_retiring:
            continue
        if not child.ahead:
            count += min(full * 2 if is_short else full, child.quota)
            continue
        left = work_left(child, now)
        if typical is None or left is None or left > SOON_SECONDS:
            continue
        fits = int(max(0.0, AHEAD_SECONDS - left) / max(typical, 1e-9))
        fitting = max(0, min(fits, AHEAD_JOBS - len(child.ahead)))
        count += min(fitting + (full if is_short else 1), child.quota)
    return count


def share_out(
    jobs: Sequence[ClaimedJob], children: Sequence[Child], estimates: Estimates, last_token: int, now: int
) -> tuple[int, set[int]]:
    """Assign the first of `jobs` to the children with the least work; return how many, and which children got some."""
    heap: list[tuple[float, int]] = []  # seconds of work left, index of the child
    for index, child in enumerate(children):
        if not child.is_retiring:
            left = work_left(child, now)
            if left is not None:
                heap.append((left, index))
    heapq.heapify(heap)
    touched: set[int] = set()
    given = 0
    for job in jobs:
        while heap and (len(children[heap[0][1]].ahead) >= AHEAD_JOBS or children[heap[0][1]].quota <= 0):
            heapq.heappop(heap)
        if not heap:
            break
        left, index = heap[0]
        child = children[index]
        seconds = estimates.of(job)
        if seconds is None:
            seconds = AHEAD_SECONDS  # it may be anything: nothing goes before or behind it
        if child.ahead:
            if left + seconds > AHEAD_SECONDS:
                break
        else:
            child.active_at = now
        given += 1
        child.assign(last_token + given, job, seconds)
        heapq.heapreplace(heap, (left + seconds, index))
        touched.add(index)
    return given, touched


def crowded(children: Sequence[Child], now: int) -> list[Child]:
    """Return the children behind whose running job others wait, while another child is idle."""
    if not any(not child.ahead and not child.is_retiring for child in children):
        return []
    return [child for child in children if len(child.ahead) > 2 and (work_left(child, now) or 0.0) > _REBALANCE_SECONDS]
