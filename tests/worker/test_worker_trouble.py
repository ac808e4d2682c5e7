"""What a worker's storage thread does when the database, or the loop, fails."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from gigq import App, OutcomeUnknown, StorageError
from gigq.storage.leases import ClaimRequest, End, Finished, Outcome
from gigq.storage.rows import WorkerRow
from gigq.storage.sqlite import SqliteStorage
from gigq.worker.writer import Exchange, Writer


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


END = Outcome(99, "no such job", 1, 1, End.COMPLETED, 1.0, 2.0)
CLAIM = Exchange([], ClaimRequest("w", 1, ["task"]), wants_unfinished=True)


def test_what_was_asked_for_during_an_exchange_is_made_as_one(storage: FlakyStorage) -> None:
    finishes: list[tuple[int, int | None]] = []
    finish = storage.finish

    def counted(worker: str, outcomes: Sequence[Outcome], claim_more: ClaimRequest | None = None) -> Finished:
        finishes.append((len(outcomes), claim_more and claim_more.limit))
        if len(finishes) == 1:  # the writer is busy while all others are asked for
            for exchange in (Exchange([END], CLAIM.claim), Exchange([END], None), Exchange([], CLAIM.claim)):
                writer.ask(exchange)
        return finish(worker, outcomes, claim_more)

    storage.finish = counted  # type: ignore[method-assign]
    writer = Writer(storage, worker_row(time.time()), lambda: None)
    writer.start()
    writer.ask(Exchange([END], None))
    until(lambda: len(writer.answers) == 2)
    writer.stop()
    assert finishes == [(1, None), (2, 2)]
    assert [answer.asked for answer in writer.answers] == [1, 3]
    assert storage.workers() == []


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
