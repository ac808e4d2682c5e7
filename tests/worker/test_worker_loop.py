"""The worker's loop, step by step, with a pool and a writer that do as they are told."""

from __future__ import annotations

import functools
import time
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from gigq.retry import RetryPolicy
from gigq.storage.leases import Claimed, ClaimedJob, ClaimRequest, End, Finished
from gigq.storage.rows import BY_VALUE
from gigq.worker.node import GROUP, LOOK_SECONDS, Node
from gigq.worker.pools.base import Ended, Hello, PoolEvent
from gigq.worker.writer import Answer, Exchange

HELLO = Hello(None, "power", {}, RetryPolicy())


def job(seq: int, priority: int = 0) -> ClaimedJob:
    return ClaimedJob(seq, f"job-{seq}", "job", "task", "default", priority, 1, 1, 3, None, None, b"")


class OneSlot:
    """A pool that holds what it is given, and notes what happens to it."""

    concurrency = 1
    can_kill = True

    def __init__(self) -> None:
        self.held: list[ClaimedJob] = []
        self.free = 4
        self.happened: list[PoolEvent] = []
        self.recalls = 0
        self.cancelled: list[tuple[int, int]] = []

    def start(self) -> Hello:
        return HELLO

    def filenos(self) -> Sequence[int]:
        return ()

    def wanted(self) -> int:
        return self.free

    def give(self, jobs: Sequence[ClaimedJob]) -> list[ClaimedJob]:
        room = 2 - len(self.held)
        self.held += jobs[:room]
        return list(jobs[room:])

    def events(self) -> list[PoolEvent]:
        happened, self.happened = self.happened, []
        return happened

    def tend(self) -> float | None:
        return None

    def recall(self, *, blocked_only: bool = False) -> list[ClaimedJob]:
        if blocked_only:
            return []
        self.recalls += 1
        held, self.held = self.held, []
        return held

    def cancel(self, jobs: Sequence[tuple[int, int]]) -> None:
        self.cancelled += jobs

    def is_idle(self) -> bool:
        return not self.held

    def kill(self) -> None:
        return

    def stop(self) -> None:
        return


class ScriptedWriter:
    """Answers nothing by itself; keeps what it is asked."""

    def __init__(self) -> None:
        self.answers: list[Answer] = []
        self.asked: list[Exchange] = []
        self.answered = 0
        self.failure: BaseException | None = None
        self.has_changed = self.is_evicted = False

    def ask(self, exchange: Exchange) -> None:
        self.asked.append(exchange)

    def answer(
        self, *jobs: ClaimedJob, cancel: Sequence[tuple[int, int]] = (), next_due_at: float | None = None
    ) -> None:
        """Answer all that was asked, joined as the real writer does it; the first time, before anything was."""
        unanswered, self.answered = self.asked[self.answered :], len(self.asked)
        exchange = functools.reduce(Exchange.joined, unanswered, Exchange([], ClaimRequest("w", 0, [BY_VALUE])))
        finished = Finished([], list(cancel), Claimed(list(jobs), next_due_at))
        self.answers.append(Answer(exchange, finished, True, len(unanswered)))


class Queue(list[Answer]):
    """A list with the one method of a deque that the loop uses."""

    def popleft(self) -> Answer:
        return self.pop(0)


@pytest.fixture
def scripted() -> Iterator[tuple[Node, OneSlot, Any]]:
    pool = OneSlot()
    node = Node(pool, HELLO, "w", None, burst=False, drain=1.0)
    writer = ScriptedWriter()
    writer.answers = Queue()
    yield node, pool, writer
    node.close()


def test_a_late_priority_overtakes_what_lies_ahead(scripted: tuple[Node, OneSlot, Any]) -> None:
    node, pool, writer = scripted
    for jobs in ([job(1), job(2)], [job(3, priority=9)]):
        writer.answer(*jobs)
        node._step(writer)
    assert [held.seq for held in pool.held] == [3, 1]


def test_jobs_that_overtake_nothing_disturb_nothing(scripted: tuple[Node, OneSlot, Any]) -> None:
    node, pool, writer = scripted
    for jobs in ([job(1, priority=9), job(2, priority=5), job(3, priority=5)], [job(4, priority=5), job(5)]):
        writer.answer(*jobs)
        node._step(writer)
    assert pool.recalls == 0
    assert [held.seq for held in pool.held] == [1, 2]


