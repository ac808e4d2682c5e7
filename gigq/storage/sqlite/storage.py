"""`SqliteStorage`: each verb of the protocol as one transaction. The SQL stands in the modules beside this one."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from gigq.states import JobState
from gigq.storage.leases import Claimed, ClaimRequest, End, Finished, Outcome, Rescued
from gigq.storage.rows import ExecutionRow, JobRow, NewJob, When, WorkerRow
from gigq.storage.sqlite import claim, finish, questions, submit, upkeep, workers
from gigq.storage.sqlite.connection import BUSY_SECONDS, Database
from gigq.storage.sqlite.wake import Listener, Waker
from gigq.storage.urls import Journal, sqlite_url


class SqliteStorage:
    """The storage protocol over a SQLite file.

    Args:
        path: the file; it and its tables are made on first use.
        durability: `"power"` syncs each commit to the disk, `"process"` leaves that to the system.
        now: the wall clock, UTC epoch seconds.
        busy_seconds: how long a call waits for another program's lock before it raises StorageBusy.
        shared: use the file although others can write it.
        journal: see `gigq.storage.sqlite.journal`; None: as fits the file and where it is.
        must_exist: do not make the file.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        durability: str = "power",
        now: Callable[[], float] = time.time,
        busy_seconds: float = BUSY_SECONDS,
        shared: bool = False,
        journal: Journal | None = None,
        must_exist: bool = False,
    ) -> None:
        self.path = Path(path).absolute()
        self.url = sqlite_url(self.path, shared=shared, journal=journal)
        self._now = now
        self._database = Database(
            self.path, durability=durability, busy_seconds=busy_seconds, shared=shared, journal=journal,
            must_exist=must_exist,
        )  # fmt: skip
        self._waker = Waker()

    # -- submitters

    def submit(self, jobs: Sequence[NewJob]) -> None:
        def work(db: sqlite3.Connection) -> list[str]:
            submit.submit(db, jobs, self._now())
            return workers.addresses(db)

        self._waker.wake(self._database.write(work))

    def cancel(self, job_id: str, reason: str) -> JobState:
        state, address = self._database.write(lambda db: finish.cancel(db, job_id, reason, self._now()))
        if address is not None:
            self._waker.wake([address])
        return state

    def retry(self, job_id: str) -> JobState:
        state, addresses = self._database.write(lambda db: (finish.retry(db, job_id), workers.addresses(db)))
        self._waker.wake(addresses)
        return state

    # -- workers

    def register(self, worker: WorkerRow) -> None:
        self._database.write(lambda db: workers.register(db, worker))

    def heartbeat(self, worker: str) -> bool:
        return self._database.write(lambda db: workers.heartbeat(db, worker, self._now()))

    def unregister(self, worker: str) -> None:
        def work(db: sqlite3.Connection) -> None:
            # A worker gives back all that it holds before this; if it ever did not, nobody would look for it again.
            finish.rescue(db, worker, "its worker stopped without giving it back", self._now())

        self._database.write(work)

    def claim(self, request: ClaimRequest) -> Claimed:
        return self._database.write(lambda db: claim.claim(db, request, self._now()))

    def finish(self, worker: str, outcomes: Sequence[Outcome], claim_more: ClaimRequest | None = None) -> Finished:
        # Somebody else can run what is given back. Whom to wake is read in the same transaction: once that is
        # committed nothing may fail, or the worker would not learn what it has claimed.
        gives_back = any(outcome.end is End.RELEASED for outcome in outcomes)

        def work(db: sqlite3.Connection) -> tuple[Finished, list[str]]:
            now = self._now()
            fenced = finish.finish(db, worker, outcomes, now)
            cancel = finish.cancelling(db, worker)
            claimed = None if claim_more is None else claim.claim(db, claim_more, now)
            return Finished(fenced, cancel, claimed), workers.addresses(db) if gives_back else []

        finished, addresses = self._database.write(work)
        self._waker.wake(addresses)
        return finished

    def rescue(self, worker: str, reason: str) -> list[Rescued]:
        return self._database.write(lambda db: finish.rescue(db, worker, reason, self._now()))

    def report_progress(self, worker: str, reports: Sequence[tuple[int, int, float, str]]) -> None:
        self._database.write(lambda db: workers.report_progress(db, worker, reports))

    def listen(self, worker: str) -> Listener:
        return Listener(worker)

    # -- questions

    def get(self, job_id: str) -> JobRow:
        return self._database.read(lambda db: questions.get(db, job_id))

    def states(self, job_ids: Sequence[str]) -> Mapping[str, JobState]:
        return self._database.read(lambda db: questions.states(db, job_ids))

    def find(
        self,
        *,
        state: JobState | None = None,
        queue: str | None = None,
        task: str | None = None,
        workflow: str | None = None,
        limit: int = 100,
    ) -> list[JobRow]:
        return self._database.read(
            lambda db: questions.find(db, state=state, queue=queue, task=task, workflow=workflow, limit=limit)
        )

    def find_ids(self, *, start: str = "", end: str = "", limit: int = 10) -> list[str]:
        return self._database.read(lambda db: questions.find_ids(db, start=start, end=end, limit=limit))

    def stats(self) -> dict[JobState, int]:
        return self._database.read(questions.stats)

    def unfinished(self, tasks: Sequence[str], queues: Sequence[str] | None) -> bool:
        request = ClaimRequest("", 1, tasks, queues)
        return self._database.read(
            lambda db: bool(claim.ready_lanes(db, request)) or questions.awaits_retry(db, tasks, queues)
        )

    def executions(self, job_id: str) -> list[ExecutionRow]:
        return self._database.read(lambda db: questions.executions(db, job_id))

    def parents(self, job_id: str) -> list[tuple[JobRow, When]]:
        return self._database.read(lambda db: questions.relatives(db, job_id, of="child", to="parent"))

    def dependants(self, job_id: str) -> list[tuple[JobRow, When]]:
        return self._database.read(lambda db: questions.relatives(db, job_id, of="parent", to="child"))

    def arguments(self, job_id: str) -> bytes:
        return self._database.read(lambda db: questions.arguments(db, job_id))

    def result(self, job_id: str) -> bytes | None:
        return self._database.read(lambda db: questions.result(db, job_id))

    def workers(self) -> list[WorkerRow]:
        return self._database.read(workers.live)

    def ready_before(self, job_id: str) -> int:
        return self._database.read(lambda db: questions.ready_before(db, job_id))

    def watch(self) -> SqliteWatch:
        return SqliteWatch(self._database)

    # -- upkeep

    def prune(self, older_than: float) -> int:
        before = self._now() - older_than
        total = 0
        while count := self._database.write(lambda db: upkeep.prune(db, before)):
            total += count
        return total

    def close(self) -> None:
        self._database.close()
        self._waker.close()


class SqliteWatch:
    """Notices commits of other connections by `PRAGMA data_version`, which reads a counter in shared memory."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._version: object = self._read()

    def wait(self, timeout: float) -> bool:
        """Sleep for `timeout` seconds, then say whether anything was committed since the last call."""
        time.sleep(timeout)
        version = self._read()
        changed = version != self._version
        self._version = version
        return changed

    def _read(self) -> object:
        # The numbers of two connections do not compare: after a close, another one counts from its own start.
        return self._database.read_watching(lambda db: (db, db.execute("PRAGMA data_version").fetchone()[0]))
