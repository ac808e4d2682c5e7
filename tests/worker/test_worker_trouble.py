"""What the loop and its storage thread do when the database, or the loop itself, fails."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from gigq import App, OutcomeUnknown, StorageError
from gigq.retry import RetryPolicy
from gigq.storage.base import BY_VALUE, Claimed, ClaimedJob, ClaimRequest, Finished, WorkerRow
from gigq.storage.sqlite import SqliteStorage
from gigq.worker.node import Node
from gigq.worker.pools.base import Hello, PoolEvent
from gigq.worker.writer import Answer, Exchange, Writer

HELLO = Hello(None, "power", {}, RetryPolicy())


def job(seq: int, priority: int = 0) -> ClaimedJob:
    return ClaimedJob(seq, f"job-{seq}", "job", "task", "default", priority, 1, 1, 3, None, None, b"")


def worker_row(now: float) -> WorkerRow:
    return WorkerRow("w", "w", "here", "host", 1, None, "process", 1, None, (), None, now, beat_at=now)


def until(condition: Callable[[], object], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true"
        time.sleep(0.005)


class FlakyStorage(SqliteStorage):
    """Raises each of the given errors once."""

    finish_error: StorageError | None = None
    unfinished_error: StorageError | None = None

    def finish(self, *args: Any, **options: Any) -> Finished:
        finished = super().finish(*args, **options)
        error, self.finish_error = self.finish_error, None
        if error is not None:
            raise error
        return finished

    def unfinished(self, *args: Any) -> bool:
        error, self.unfinished_error = self.unfinished_error, None
        if error is not None:
            raise error
        return super().unfinished(*args)


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[FlakyStorage]:
    app = App(tmp_path / "jobs.db")
    app.task(name="task")(lambda n: n).delay(1)
    app.queue.close()
    storage = FlakyStorage(tmp_path / "jobs.db")
    yield storage
    storage.close()


CLAIM = Exchange([], ClaimRequest("w", 1, ["task"]), wants_unfinished=True)


@pytest.mark.slow
def test_trouble_after_the_commit_of_a_claim_does_not_lose_the_claimed_job(storage: FlakyStorage) -> None:
    storage.unfinished_error = StorageError("a reader was in the way")
    writer = Writer(storage, worker_row(time.time()), lambda: None)
    writer.start()
    writer.ask(CLAIM)
    until(lambda: writer.answers)
    writer.stop()
    claimed = writer.answers[0].finished.claimed
    assert claimed is not None
    assert len(claimed.jobs) == 1


def test_fault_13_a_commit_of_unknown_fate_ends_the_worker_and_leaves_its_leases_to_be_rescued(
    storage: FlakyStorage,
) -> None:
    # Asked again, the claim would find nothing, and the job that it may have claimed would stay RUNNING for ever.
    storage.finish_error = OutcomeUnknown("fsync failed")
    woken = threading.Event()
    writer = Writer(storage, worker_row(time.time()), woken.set)
    writer.start()
    writer.ask(CLAIM)
    assert woken.wait(10)
    assert isinstance(writer.failure, OutcomeUnknown)
    assert [worker.id for worker in storage.workers()] == ["w"]
    assert len(storage.rescue("w", "it ended")) == 1


def test_a_worker_whose_loop_failed_leaves_its_row_to_be_rescued_and_beats_no_more(storage: FlakyStorage) -> None:
    writer = Writer(storage, worker_row(time.time()), lambda: None)
    writer.start()
    writer.abandon()
    assert not any(thread.name == "gigq-storage" for thread in threading.enumerate())
    assert [worker.id for worker in storage.workers()] == ["w"]


class OneSlot:
    """A pool that holds what it is given, and notes what happens to it."""

    concurrency = 1

    def __init__(self) -> None:
        self.held: list[ClaimedJob] = []
        self.recalls = 0
        self.cancelled: list[tuple[int, int]] = []

    def start(self) -> Hello:
        return HELLO

    def filenos(self) -> Sequence[int]:
        return ()

    def wanted(self) -> int:
        return 4

    def give(self, jobs: Sequence[ClaimedJob]) -> list[ClaimedJob]:
        room = 2 - len(self.held)
        self.held += jobs[:room]
        return list(jobs[room:])

    def events(self) -> list[PoolEvent]:
        return []

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
        self.failure: BaseException | None = None
        self.has_changed = self.is_evicted = False

    def ask(self, exchange: Exchange) -> None:
        self.asked.append(exchange)

    def answer(self, *jobs: ClaimedJob, cancel: Sequence[tuple[int, int]] = ()) -> None:
        finished = Finished([], list(cancel), Claimed(list(jobs), None))
        self.answers.append(Answer(Exchange([], ClaimRequest("w", 4, [BY_VALUE])), finished, True))


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
