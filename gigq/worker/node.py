"""The worker's loop: claim, hand out, collect, commit.

Invariants: every claimed job is in the backlog, in the pool or among the outcomes until storage has recorded its end;
the loop itself never waits for storage (the writer does). While an exchange is under way the next group grows: it is
asked for when it is worth a transaction, and the writer, which thus never waits for the loop, joins what it finds.
"""

from __future__ import annotations

import logging
import math
import os
import select
import selectors
import time
from collections.abc import Sequence
from enum import IntEnum
from typing import Final

from gigq.plain import plain
from gigq.storage.base import Listener
from gigq.storage.leases import Claimed, ClaimedJob, ClaimRequest, End, Outcome
from gigq.storage.rows import BY_VALUE
from gigq.worker.outcomes import log_end, outcome_of, release_of
from gigq.worker.pools import endings
from gigq.worker.pools.base import Ended, Hello, Pool
from gigq.worker.wake_pipe import open_wake_pipe
from gigq.worker.writer import Answer, Exchange, Writer

LONGEST_SLEEP_SECONDS: Final = 1.0
LOOK_SECONDS: Final = 0.05  # a busy worker asks at most that often whether somebody wants its jobs cancelled
GROUP: Final = 64  # ended jobs that are worth a transaction, though one is under way: 20 µs each, a sync takes 1 ms
BUSY: Final = 16  # jobs that ended within one exchange
NAP_MILLISECONDS: Final = 1  # the least that poll(2) takes; the children have 5 ms of work ahead
HELD_SECONDS: Final = 0.05  # a claimed job that finds no executor for so long goes back, for other workers

log = logging.getLogger("gigq.worker")


class Stage(IntEnum):
    """How far a stop has come."""

    WORKING = 0
    DRAINING = 1
    RELEASING = 2


