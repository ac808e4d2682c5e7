"""The storage thread: the only writer for a worker's jobs, so that the loop never waits for the database."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, TypeVar

from gigq.errors import DatabaseLost, OutcomeUnknown, StorageError
from gigq.storage.base import Storage
from gigq.storage.leases import ClaimRequest, Finished, Outcome
from gigq.storage.rows import WorkerRow
from gigq.worker.peers import Peers

HEARTBEAT_SECONDS: Final = 2.0
PEERS_SECONDS: Final = 1.0
LOOK_SECONDS: Final = 0.1  # behind the wake-ups: how often an idle worker looks whether the database has changed
TROUBLE_SECONDS: Final = 0.5  # between attempts to write while the database refuses
LOG_SECONDS: Final = 60.0  # at most, between lines about it

# After these the worker ends: what it would be told next may be wrong, or nobody would read what it writes.
FINAL_TROUBLE: Final = (OutcomeUnknown, DatabaseLost)

log = logging.getLogger("gigq.worker")

T = TypeVar("T")


class Exchange(NamedTuple):
    """What the loop asks of storage: record these ends, and claim more, in one transaction."""

    outcomes: Sequence[Outcome]
    claim: ClaimRequest | None
    progress: Sequence[tuple[int, int, float, str]] = ()
    wants_unfinished: bool = False

    def joined(self, later: Exchange) -> Exchange:
        """Return this and a later one as one exchange."""
        claim, more = self.claim, later.claim
        if claim is not None and more is not None:
            claim = claim._replace(limit=claim.limit + more.limit)
        return Exchange(
            [*self.outcomes, *later.outcomes],
            claim or more,
            [*self.progress, *later.progress],
            self.wants_unfinished or later.wants_unfinished,
        )


class Answer(NamedTuple):
    """What came of an exchange."""

    exchange: Exchange
    finished: Finished
    unfinished: bool
    asked: int  # how many were asked for and joined in this one


class Writer:
    """Runs exchanges, heartbeats and rescues in a thread of its own.

    `answers`, `has_changed` and `is_evicted` are read and reset by the loop, after `notify` has woken it.
    """

    def __init__(self, storage: Storage, row: WorkerRow, notify: Callable[[], None]) -> None:
        self._storage = storage
        self._row = row
        self._notify = notify
        self._requests: queue.SimpleQueue[Exchange | None] = queue.SimpleQueue()
        self._peers = Peers(row.id, row.host)
        self._thread = threading.Thread(target=self._run, name="gigq-storage", daemon=True)
        self._is_abandoned = threading.Event()
        self._is_stopping = False
        self.answers: deque[Answer] = deque()
        self.has_changed = False
        self.is_evicted = False
        self.failure: BaseException | None = None

    def start(self) -> None:
        """Register the worker and begin. Raises StorageError."""
        self._storage.register(self._row)
        self._thread.start()

    def ask(self, exchange: Exchange) -> None:
        """Have an exchange made, joined with all that were asked for since the last one; its answer comes through
        `answers`.
        """
        self._requests.put(exchange)

    def stop(self) -> None:
        """Finish what was asked, mark the worker as stopped, and wait for the thread."""
        self._requests.put(None)
        self._thread.join()

    def abandon(self) -> None:
        """End the thread after the loop has failed. The beat stops, and others rescue what this worker still holds."""
        self._is_abandoned.set()
        self._requests.put(None)
        if self._thread.ident is not None:  # it was started
            self._thread.join()

    def _run(self) -> None:
        try:
            self._serve()
        except BaseException as error:
            # The loop must learn of it and end: a worker that cannot write must not go on claiming.
            self.failure = error
            self._notify()

    def _serve(self) -> None:
        watch = self._storage.watch()
        beaten_at = looked_at = time.monotonic()
        while True:
            try:
                exchange = self._requests.get(timeout=LOOK_SECONDS)
            except queue.Empty:
                pass
            else:
                if self._is_abandoned.is_set():
                    return
                if exchange is not None:
                    self.answers.append(self._make(*self._with_what_follows(exchange)))
                    self._notify()
                if exchange is None or self._is_stopping:
                    self._storage.unregister(self._row.id)
                    return
            now = time.monotonic()
            try:
                if now - beaten_at >= HEARTBEAT_SECONDS:
                    self._beat()
                    beaten_at = now
                if now - looked_at >= PEERS_SECONDS:
                    self._rescue(now - looked_at)
                    looked_at = now
                if watch.wait(0):
                    self.has_changed = True
                    self._notify()
            except FINAL_TROUBLE:
                raise
            except StorageError as error:
                log.error("the database refuses: %s", error)
                looked_at = time.monotonic()  # time in which we could not write ourselves proves nothing about others

    def _with_what_follows(self, exchange: Exchange) -> tuple[Exchange, int]:
        """Return `exchange` joined with all that wait behind it, and how many they are: one transaction, one sync."""
        asked = 1
        while True:
            try:
                later = self._requests.get_nowait()
            except queue.Empty:
                return exchange, asked
            if later is None:
                self._is_stopping = True
            else:
                exchange, asked = exchange.joined(later), asked + 1

    def _make(self, exchange: Exchange, asked: int) -> Answer:
        """Make an exchange, however long it takes: an outcome is never dropped.

        Each part is tried again by itself: once a claim is committed, asking again would lose what it claimed.
        """
        if exchange.progress:
            self._insist(lambda: self._storage.report_progress(self._row.id, exchange.progress))
        finished = self._insist(lambda: self._storage.finish(self._row.id, exchange.outcomes, exchange.claim))
        claim = exchange.claim
        unfinished = (
            exchange.wants_unfinished
            and claim is not None
            and self._insist(lambda: self._storage.unfinished(claim.tasks, claim.queues))
        )
        return Answer(exchange, finished, unfinished, asked)

    def _insist(self, call: Callable[[], T]) -> T:
        """Return what `call` returns, once the database lets it.

        Raises:
            OutcomeUnknown: the worker cannot know what it holds, and must end: others rescue its leases then.
            DatabaseLost: nobody would read what it writes.
        """
        began: float | None = None
        logged_at = 0.0
        while True:
            try:
                value = call()
            except FINAL_TROUBLE:
                raise
            except StorageError as error:
                if self._is_abandoned.is_set():
                    raise
                now = time.monotonic()
                began = now if began is None else began
                # A disk may stay full for a night: the lines about it come less and less often.
                if now - logged_at >= min(now - began, LOG_SECONDS):
                    log.error("the database refuses, trying again every %g s: %s", TROUBLE_SECONDS, error)
                    logged_at = now
                self._is_abandoned.wait(TROUBLE_SECONDS)
            else:
                if began is not None:
                    log.warning("the database takes writes again, after %.1f s", time.monotonic() - began)
                return value

    def _beat(self) -> None:
        if not self._storage.heartbeat(self._row.id):
            log.warning("others took this worker for dead: it registers again, and its old leases are void")
            self._storage.register(self._row)
            self.is_evicted = True
            self._notify()

    def _rescue(self, elapsed: float) -> None:
        for worker, reason in self._peers.dead(self._storage.workers(), elapsed).items():
            rescued = self._storage.rescue(worker, reason)
            log.warning("%s: took back %d jobs", reason, len(rescued))
            self.has_changed = True
            self._notify()
