"""An app on a temporary database, and a worker's hand that ends its jobs without any worker."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gigq import App, Job, payload
from gigq.payload import Failure
from gigq.states import JobState
from gigq.storage.leases import ClaimedJob, ClaimRequest, End
from gigq.storage.rows import BY_VALUE
from gigq.testing.harness import outcome, worker_row


class Hand:
    """Does by hand what a worker does."""

    def __init__(self, app: App) -> None:
        self.app = app
        self.storage = app.queue.storage
        self._is_registered = False

    def claim(self) -> ClaimedJob:
        if not self._is_registered:
            self.storage.register(worker_row("hand", 1.0))
            self._is_registered = True
        (job,) = self.storage.claim(ClaimRequest("hand", 1, [*self.app.tasks, BY_VALUE])).jobs
        return job

    def run(self) -> Any:
        """Run the next job for real, in this process, record its result and return it."""
        job = self.claim()
        assert job.arguments is not None
        stored = payload.loads(job.arguments, self.storage.result)
        if job.task == BY_VALUE:
            function, args, params = stored
        else:
            function, (args, params) = self.app.tasks[job.task], stored
        value = function(*args, **params)
        self.end(job, End.COMPLETED, result=None if value is None else payload.dumps(value).data)
        return value

    def end(
        self, job: ClaimedJob, end: End, *, error: BaseException | None = None, result: bytes | None = None
    ) -> None:
        """Record the end of a claimed job."""
        ended = outcome(job, end, 1.0, result=result)
        if error is not None:
            failure = Failure.of(error)
            ended = ended._replace(error=failure.to_json(), reason=str(failure))
        assert self.storage.finish("hand", [ended]).fenced == []

    def fail(self, error: BaseException, end: End = End.FAILED) -> None:
        """Claim the next job and let its only attempt end with `error`."""
        self.end(self.claim(), end, error=error)

    def stored(self) -> int:
        """Count all jobs in the database."""
        return sum(self.storage.stats().values())


@pytest.fixture
def app(tmp_path: Path) -> Iterator[App]:
    app = App(tmp_path / "jobs.db", name="shop", durability="process")
    yield app
    app.queue.close()


@pytest.fixture
def hand(app: App) -> Hand:
    return Hand(app)


@pytest.fixture
def states(app: App) -> Any:
    """Return the states of jobs, as a function of them."""

    def states(*jobs: Job[Any]) -> list[JobState]:
        return [job.state for job in jobs]

    return states
