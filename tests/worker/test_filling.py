"""How jobs are shared out among event loops, and when they are overdue, without processes."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pool_driver import make_job

from gigq.storage.leases import ClaimedJob
from gigq.worker.pools import deadlines, filling
from gigq.worker.pools.deadlines import Deadlines
from gigq.worker.pools.estimates import AHEAD_JOBS, Estimates
from gigq.worker.pools.loop_children import BLOCKED_NS, LoopChild

NS = 1_000_000_000
JOB = make_job("noop")


@dataclass(eq=False)
class FakeChild:
    """What sharing out needs of a child."""

    slots: int
    quota: int = sys.maxsize
    is_retiring: bool = False
    lagging: int = 0
    active_at: int = 0
    given_at: int = 0
    killed_at: int | None = None
    ahead: dict[int, tuple[ClaimedJob, float]] = field(default_factory=dict)
    starts: dict[int, int] = field(default_factory=dict)

    def lag(self, now: int) -> int:
        return self.lagging

    def assign(self, token: int, job: ClaimedJob, seconds: float) -> None:
        self.ahead[token] = job, seconds
        self.quota -= 1

    def started(self, token: int) -> int:
        return self.starts.get(token, 0)


def real(children: list[FakeChild]) -> list[LoopChild]:
    return cast(list[LoopChild], children)


def estimates(typical: float | None) -> Estimates:
    made = Estimates()
    made.typical = typical
    return made


@st.composite
def crews(draw: st.DrawFn) -> tuple[list[FakeChild], int]:
    """Children as they may be, and the concurrency: what successors have, their predecessors may still use."""
    own = [FakeChild(draw(st.integers(1, 8))) for _ in range(draw(st.integers(1, 4)))]
    concurrency = sum(child.slots for child in own)
    leaving = [FakeChild(draw(st.integers(1, 8)), is_retiring=True) for _ in range(draw(st.integers(0, 3)))]
    free = concurrency
    for child in [*leaving, *own]:
        running = draw(st.integers(0, min(child.slots, free)))
        free -= running
        child.ahead = {-n - 1: (JOB, 0.0) for n in range(running)}
    for child in own:
        child.quota = draw(st.integers(0, 30))
        child.lagging = draw(st.sampled_from([0, 0, 0, 2 * BLOCKED_NS]))
    return [*leaving, *own], concurrency


@pytest.mark.slow
@given(crews(), st.integers(0, 60), st.sampled_from([None, 0.00001, 0.01, 5.0]))
def test_no_more_than_the_concurrency_runs_and_every_limit_holds(
    crew: tuple[list[FakeChild], int], count: int, typical: float | None
) -> None:
    children, concurrency = crew
    before = [(len(child.ahead), child.quota) for child in children]
    wanted = filling.wanted(real(children), concurrency, estimates(typical), NS)
    assert wanted >= 0
    given, touched = filling.share_out([JOB] * count, real(children), concurrency, estimates(typical), 100, NS)
    assert given <= count
    # Whatever waits at a child may run as soon as that has a free slot.
    assert sum(min(len(child.ahead), child.slots) for child in children) <= concurrency
    assert touched == {index for index, child in enumerate(children) if len(child.ahead) > before[index][0]}
    assert sum(len(child.ahead) - was for child, (was, _) in zip(children, before, strict=True)) == given
    assert [token for child in children for token in child.ahead if token > 0 and not 100 < token <= 100 + given] == []
    for child, (was, quota) in zip(children, before, strict=True):
        added = len(child.ahead) - was
        assert added <= quota
        assert not added or not (child.is_retiring or child.lagging)
        assert len(child.ahead) <= child.slots + AHEAD_JOBS


@pytest.mark.slow
@given(crews(), st.integers(0, 60))
def test_a_free_slot_does_not_stay_empty_while_a_job_waits(crew: tuple[list[FakeChild], int], count: int) -> None:
    children, concurrency = crew
    for child in children:
        child.quota, child.lagging = sys.maxsize, 0
    running = sum(min(len(child.ahead), child.slots) for child in children)
    given, _ = filling.share_out([JOB] * count, real(children), concurrency, estimates(5.0), 0, NS)
    own = sum(max(0, child.slots - len(child.ahead)) for child in children if not child.is_retiring)
    assert given == count or running + given == concurrency or own == 0


def test_children_are_filled_evenly() -> None:
    children = [FakeChild(10), FakeChild(10)]
    filling.share_out([JOB] * 8, real(children), 20, estimates(None), 0, NS)
    assert [len(child.ahead) for child in children] == [4, 4]


def test_what_waits_at_a_child_is_about_what_it_ends_in_5_milliseconds() -> None:
    child = FakeChild(100)
    assert filling.share_out([JOB] * 500, real([child]), 100, estimates(0.05), 0, NS)[0] == 110
    child = FakeChild(100)
    assert filling.share_out([JOB] * 500, real([child]), 100, estimates(5.0), 0, NS)[0] == 100
    child = FakeChild(100)
    assert filling.share_out([JOB] * 500, real([child]), 100, estimates(0.00001), 0, NS)[0] == 100 + AHEAD_JOBS


# -- deadlines


def timed(timeout: float) -> tuple[ClaimedJob, float]:
    return make_job("noop", timeout=timeout), 0.0


def overdue(them: Deadlines, now: float) -> list[int]:
    return [token for _, token in them.overdue(int(now * NS))]


def add(them: Deadlines, child: FakeChild, token: int, timeout: float, now: float) -> None:
    child.ahead[token] = timed(timeout)
    them.add(cast(LoopChild, child), token, timeout, int(now * NS))


@pytest.fixture
def child() -> FakeChild:
    return FakeChild(10)


def test_a_deadline_counts_from_the_start(child: FakeChild) -> None:
    them = Deadlines()
    add(them, child, 1, 2.0, now=10)
    assert overdue(them, 12.5) == []  # it has not started
    child.starts[1] = 13 * NS
    assert overdue(them, 14.9) == []
    assert overdue(them, 15.0) == [1]
    assert overdue(them, 99) == []  # told once


def test_ended_jobs_and_dead_children_have_no_deadlines(child: FakeChild) -> None:
    them = Deadlines()
    for token in (1, 2):
        add(them, child, token, 1.0, now=0)
        child.starts[token] = 1
    del child.ahead[1]
    assert overdue(them, 2) == [2]
    add(them, child, 3, 1.0, now=2)
    child.killed_at = 1
    assert overdue(them, 9) == []
    assert them.next_at(0) is None


def test_ended_jobs_do_not_pile_up(child: FakeChild, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deadlines, "_SPARED", 10)
    them = Deadlines()
    for token in range(1, 3_000):
        add(them, child, token, 3600.0, now=0)
        if token > 5:
            del child.ahead[token]
        assert them.next_at(len(child.ahead)) is not None
        assert len(cast(Any, them)._heap) <= 2 * len(child.ahead) + 11
    child.starts = dict.fromkeys(range(1, 6), 1)
    assert overdue(them, 4000) == [1, 2, 3, 4, 5]
