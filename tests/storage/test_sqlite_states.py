"""Workers, people and crashes in any order, against a plain model.

Each worker has a connection of its own. A transaction can be held open between its last statement and COMMIT while
the others go on: they read the state before it and cannot write. It then commits, or its process dies.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest
from held_transaction import HeldTransaction, Killed
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from gigq.errors import IllegalTransition, StorageBusy
from gigq.states import TRANSITIONS, JobState
from gigq.storage.leases import ClaimedJob, ClaimRequest, End, Outcome
from gigq.storage.rows import NewJob, When
from gigq.storage.sqlite import SqliteStorage
from gigq.testing.clock import FakeClock
from gigq.testing.harness import new_job, outcome, worker_row
from gigq.testing.model import StorageModel

T = TypeVar("T")

TASKS = ("t1", "t2")
QUEUES = ("a", "b")
WORKERS = 3
TURNS = ["worker"] * 7 + ["person"] * 3 + ["trouble"] * 3 + ["submit", "time"]
REFUSED_AT_MOST = 2  # attempts to write beside a held transaction, before it is committed: they change nothing
STEPS = {(state, to) for (state, _), to in TRANSITIONS.items()}
EXECUTION_STATES = {
    End.COMPLETED: JobState.COMPLETED,
    End.FAILED: JobState.FAILED,
    End.TIMED_OUT: JobState.TIMEOUT,
    End.LOST: JobState.FAILED,
    End.RELEASED: JobState.CANCELLED,
    End.CANCELLED: JobState.CANCELLED,
}


class Actor:
    """A worker's process: its connection, its id, and the leases that it believes to have."""

    def __init__(self, path: Path, clock: FakeClock, name: str) -> None:
        self.id = name
        self.storage = SqliteStorage(path, durability="process", now=clock.now, busy_seconds=0)
        self.leases: list[ClaimedJob] = []


actors = st.integers(0, WORKERS - 1)
ends = st.sampled_from(list(End))
retries = st.sampled_from([None, 0.0, 0.0, 3.0])
holds = st.sampled_from([False] * 5 + [True])