class Node:
    """One run of a worker. All methods but `stop` and `notify` belong to the thread that calls `run`."""

    def __init__(
        self, pool: Pool, hello: Hello, worker_id: str, queues: Sequence[str] | None, *, burst: bool, drain: float
    ) -> None:
        self._pool = pool
        self._hello = hello
        self._worker_id = worker_id
        self._tasks = (*hello.tasks, BY_VALUE)
        self._queues = queues
        self._burst = burst
        self._drain = drain
        self._wake_read, self._wake_write = open_wake_pipe()
        self._wanted_stage = Stage.WORKING
        self._stage = Stage.WORKING
        self._drain_until = 0.0
        self._backlog: list[ClaimedJob] = []
        self._backlog_since = 0.0
        self._lowest_given = math.inf  # priority of what was handed out since the pool was last emptied
        self._outcomes: list[Outcome] = []
        self._progress: dict[int, tuple[int, int, float, str]] = {}
        self._asked = 0  # exchanges without an answer yet
        self._claiming = 0  # jobs wanted by those
        self._is_hungry = True  # there may be jobs to claim
        self._has_news = False  # somebody wrote to the database: what runs here may be meant
        self._look_at = 0.0
        self._is_done = False
        self._next_due_at: float | None = None
        self._tend_delay: float | None = None
        self.counts = {"finished": 0, "fenced": 0}

    def notify(self) -> None:
        """Wake the loop, from any thread or signal handler."""
        try:
            os.write(self._wake_write, b"\1")
        except BlockingIOError:
            return  # it has wake-ups that it has not read yet

    def stop(self, *, at_once: bool = False) -> None:
        """Ask the loop to end: after what runs has finished, or at once; asked twice, at once."""
        again = self._wanted_stage is not Stage.WORKING
        self._wanted_stage = Stage.RELEASING if at_once or again else Stage.DRAINING
        self.notify()

    @property
    def wake_descriptor(self) -> int:
        """Where signals may write, to interrupt the loop's sleep."""
        return self._wake_write

    def run(self, writer: Writer, listener: Listener) -> None:
        """Work until stopped, or in a burst until nothing is left to do."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._wake_read, selectors.EVENT_READ)
            selector.register(listener.fileno(), selectors.EVENT_READ)
            for descriptor in self._pool.filenos():
                selector.register(descriptor, selectors.EVENT_READ)
            naps = select.poll()
            naps.register(self._wake_read, select.POLLIN)
            self._step(writer)  # what waits already is claimed now, not after the first sleep
            while not self._is_over():
                if self._asked and len(self._outcomes) >= BUSY:
                    # They come faster than they can be committed: to look at each would cost more than to run it.
                    naps.poll(NAP_MILLISECONDS)
                for key, _ in selector.select(self._sleep()):
                    if key.fd == self._wake_read:
                        self._drain_wakes()
                    elif key.fd == listener.fileno():
                        listener.drain()
                        self._is_hungry = self._has_news = True
                self._step(writer)

    @property
    def leaves_jobs(self) -> bool:
        """Whether jobs still run that could not be stopped: their leases must be left to lapse."""
        return not self._pool.is_idle()

    def close(self) -> None:
        """Close the loop's own descriptors."""
        os.close(self._wake_read)
        os.close(self._wake_write)

    # -- one turn

    def _step(self, writer: Writer) -> None:
        if writer.failure is not None:
            raise writer.failure
        self._take_answers(writer)
        logs_all = log.isEnabledFor(logging.DEBUG)  # asked once: it costs as much as all else for a short job
        for event in self._pool.events():
            if isinstance(event, Ended):
                outcome = outcome_of(event, self._hello)
                if logs_all or outcome.end is not End.COMPLETED:
                    log_end(event, outcome)
                self._outcomes.append(outcome)
            else:
                job = event.job
                self._progress[job.seq] = (job.seq, job.claims, event.fraction, event.message)
        self._tend_delay = self._pool.tend()
        self._hold(self._pool.recall(blocked_only=True))
        if self._wanted_stage > self._stage:
            self._advance()
        if self._stage is Stage.WORKING:
            self._hand_out()
        else:
            self._wind_down()
        if self._asked == 0 or len(self._outcomes) >= GROUP:
            self._exchange(writer)

    def _hand_out(self) -> None:
        if self._backlog:
            rest = self._pool.give(self._backlog)
            if len(rest) < len(self._backlog):
                self._lowest_given = min(self._lowest_given, self._backlog[-len(rest) - 1].priority)
            self._backlog = rest
            # What ran to its end inside `give` (the inline pool) is collected at the next turn, at once.
            if self._backlog and time.monotonic() - self._backlog_since > HELD_SECONDS and not self._pool.wanted():
                self._release(self._backlog)
                self._backlog = []

    def _hold(self, jobs: list[ClaimedJob]) -> None:
        if not jobs:
            return
        if not self._backlog:
            self._backlog_since = time.monotonic()
        self._backlog = sorted([*self._backlog, *jobs], key=lambda job: (-job.priority, job.seq))

    def _release(self, jobs: Sequence[ClaimedJob]) -> None:
        self._outcomes += map(release_of, jobs)

    def _exchange(self, writer: Writer) -> None:
        claim = None
        if self._stage is Stage.WORKING:
            due = self._next_due_at is not None and time.time() >= self._next_due_at
            wanted = self._pool.wanted() - len(self._backlog) - self._claiming
            if wanted > 0 and (self._is_hungry or due or self._outcomes):
                claim = ClaimRequest(self._worker_id, wanted, self._tasks, self._queues)
                self._claiming += wanted
                self._is_hungry = False
            elif self._outcomes:
                self._is_hungry = True  # these ends may make other jobs ready, and no claim goes with them
        looks = self._must_look() and time.monotonic() >= self._look_at
        if not (self._outcomes or self._progress or claim is not None or looks):
            return
        self._has_news = False
        self._look_at = time.monotonic() + LOOK_SECONDS
        ends_burst = self._burst and claim is not None and self._pool.is_idle() and not self._backlog
        writer.ask(Exchange(self._outcomes, claim, list(self._progress.values()), ends_burst))
        self._outcomes, self._progress = [], {}
        self._asked += 1

    def _must_look(self) -> bool:
        """Return whether to ask which running jobs are to be cancelled: the answer to any exchange tells it."""
        return self._has_news and not self._pool.is_idle()

    def _take_answers(self, writer: Writer) -> None:
        if writer.has_changed:
            writer.has_changed = False
            self._is_hungry = self._has_news = True
        if writer.is_evicted:
            writer.is_evicted = False
            # Others took what it held, but not what it may have claimed since: all of it is given back, and what it
            # does not hold any more is fenced. What runs goes on, to a late outcome.
            self._release([*self._backlog, *self._recall()])
            self._backlog = []
            self._is_hungry = True
        while writer.answers:
            self._take(writer.answers.popleft())

    def _take(self, answer: Answer) -> None:
        self._asked -= answer.asked
        finished = answer.finished
        self.counts["finished"] += len(answer.exchange.outcomes) - len(finished.fenced)
        for outcome in finished.fenced:
            self.counts["fenced"] += 1
            job_id = plain(outcome.id)
            log.warning("fenced: job %s was taken from this worker; its late outcome changes nothing", job_id)
        if finished.cancel:
            self._cancel(finished.cancel)
        if finished.claimed is not None and answer.exchange.claim is not None:
            self._claiming -= answer.exchange.claim.limit
            self._take_claimed(finished.claimed, answer.exchange.claim)
            if answer.exchange.wants_unfinished and not finished.claimed.jobs and not answer.unfinished:
                self._is_done = self._is_quiet()

    def _take_claimed(self, claimed: Claimed, request: ClaimRequest) -> None:
        self._next_due_at = claimed.next_due_at
        if len(claimed.jobs) >= request.limit:
            self._is_hungry = True
        if not claimed.jobs:
            return
        if claimed.jobs[0].priority > self._lowest_given:
            # A late priority overtakes what lies ahead of the executors.
            self._hold(self._recall())
        self._hold(claimed.jobs)

    def _recall(self) -> list[ClaimedJob]:
        self._lowest_given = math.inf
        return self._pool.recall()

    def _cancel(self, leases: list[tuple[int, int]]) -> None:
        wanted = set(leases)
        unstarted = [job for job in self._backlog if (job.seq, job.claims) in wanted]
        self._outcomes += [outcome_of(endings.unstarted(job), self._hello) for job in unstarted]
        self._backlog = [job for job in self._backlog if (job.seq, job.claims) not in wanted]
        self._pool.cancel(leases)

    # -- stopping

    def _advance(self) -> None:
        self._stage = self._wanted_stage
        if self._stage is Stage.DRAINING:
            log.info("stopping: running jobs have %g s to finish", self._drain)
            self._drain_until = time.monotonic() + self._drain

    def _wind_down(self) -> None:
        self._release([*self._backlog, *self._recall()])
        self._backlog = []
        if self._stage is Stage.DRAINING and time.monotonic() >= self._drain_until:
            log.info("stopping: giving back what still runs")
            self._stage = self._wanted_stage = Stage.RELEASING
        if self._stage is Stage.RELEASING and not self._pool.is_idle():
            self._pool.kill()

    def _is_quiet(self) -> bool:
        return self._has_told_all() and self._pool.is_idle()

    def _has_told_all(self) -> bool:
        return not (self._outcomes or self._progress or self._backlog or self._asked)

    def _is_over(self) -> bool:
        if self._stage is Stage.RELEASING and not self._pool.can_kill:
            return self._has_told_all()  # what runs cannot be stopped, and is not waited for either
        return (self._is_done or self._stage is not Stage.WORKING) and self._is_quiet()

    # -- sleeping

    def _sleep(self) -> float:
        delays = [LONGEST_SLEEP_SECONDS]
        if self._tend_delay is not None:
            delays.append(self._tend_delay)
        if not self._asked:
            if self._must_look():
                delays.append(self._look_at - time.monotonic())
            if self._next_due_at is not None and self._pool.wanted() > len(self._backlog):
                delays.append(self._next_due_at - time.time() + 0.001)
        if self._backlog:
            delays.append(HELD_SECONDS)
        if self._stage is not Stage.WORKING:
            delays.append(0.05)
        return max(0.0, min(delays))

    def _drain_wakes(self) -> None:
        try:
            while os.read(self._wake_read, 4096):
                pass
        except BlockingIOError:
            return
