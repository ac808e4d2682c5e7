"""The pool of processes: hands jobs out, enforces deadlines, and accounts for each job however its child ends."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final

from gigq.signing import Signer
from gigq.storage.leases import ClaimedJob
from gigq.worker.execute import RESULT_LIMIT_BYTES
from gigq.worker.link import SOFT_SIGNAL
from gigq.worker.pools import channel, endings, forked, sharing
from gigq.worker.pools.base import Progress
from gigq.worker.pools.children import ProcessChild
from gigq.worker.pools.crew import Death
from gigq.worker.pools.endings import Stop, StopReason
from gigq.worker.pools.forked import TO_THE_END, ForkedPool
from gigq.worker.pools.limits import NO_LIMITS, Limits
from gigq.worker.source import ModuleTarget, Preparation, TaskSource

_NS: Final = sharing.NS
_WROTE: Final = "the task wrote to gigq's channel"
_READ: Final = "the task read from gigq's channel"


class ProcessPool(ForkedPool[ProcessChild]):
    """Runs jobs in `concurrency` child processes, each one job at a time; see `ForkedPool`."""

    def __init__(
        self,
        source: TaskSource | ModuleTarget | None,
        *,
        url: str | None,
        concurrency: int,
        result_limit_bytes: int = RESULT_LIMIT_BYTES,
        limits: Limits = NO_LIMITS,
        signer: Signer | None = None,
        preparation: Preparation | None = None,
    ) -> None:
        def make(number: int, body_limit_bytes: int) -> ProcessChild:
            child = ProcessChild(number, body_limit_bytes)
            child.quota = limits.quota
            return child

        super().__init__(
            source,
            url=url,
            concurrency=concurrency,
            count=concurrency,
            make=make,
            result_limit_bytes=result_limit_bytes,
            limits=limits,
            signer=signer,
            preparation=preparation,
        )

    def wanted(self) -> int:
        """Return how many jobs there is use for; see `Pool.wanted`."""
        return max(0, sharing.wanted(self._children, self._estimates, time.monotonic_ns()) - len(self._held))

    def _share_out(self, jobs: Sequence[ClaimedJob], now: int) -> tuple[int, set[int]]:
        return sharing.share_out(jobs, self._children, self._estimates, self._last_token, now)

    # -- events

    def _settle(self, child: ProcessChild) -> None:
        if child.spoiling is not None:
            self._take_back(child)
            if child.first in (0, child.culprit):  # if not, an innocent job runs there: it may end first
                self._crew.kill(child)
        else:
            super()._settle(child)

    def _wear_out(self, child: ProcessChild) -> bool:
        if child.quota <= 0:
            return not child.ahead
        child.is_retiring = True
        self._take_back(child)
        return True

    def _note_misread(self, child: ProcessChild) -> None:
        if child.spoiling is None:
            child.spoiling, child.culprit = _READ, child.first
            self._crew.kill(child)

    def _note(self, child: ProcessChild, frame: channel.Frame) -> None:
        if frame.kind == channel.RUBBISH:
            child.spoiling, child.culprit = _WROTE, child.first
            child.is_retiring = True
        elif frame.token in child.ahead:
            self._events.append(Progress(child.ahead[frame.token][0], *channel.decode_progress(frame.body)))

    def _note_read(self, child: ProcessChild, token: int) -> None:
        if 0 < child.first < token:
            self._note_stolen(child, token)

    def _note_stolen(self, child: ProcessChild, reported: int) -> None:
        """Keep jobs before the one just reported: children run tokens in order, so a task has read these away."""
        child.spoiling = _READ
        child.is_retiring = True
        while 0 < child.first < reported:
            self._hold_first(child)

    def _hold_first(self, child: ProcessChild) -> None:
        job = child.finish(child.first)
        assert job is not None
        self._held.append(job)

    def _end_unusually(self, child: ProcessChild, job: ClaimedJob, frame: channel.Frame) -> None:
        token, started_at, duration = frame.token, frame.started_at, frame.duration
        if token == child.culprit and child.spoiling is not None:
            self._events.append(endings.of_death(job, None, child.spoiling, started_at, duration, child.pid))
            return
        self._events.append(endings.of_outcome(job, frame, child.stop_reason(token), child.pid))
        if frame.flags & channel.STOPPED:  # what the exception broke in the child must not hurt the next job
            self._crew.kill(child)
        elif child.stop is not None and child.stop.token == token:
            # It ended before the exception reached it, so the child is as good as before.
            child.stop = None
            child.is_retiring = child.killed_at is not None or child.spoiling is not None or child.is_worn

    def _bury(self, death: Death[ProcessChild]) -> None:
        """Account for the jobs of a child that has ended, and forget it."""
        child = death.child
        self._collect(child, TO_THE_END)  # an outcome that was written counts
        self._take_back(child)
        has_started = bool(child.ahead) and death.status is not None
        if has_started:
            # One at most. More are left only if a task has read tokens from the socket; those did not start.
            token, started = child.running()
            duration = (time.monotonic_ns() - started) / _NS if token else 0.0
            token = token or child.first
            job = child.finish(token)
            assert job is not None
            cause = death.cause or child.spoiling or self._cause(child, death.status or 0)
            reason = child.stop_reason(token)
            self._events.append(endings.of_death(job, reason, cause, time.time() - duration, duration, child.pid))
        while child.ahead:
            self._hold_first(child)
        self._crew.remove(child, was_used=has_started)

    # -- deadlines and what waits behind long jobs

    def tend(self) -> float | None:
        """Enforce deadlines and take back what waits behind long jobs; see `Pool.tend`."""
        now = time.monotonic_ns()
        due: list[int] = []
        for child in self._children:
            if child.killed_at is not None:
                due.append(self._crew.check_killed(child, now))
            elif child.ahead:
                self._tend_child(child, now, due)
            if child.silent_since is not None and child.killed_at is None:
                due.append(self._crew.check_silent(child, now))
        retry_at = self._crew.fill_up()
        if retry_at is not None:
            due.append(retry_at)
        for child in sharing.crowded(self._children, now):
            self._take_back(child)
        self._hand_out_held()
        return max(0.0, (min(due) - now) / _NS) if due else None

    def _tend_child(self, child: ProcessChild, now: int, due: list[int]) -> None:
        token, started = child.running()
        if not token:
            self._watch_stall(child, now, due)
            return
        if len(child.ahead) > 1:
            if now - started >= sharing.AHEAD_NS:
                self._take_back(child)
            else:
                due.append(started + sharing.AHEAD_NS)
        if child.stop_reason(token) is not None:
            assert child.stop is not None
            deadline = child.stop.asked_at + int(forked.GRACE_SECONDS * _NS)
            if now >= deadline:
                self._crew.kill(child)
                deadline = self._crew.check_killed(child, now)
            due.append(deadline)
        elif (entry := child.ahead.get(token)) is not None and (timeout := entry[0].timeout) is not None:
            deadline = started + int(timeout * _NS)
            if now >= deadline:
                self._stop_job(child, Stop(token, StopReason.TIMEOUT, now))
                deadline = now + int(forked.GRACE_SECONDS * _NS)
            due.append(deadline)

    def _watch_stall(self, child: ProcessChild, now: int, due: list[int]) -> None:
        self._kill_if_stalled(child, now, due)
        if len(child.ahead) > 1 or (child.ahead and child.ahead[child.first][0].timeout is not None):
            # It is between two jobs, or starting. The next one may be long: look again when others would wait for it.
            due.append(now + sharing.AHEAD_NS)

    # -- stopping jobs

    def _cancel_started(self, child: ProcessChild, tokens: list[int]) -> None:
        # The last of what is left may run. Those before it have ended, and their outcomes are on the way.
        for token in tokens:
            if token == child.last and child.stop_reason(token) is None:
                self._stop_job(child, Stop(token, StopReason.CANCEL, time.monotonic_ns()))

    def _note_release(self, child: ProcessChild) -> None:
        if child.stop_reason(child.last) is None:  # a job that was being stopped ends for that reason
            child.stop = Stop(child.last, StopReason.RELEASE, time.monotonic_ns())

    def _stop_job(self, child: ProcessChild, stop: Stop) -> None:
        # In this order: once the job has ended, its child must find no token, because it is replaced.
        child.is_retiring = True
        self._take_back(child)
        child.mark_overdue(stop)
        self._crew.signal(child, SOFT_SIGNAL)
