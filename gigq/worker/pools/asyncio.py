"""The pool of event loops: a few child processes, each of which runs many coroutines at once.

Invariants, each one kept at every moment:

- A token is read once, by its child or by this pool. The child reads one only when it has a free slot, and begins jobs
  in the order of their tokens. It notes in shared memory which was the last, before the first step of that job.
- An outcome leaves the child completely before its slot is free again. So the tokens that a child has read up to that
  note, minus the outcomes in its pipe, are the jobs that it had started: when it dies those and no others have lost
  an attempt. Those it had read and not begun are given to another child.
- The table in shared memory only tells when a job started, for its deadline; whether it did is never read from there,
  since an entry is free again a moment before the outcome is out.
- A job is over when its outcome has come, or its process has ended: not when it was told to stop.
- Never more than `concurrency` jobs run at once, also while a child is replaced; see `gigq.worker.pools.filling`.

A job that must stop is told so at once: its coroutine is cancelled, or an exception is raised in its thread. One that
goes on for half of the grace is told again, by an exception where it blocks the loop, and its child gets no more jobs:
the others there have the rest of the grace to end. Then the child is killed.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import Final

from gigq.plain import plain
from gigq.signing import Signer
from gigq.storage.leases import ClaimedJob
from gigq.worker.execute import RESULT_LIMIT_BYTES
from gigq.worker.link import SOFT_SIGNAL
from gigq.worker.pools import channel, endings, filling, forked
from gigq.worker.pools.base import Progress
from gigq.worker.pools.crew import Death
from gigq.worker.pools.deadlines import Deadlines
from gigq.worker.pools.endings import StopReason
from gigq.worker.pools.forked import TO_THE_END, ForkedPool
from gigq.worker.pools.limits import NO_LIMITS, Limits
from gigq.worker.pools.loop_children import BEAT_NS, BLOCKED_NS, LoopChild, LoopStop
from gigq.worker.pools.sharing import AHEAD_NS
from gigq.worker.source import ModuleTarget, Preparation, TaskSource

RETRY_NS: Final = 5_000_000  # when a job that must stop is not in the table yet: it is being started
LAG_SAID_NS: Final = 1_000_000_000  # a loop that is blocked for so long is worth a line in the log

_NS: Final = 1_000_000_000
_WROTE: Final = "a job in this event loop wrote to gigq's channel"
_READ: Final = "a job in this event loop read from gigq's channel"

log = logging.getLogger("gigq.worker")


class AsyncPool(ForkedPool[LoopChild]):
    """Runs jobs in the event loops of `children` child processes, `concurrency` at once; see `ForkedPool`."""

    def __init__(
        self,
        source: TaskSource | ModuleTarget | None,
        *,
        url: str | None,
        concurrency: int,
        children: int,
        result_limit_bytes: int = RESULT_LIMIT_BYTES,
        limits: Limits = NO_LIMITS,
        signer: Signer | None = None,
        preparation: Preparation | None = None,
    ) -> None:
        super().__init__(
            source,
            url=url,
            concurrency=concurrency,
            count=min(children, concurrency),
            make=self._make,
            result_limit_bytes=result_limit_bytes,
            limits=limits,
            signer=signer,
            preparation=preparation,
        )
        self._deadlines = Deadlines()

    def _make(self, number: int, body_limit_bytes: int) -> LoopChild:
        # Those that leave have left their slots to their successors.
        others = [child for child in self._children if not child.has_successor]
        taken = sum(child.slots for child in others)
        child = LoopChild(number, body_limit_bytes, (self.concurrency - taken) // (self._crew.count - len(others)))
        child.quota = self._limits.quota
        return child

    def wanted(self) -> int:
        """Return how many jobs there is use for; see `Pool.wanted`."""
        now = time.monotonic_ns()
        return max(0, filling.wanted(self._children, self.concurrency, self._estimates, now) - len(self._held))

    def _share_out(self, jobs: Sequence[ClaimedJob], now: int) -> tuple[int, set[int]]:
        last = self._last_token
        given, touched = filling.share_out(jobs, self._children, self.concurrency, self._estimates, last, now)
        if any(job.timeout is not None for job in jobs[:given]):
            for index in touched:
                child = self._children[index]
                for token, (job, _) in reversed(child.ahead.items()):
                    if token <= last:
                        break
                    if job.timeout is not None:
                        self._deadlines.add(child, token, job.timeout, now)
        return given, touched

    # -- events

    def _note(self, child: LoopChild, frame: channel.Frame) -> None:
        if frame.kind == channel.RUBBISH:
            self._spoil(child, _WROTE)
        elif frame.token in child.ahead:
            self._events.append(Progress(child.ahead[frame.token][0], *channel.decode_progress(frame.body)))

    def _note_misread(self, child: LoopChild) -> None:
        self._spoil(child, _READ)

    def _spoil(self, child: LoopChild, cause: str) -> None:
        """Kill a child whose pipes cannot be trusted: an outcome may be lost in them, and nobody knows whose."""
        if child.end_cause is None:
            child.end_cause = cause
        self._crew.kill(child)

    def _end_unusually(self, child: LoopChild, job: ClaimedJob, frame: channel.Frame) -> None:
        self._events.append(endings.of_outcome(job, frame, child.stop_reason(frame.token), child.pid))
        child.stops.pop(frame.token, None)

    def _wear_out(self, child: LoopChild) -> bool:
        if child.quota <= 0 and len(child.ahead) > child.busy:
            return False  # it has yet to begin some of what it was given
        if sum(child.has_successor and bool(child.ahead) for child in self._children) >= self._crew.count:
            # Its predecessors still run long jobs. More and more processes would be worse than an old one.
            child.quota = max(child.quota, self._limits.quota)
            return False
        self._take_back(child)
        self._crew.depart(child)
        return True

    def _bury(self, death: Death[LoopChild]) -> None:
        """Account for the jobs of a child that has ended, and forget it."""
        child = death.child
        self._collect(child, TO_THE_END)  # outcomes that were written count
        self._take_back(child)
        begun = child.begun if death.status is not None else 0
        started = [(token, job) for token, (job, _) in child.ahead.items() if token <= begun]
        self._held += [job for token, (job, _) in child.ahead.items() if token > begun]
        child.ahead.clear()
        if started:
            cause = death.cause or child.end_cause or self._cause(child, death.status or 0)
            now, wall = time.monotonic_ns(), time.time()
            for token, job in started:
                duration = (now - (child.started(token) or now)) / _NS
                reason = child.stop_reason(token)
                self._events.append(endings.of_death(job, reason, cause, wall - duration, duration, child.pid))
        self._crew.remove(child, was_used=bool(started))

    # -- deadlines, and loops that do not turn

    def tend(self) -> float | None:
        """Enforce deadlines and take back what waits where no slot gets free; see `Pool.tend`."""
        now = time.monotonic_ns()
        due: list[int] = []
        ahead = 0
        for child in self._children:
            ahead += len(child.ahead)
            if child.killed_at is not None:
                due.append(self._crew.check_killed(child, now))
            elif child.ahead:
                self._watch(child, now, due)
            if child.silent_since is not None and child.killed_at is None:
                due.append(self._crew.check_silent(child, now))
        for child, token in self._deadlines.overdue(now):
            child.stops.setdefault(token, LoopStop(StopReason.TIMEOUT, now))
        next_at = self._deadlines.next_at(ahead)
        if next_at is not None:
            due.append(next_at)
        for child in self._children:
            if child.stops and child.killed_at is None:
                self._tend_stops(child, now, due)
        retry_at = self._crew.fill_up()
        if retry_at is not None:
            due.append(retry_at)
        self._hand_out_held()
        return max(0.0, (min(due) - now) / _NS) if due else None

    def _watch(self, child: LoopChild, now: int, due: list[int]) -> None:
        if child.quota <= 0:  # it may run long jobs, and report nothing for a while
            self._check_limits(child)
        busy = child.busy
        waiting = len(child.ahead) - busy
        if not busy:
            self._kill_if_stalled(child, now, due)
            return
        if waiting > 0:
            is_full = busy >= child.slots
            since = max(child.active_at, child.given_at, 0 if is_full else now - child.lag(now))
            patience = AHEAD_NS if is_full else BLOCKED_NS
            if now - since >= patience:
                self._take_back(child)
            else:
                due.append(since + patience)
        lag = child.lag(now)
        if lag > BLOCKED_NS:
            due.append(now + BEAT_NS)  # when it turns again, nobody else says so
            if lag >= LAG_SAID_NS and not child.is_lagging:
                child.is_lagging = True
                names = ", ".join(sorted({job.name for job, _ in child.ahead.values()})[:5])
                log.warning(
                    "the event loop of child process %s is blocked: one of its jobs (%s) computes, or waits in a plain "
                    "call; the others there wait for it",
                    child.pid, plain(names),
                )  # fmt: skip
        else:
            child.is_lagging = False

    # -- stopping jobs

    def _tend_stops(self, child: LoopChild, now: int, due: list[int]) -> None:
        grace = int(forked.GRACE_SECONDS * _NS)
        must_signal = False
        for token, stop in list(child.stops.items()):
            if token not in child.ahead:  # it ended before it could be told
                del child.stops[token]
                continue
            if not stop.is_told:
                stop.is_told = child.tell_to_stop(token)
                must_signal |= stop.is_told
                if not stop.is_told:
                    due.append(now + RETRY_NS)
            if now >= stop.asked_at + grace:
                job, _ = child.ahead[token]
                child.end_cause = f"killed with its event loop, because job {job.id} ({job.name}) did not stop"
                self._crew.kill(child)
                due.append(self._crew.check_killed(child, now))
                return
            if not stop.is_told_twice and now >= stop.asked_at + grace // 2:
                stop.is_told_twice = must_signal = True
                self._take_back(child)
                child.is_worn = True
                self._crew.depart(child)
            due.append(stop.asked_at + (grace if stop.is_told_twice else grace // 2))
        if must_signal:
            self._crew.signal(child, SOFT_SIGNAL)

    def _cancel_started(self, child: LoopChild, tokens: list[int]) -> None:
        now = time.monotonic_ns()
        for token in tokens:
            child.stops.setdefault(token, LoopStop(StopReason.CANCEL, now))

    def _note_release(self, child: LoopChild) -> None:
        child.end_reason = StopReason.RELEASE  # of those that were not being stopped anyway