class StorageMachine(RuleBasedStateMachine):
    """Everything that can happen to the jobs of one file."""

    def set_up(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="gigq-states-"))
        self.clock = FakeClock()
        self.model = StorageModel()
        self.births = 0
        self.observer = Actor(self.folder / "jobs.db", self.clock, "observer").storage
        self.actors = [self.born() for _ in range(WORKERS)]
        self.held: tuple[HeldTransaction, int, Callable[[Any], None]] | None = None
        self.seen: dict[str, JobState] = {}
        self.revived: set[str] = set()
        self.ended: dict[str, int] = {}  # executions by job

    def teardown(self) -> None:
        if not hasattr(self, "folder"):
            return
        if self.held is not None:
            self.held[0].end(killed=True)
        for storage in (self.observer, *(actor.storage for actor in self.actors)):
            storage.close()
        shutil.rmtree(self.folder)

    def born(self) -> Actor:
        self.births += 1
        actor = Actor(self.folder / "jobs.db", self.clock, f"w{self.births}")
        actor.storage.register(worker_row(actor.id, self.clock.now()))
        return actor

    # -- doing things, on the storage and on the model

    def act(self, number: int, real: Callable[[], T], check: Callable[[T], None], *, hold: bool = False) -> None:
        """Do `real` and then `check` its answer against the model's; while a transaction is held, it must be busy."""
        if self.held is not None:
            if self.held[1] != number:  # that process itself is stuck in its transaction
                with pytest.raises(StorageBusy):
                    real()
            self.refused += 1
            if self.refused == REFUSED_AT_MOST:
                self.end_held(killed=False)
        elif hold:
            transaction = HeldTransaction(self.actors[number].storage, real)
            if transaction.error is not None:  # refused before there was anything to commit
                raise transaction.error
            self.held = (transaction, number, check)
            self.refused = 0
        else:
            check(real())

    # One rule, which always finds something to do. Of ten rules with preconditions Hypothesis left out some in each run
    # (swarm testing), so that it hardly ever claimed, ended and rescued in one: it then missed a fence without claims.

    @rule(number=actors, data=st.data(), what=st.sampled_from(TURNS), hold=holds)
    def step(self, number: int, data: st.DataObject, what: str, hold: bool) -> None:
        if what == "time":
            self.time_passes(data.draw(st.sampled_from([0.5, 3.0, 20.0])))
        elif what == "submit":
            self.submit(number, data, hold=hold)
        elif what == "person":
            self.a_person_intervenes(number, data, hold=hold)
        elif what == "trouble":
            self.something_goes_wrong(number, data, hold=hold)
        else:
            self.a_worker_takes_its_turn(number, data, hold=hold)

    def a_worker_takes_its_turn(self, number: int, data: st.DataObject, *, hold: bool) -> None:
        leases = self.actors[number].leases
        if leases and data.draw(st.integers(0, 3)):
            self.finish(number, data, hold=hold)
        else:
            self.claim(number, data, hold=hold)

    def a_person_intervenes(self, number: int, data: st.DataObject, *, hold: bool) -> None:
        if not self.model.jobs:
            self.submit(number, data, hold=hold)
            return
        what = data.draw(st.sampled_from(["retry"] * 4 + ["cancel", "prune"]))
        if what == "retry":
            self.retry(number, data, hold=hold)
        elif what == "cancel":
            self.cancel(number, data, hold=hold)
        else:
            self.prune(number, data.draw(st.sampled_from([0.0, 3.0, 20.0])))

    def something_goes_wrong(self, number: int, data: st.DataObject, *, hold: bool) -> None:
        what = data.draw(st.sampled_from(["rescue"] * 5 + ["crash", "forge", "heartbeat"]))
        if self.held is not None and data.draw(st.booleans()):
            self.end_held(killed=True)
        elif what == "rescue":
            self.rescue(number, data, hold=hold)
        elif what == "crash":
            self.crash(number)
        elif what == "forge":
            self.end_a_job_of_another_worker(number, data)
        else:
            self.heartbeat(number)

    def time_passes(self, seconds: float) -> None:
        if self.held is not None:  # it has read the clock already
            self.end_held(killed=False)
        self.clock.advance(seconds)

    def end_held(self, *, killed: bool) -> None:
        assert self.held is not None
        transaction, number, check = self.held
        self.held = None
        transaction.end(killed=killed)
        if killed:
            assert isinstance(transaction.error, Killed)
            self.crash(number)
        else:
            assert transaction.error is None
            check(transaction.result)

    # -- submitters

    @initialize(data=st.data())
    def start(self, data: st.DataObject) -> None:
        self.set_up()
        self.submit(0, data, hold=False)

    def submit(self, number: int, data: st.DataObject, *, hold: bool) -> None:
        batch: list[NewJob] = []
        for _ in range(data.draw(st.integers(1, 5))):
            known = [*list(self.model.jobs)[-6:], *(job.id for job in batch)]
            parents: dict[str, When] = {}
            for _ in range(data.draw(st.integers(0, 4)) if known else 0):
                parents[data.draw(st.sampled_from(known))] = data.draw(st.sampled_from(list(When)))
            batch.append(
                new_job(
                    task=data.draw(st.sampled_from(TASKS)),
                    queue=data.draw(st.sampled_from(QUEUES)),
                    priority=data.draw(st.integers(0, 2)),
                    max_attempts=data.draw(st.sampled_from([3, 2, 1])),
                    delay=data.draw(st.sampled_from([None, None, 3.0])),
                    parents=parents,
                )
            )
        batch = data.draw(st.permutations(batch))
        now = self.clock.now()
        storage = self.actors[number].storage
        self.act(number, lambda: storage.submit(batch), lambda _: self.model.submit(batch, now), hold=hold)

    def cancel(self, number: int, data: st.DataObject, *, hold: bool) -> None:
        job_id = data.draw(st.sampled_from(list(self.model.jobs)))
        now = self.clock.now()

        def check(state: JobState) -> None:
            assert state is self.model.cancel(job_id, now)

        storage = self.actors[number].storage
        self.act(number, lambda: storage.cancel(job_id, "by a person"), check, hold=hold)

    def retry(self, number: int, data: st.DataObject, *, hold: bool) -> None:
        # Mostly those that can be: the others are refused.
        able = [job_id for job_id in self.model.jobs if self.can_be_retried(job_id)]
        job_id = data.draw(st.sampled_from([*able * 3, *self.model.jobs]))
        storage = self.actors[number].storage

        def real() -> bool:
            try:
                storage.retry(job_id)
            except IllegalTransition:
                return False
            return True

        def check(done: bool) -> None:
            try:
                self.revived |= self.model.retry(job_id)
            except IllegalTransition:
                assert not done
            else:
                assert done

        self.act(number, real, check, hold=hold and self.can_be_retried(job_id))

    def can_be_retried(self, job_id: str) -> bool:
        job = self.model.jobs[job_id]
        return job.state.is_terminal and job.state is not JobState.COMPLETED and not self.model._bad_parent(job)

    def prune(self, number: int, older_than: float) -> None:
        now = self.clock.now()

        def check(count: int) -> None:
            assert count == self.model.prune(older_than, now)

        self.act(number, lambda: self.actors[number].storage.prune(older_than), check)

    # -- workers

    def claim(self, number: int, data: st.DataObject, *, hold: bool) -> None:
        actor = self.actors[number]
        limit = data.draw(st.integers(1, 4))
        request = self.request(actor, data, limit)
        now = self.clock.now()
        self.act(
            number,
            lambda: actor.storage.claim(request),
            lambda claimed: self.check_claimed(actor, request, claimed, now),
            hold=hold,
        )

    def request(self, actor: Actor, data: st.DataObject, limit: int) -> ClaimRequest:
        tasks = data.draw(st.sampled_from([TASKS, TASKS, TASKS, ("t1",), ("t2", "unknown")]))
        queues = data.draw(st.sampled_from([None, None, ("a",), ("b", "c")]))
        return ClaimRequest(actor.id, limit, tasks, queues)

    def check_claimed(self, actor: Actor, request: ClaimRequest, claimed: Any, now: float) -> None:
        assert [job.id for job in claimed.jobs] == self.model.claim(request, now)
        assert claimed.next_due_at == self.model.next_due_at()
        for job in claimed.jobs:
            expected = self.model.jobs[job.id]
            assert (job.seq, job.claims, job.attempt) == (expected.seq, expected.claims, expected.attempts)
        actor.leases += claimed.jobs

    def finish(self, number: int, data: st.DataObject, *, hold: bool) -> None:
        actor = self.actors[number]
        # Twice as often those that it has lost: a late writer beside its own new lease on the same job is the rarest.
        lost = [lease for lease in actor.leases if not self.is_held(actor, lease)]
        leases = data.draw(st.lists(st.sampled_from([*lost, *actor.leases]), min_size=1, max_size=4, unique_by=id))
        now = self.clock.now()
        outcomes = []
        for lease in leases:
            end = data.draw(ends)
            outcomes.append(
                outcome(
                    lease,
                    end,
                    now,
                    started=end is not End.RELEASED or data.draw(st.booleans()),
                    result=lease.id.encode() if end is End.COMPLETED else None,
                    reason=None if end is End.COMPLETED else "boom",
                    retry_in=data.draw(retries) if end in (End.FAILED, End.TIMED_OUT, End.LOST) else None,
                )
            )
        request = self.request(actor, data, 2) if data.draw(st.booleans()) else None
        self.finish_all(number, outcomes, request, now, hold=hold)
        if data.draw(st.booleans()):  # else it will end them again one day, as a late writer
            actor.leases = [lease for lease in actor.leases if lease not in leases]

    def is_held(self, actor: Actor, lease: ClaimedJob) -> bool:
        job = self.model.jobs.get(lease.id)
        return job is not None and (job.state, job.worker, job.claims) == (JobState.RUNNING, actor.id, lease.claims)

    def finish_all(
        self, number: int, outcomes: list[Outcome], request: ClaimRequest | None, now: float, *, hold: bool
    ) -> None:
        actor = self.actors[number]

        def check(finished: Any) -> None:
            fenced = self.model.finish(actor.id, outcomes, now)
            assert sorted(finished.fenced) == sorted(fenced)
            wanted = {(job.seq, job.claims) for job in self.model.held_by(actor.id) if job.cancel_requested}
            assert set(finished.cancel) == wanted
            if request is not None:
                self.check_claimed(actor, request, finished.claimed, now)

        self.act(number, lambda: actor.storage.finish(actor.id, outcomes, request), check, hold=hold)

    def end_a_job_of_another_worker(self, number: int, data: st.DataObject) -> None:
        end = data.draw(ends)
        others = [lease for n, actor in enumerate(self.actors) if n != number for lease in actor.leases]
        if others:
            now = self.clock.now()
            forged = outcome(data.draw(st.sampled_from(others)), end, now, retry_in=0 if end is End.FAILED else None)
            self.finish_all(number, [forged], None, now, hold=False)

    def crash(self, number: int) -> None:
        """The process dies: whoever takes its place has another id and knows nothing."""
        if self.held is not None:
            return
        self.actors[number].storage.close()
        self.actors[number] = self.born()

    def rescue(self, number: int, data: st.DataObject, *, hold: bool) -> None:
        # Mostly the dead, but also the living: those become late writers.
        workers = [job.worker for job in self.model.jobs.values() if job.state is JobState.RUNNING]
        worker = data.draw(st.sampled_from(workers or ["nobody"])) or "nobody"
        now = self.clock.now()

        def check(rescued: Any) -> None:
            assert {job.id: job.state for job in rescued} == self.model.rescue(worker, now)

        storage = self.actors[number].storage
        self.act(number, lambda: storage.rescue(worker, "silent"), check, hold=hold)

    def heartbeat(self, number: int) -> None:
        actor = self.actors[number]

        def check(alive: bool) -> None:
            assert alive is (actor.id not in self.model.stopped)
            if not alive:
                actor.storage.register(worker_row(actor.id, self.clock.now()))
                self.model.stopped.discard(actor.id)

        self.act(number, lambda: actor.storage.heartbeat(actor.id), check)

    # -- after each step

    @invariant()
    def the_storage_equals_the_model(self) -> None:
        rows = {row.id: row for row in self.observer.find(limit=10_000)}
        assert rows.keys() == self.model.jobs.keys()
        counts = dict.fromkeys(JobState, 0)
        for job in self.model.jobs.values():
            row = rows[job.id]
            counts[job.state] += 1
            assert row.state is job.state, f"{job}: {row}"
            assert (row.seq, row.attempts, row.claims, row.worker) == (job.seq, job.attempts, job.claims, job.worker)
            assert row.finished_at == job.finished_at
            assert row.attempts <= row.max_attempts
            if row.state is JobState.PENDING:
                assert row.unmet == self.model.unmet(job), f"{job}: {row}"
                assert row.due_at == job.due_at
            if row.state is JobState.RUNNING:
                assert (row.cancel_requested_at is not None) == job.cancel_requested
            executions = self.observer.executions(job.id)
            assert [(e.claims, e.attempt, e.worker, e.state) for e in executions] == [
                (claims, attempt, worker, EXECUTION_STATES[end]) for claims, attempt, worker, end in job.executions
            ]
            assert sum(e.state is JobState.COMPLETED for e in executions) == (row.state is JobState.COMPLETED)
            if row.state is JobState.COMPLETED:
                assert self.observer.result(job.id) == job.result
        assert self.observer.stats() == counts
        self.only_known_steps_were_taken({row.id: row.state for row in rows.values()})

    def only_known_steps_were_taken(self, states: dict[str, JobState]) -> None:
        # Without the model's help, so that a mistake that both share is found as well.
        for job_id, state in states.items():
            before = self.seen.get(job_id, JobState.PENDING)
            if before is state:
                continue
            if before.is_terminal:
                assert job_id in self.revived, f"{job_id} was {before} and is {state}, although nobody retried it"
            if job_id in self.seen:
                assert (before, state) in STEPS
        self.seen = states
        self.revived = set()


StorageMachine.TestCase.settings = settings(
    max_examples=150,
    stateful_step_count=50,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    print_blob=True,
)


@pytest.mark.slow
class TestStates(StorageMachine.TestCase):  # type: ignore[misc, name-defined]
    """Any sequence of steps leaves the storage as the model says."""
