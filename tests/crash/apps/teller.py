"""Commits transactions of every kind, one at a request, and tells after each what it has done.

It plays submitter and worker with gigq's own storage, in one process, so that what is in the file after each commit is
known. It stands still while its files are copied: the process that copies must be another one, since opening and
closing a database's file drops the locks that a process holds on it.
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections.abc import Iterator

import mill
import shapes

from gigq import JobState, payload
from gigq.storage.leases import ClaimedJob, ClaimRequest, End, Outcome
from gigq.testing.harness import worker_row


class Teller:
    """A storage, a worker that is no process, and what that worker holds."""

    def __init__(self, draw: random.Random) -> None:
        self._storage = mill.app.queue.storage
        # A tenth of what it is, so that the log is begun anew often.
        self._storage._database._handle().connection.execute("PRAGMA wal_autocheckpoint=100")  # type: ignore[attr-defined]
        self._draw = draw
        self._held: list[ClaimedJob] = []
        self._worker = ""
        self._workers = 0

    def steps(self) -> Iterator[str]:
        """Make one transaction for each step, for ever."""
        yield self._register()
        while True:
            kind = self._draw.random()
            if kind < 0.35:
                shape = self._draw.choice(shapes.SHAPES)
                shapes.submit(shape, self._draw, f"teller/{self._draw.randrange(10**9)}")
                yield shape.__name__
            elif kind < 0.85:
                yield self._exchange()
            elif kind < 0.90:
                self._storage.rescue(self._worker, "the test says so")
                self._held = []
                yield "rescue"
                yield self._register()
            elif kind < 0.95 and (jobs := mill.app.queue.list(state=JobState.PENDING, limit=5)):
                self._storage.cancel(jobs[-1].id, "the test says so")
                yield "cancel"
            elif (jobs := mill.app.queue.list(state=JobState.CANCELLED, limit=5)) and self._is_retriable(jobs[-1].id):
                self._storage.retry(jobs[-1].id)
                yield "retry"

    def _is_retriable(self, job_id: str) -> bool:
        return all(row.state is JobState.COMPLETED for row, _ in self._storage.parents(job_id))

    def _register(self) -> str:
        self._workers += 1
        self._worker = f"worker {self._workers}"
        row = worker_row(self._worker, time.time())
        self._storage.register(row._replace(tasks=tuple(mill.app.tasks)))
        return "register"

    def _exchange(self) -> str:
        """Record how some of the held jobs ended, and claim others."""
        outcomes = [self._outcome(job) for job in self._held if self._draw.random() < 0.7]
        ended = {outcome.id for outcome in outcomes}
        request = ClaimRequest(self._worker, self._draw.randrange(1, 30), tuple(mill.app.tasks))
        finished = self._storage.finish(self._worker, outcomes, request)
        assert finished.fenced == []
        assert finished.claimed is not None
        self._held = [job for job in self._held if job.id not in ended] + finished.claimed.jobs
        return "exchange"

    def _outcome(self, job: ClaimedJob) -> Outcome:
        end = self._draw.choices([End.COMPLETED, End.FAILED, End.RELEASED], [8, 1, 1])[0]
        started = None if end is End.RELEASED else time.time()
        result = payload.dumps(self._draw.randrange(1000)).data if end is End.COMPLETED else None
        retry_in = 0.0 if end is End.FAILED else None
        return Outcome(
            job.seq, job.id, job.claims, job.attempt, end, started, time.time(), 1, result, retry_in=retry_in
        )


def main() -> None:
    steps = Teller(random.Random(int(sys.argv[1]))).steps()
    for _ in sys.stdin:
        print(json.dumps(next(steps)), flush=True)


if __name__ == "__main__":
    main()