def test_a_job_cancelled_before_it_was_handed_out_says_so(scripted: tuple[Node, OneSlot, Any]) -> None:
    node, pool, writer = scripted
    writer.answer(job(1), job(2), job(3))
    node._step(writer)
    writer.answer(cancel=[(3, 1)])
    node._step(writer)
    (ended,) = [outcome for exchange in writer.asked for outcome in exchange.outcomes]
    assert (ended.seq, ended.reason) == (3, "Cancelled: cancelled before it started")
    assert [held.seq for held in pool.held] == [1, 2]


def test_a_busy_worker_does_not_spin_while_jobs_become_due(scripted: tuple[Node, OneSlot, Any]) -> None:
    node, pool, writer = scripted
    writer.answer(job(1), next_due_at=time.time() - 5)
    pool.free = 0
    node._step(writer)
    assert node._sleep() > 0.5
    pool.free = 1
    assert node._sleep() == 0


def test_ends_that_no_claim_went_with_are_followed_by_a_claim(scripted: tuple[Node, OneSlot, Any]) -> None:
    # They may have released dependants, or put a job back, and no other commit would wake the worker for it.
    node, pool, writer = scripted
    writer.answer(job(1))
    node._step(writer)
    writer.answer()
    pool.free = 0  # its child is being replaced
    pool.happened, pool.held = [Ended(job(1), End.TIMED_OUT, 1.0, 1.0, None)], []
    node._step(writer)
    assert (len(writer.asked[-1].outcomes), writer.asked[-1].claim) == (1, None)
    writer.answer()
    pool.free = 1
    node._step(writer)
    assert writer.asked[-1].claim is not None


def ends(first: int, count: int) -> list[PoolEvent]:
    return [Ended(job(seq), End.COMPLETED, 1.0, 0.0, 7) for seq in range(first, first + count)]


def test_a_group_is_asked_for_while_an_exchange_is_under_way_but_not_each_end(
    scripted: tuple[Node, OneSlot, Any],
) -> None:
    node, pool, writer = scripted
    pool.happened = ends(1, 1)
    node._step(writer)
    pool.happened = ends(2, GROUP - 1)
    node._step(writer)
    assert [len(exchange.outcomes) for exchange in writer.asked] == [1]
    pool.happened = ends(GROUP + 1, 1)
    node._step(writer)
    assert [len(exchange.outcomes) for exchange in writer.asked] == [1, GROUP]


def test_what_was_asked_for_and_not_answered_yet_is_not_asked_for_again(scripted: tuple[Node, OneSlot, Any]) -> None:
    node, pool, writer = scripted
    pool.free = 100
    for first in (1, 1 + GROUP):
        pool.happened = ends(first, GROUP)
        node._step(writer)
    assert [exchange.claim and exchange.claim.limit for exchange in writer.asked] == [100, None]
    writer.answer()
    pool.happened = ends(1000, 1)
    node._step(writer)
    assert writer.asked[-1].claim.limit == 100


def test_a_worker_without_a_free_slot_still_asks_whom_to_cancel(scripted: tuple[Node, OneSlot, Any]) -> None:
    node, pool, writer = scripted
    pool.free = 2
    writer.answer(job(1), job(2))
    node._step(writer)
    writer.answer()
    pool.free = 0
    node._step(writer)
    asked = len(writer.asked)
    writer.has_changed = True
    node._step(writer)  # too soon after the last time: a flood of submissions must not become a flood of questions
    assert 0 < node._sleep() <= LOOK_SECONDS
    node._look_at = 0.0
    node._step(writer)
    assert writer.asked[asked:] == [Exchange([], None, [], False)]
    assert node._sleep() > 0.5


def test_a_worker_that_was_taken_for_dead_gives_back_what_it_may_still_hold(
    scripted: tuple[Node, OneSlot, Any],
) -> None:
    node, _, writer = scripted
    writer.answer(job(1), job(2), job(3))
    node._step(writer)
    writer.answer()
    writer.is_evicted = True
    node._step(writer)
    assert sorted((outcome.seq, outcome.end) for outcome in writer.asked[-1].outcomes) == [
        (seq, End.RELEASED) for seq in (1, 2, 3)
    ]
    assert node._backlog == []
