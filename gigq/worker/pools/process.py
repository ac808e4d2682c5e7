"""The pool of processes: hands jobs out, enforces deadlines, and accounts for each job however its child ends."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from typing import Final

from gigq.signing import Signer
from gigq.storage.leases import ClaimedJob, End
from gigq.worker.child import SOFT_SIGNAL
from gigq.worker.execute import RESULT_LIMIT_BYTES
from gigq.worker.pools import channel, endings, sharing
from gigq.worker.pools.base import Ended, Hello, PoolEvent, Progress
from gigq.worker.pools.children import Child
from gigq.worker.pools.crew import Crew, Death
from gigq.worker.pools.deaths import OutOfMemoryCounter, cause_of_death
from gigq.worker.pools.endings import Stop, StopReason
from gigq.worker.pools.estimates import Estimates
from gigq.worker.pools.forking import check_platform
from gigq.worker.source import ModuleTarget, Preparation, TaskSource

GRACE_SECONDS: Final = 2.0  # between the exception that stops a job and SIGKILL: time for `finally` blocks
STALL_SECONDS: Final = 1.0  # a child that has tokens and takes none for so long is replaced; doubled each time
STALL_LONGEST_SECONDS: Final = 60.0
READS_EACH: Final = 16  # of one child's pipe, before it is the next one's turn

_NS: Final = sharing.NS
_TO_THE_END: Final = 1_000_000  # reads
_WROTE: Final = "the task wrote to gigq's channel"
_READ: Final = "the task read from gigq's channel"


class ProcessPool:
    """Runs jobs in child processes, each one job at a time.

    Single-threaded: all methods are for the thread that runs the loop.

    Args:
        source: the app, if it is in this process: children are forked from here. A `ModuleTarget` is imported in a
            fresh interpreter, never here. None: only functions that travel with their jobs.
        url: the database, from which children read big arguments and outputs; None: the app's own.
        concurrency: how many children.
        result_limit_bytes: a bigger pickled result is a failure.
        signer: checks and signs payloads, in the children; None: what the app has, or without one the environment.
        preparation: called where an app is imported in a fresh interpreter, after that.
    """

    can_kill = True

    def __init__(
        self,
        source: TaskSource | ModuleTarget | None,
        *,
        url: str | None,
        concurrency: int,
        result_limit_bytes: int = RESULT_LIMIT_BYTES,
        signer: Signer | None = None,
        preparation: Preparation | None = None,
    ) -> None:
        self.concurrency = concurrency
        self._url = url
        self._crew = Crew(source, concurrency, result_limit_bytes, signer, preparation)
        self._children = self._crew.children
        self._estimates = Estimates()
        self._events: list[PoolEvent] = []
        self._held: list[ClaimedJob] = []  # taken back, and not given to another child yet
        self._is_handing_out = True
        self._last_token = 0
        self._stall_ns = int(STALL_SECONDS * _NS)

    def start(self) -> Hello:
        """Load the app in the forker and start the children; see `Pool.start`. Blocks while the app is imported.

        Raises:
            TargetError: the app cannot be loaded.
            WorkerError: this system cannot fork.
        """
        check_platform()
        self._out_of_memory = OutOfMemoryCounter()
        return self._crew.start(self._url)

    def stop(self) -> None:
        """End all children and the forker, and wait for them; nothing of them is left then."""
        self._crew.stop()

    def filenos(self) -> Sequence[int]:
        """Return the one descriptor behind which all others are."""
        return (self._crew.fileno(),)

    def is_idle(self) -> bool:
        """Return whether no job is in the pool."""
        return not self._held and not self._events and not any(child.ahead for child in self._children)

    # -- giving and taking back

    def wanted(self) -> int:
        """Return how many jobs there is use for; see `Pool.wanted`."""
        return max(0, sharing.wanted(self._children, self._estimates, time.monotonic_ns()) - len(self._held))

    def give(self, jobs: Sequence[ClaimedJob]) -> list[ClaimedJob]:
        """Hand out what there is room for, return the rest; see `Pool.give`."""
        self._is_handing_out = True
        return self._hand_out(jobs)

    def recall(self, *, blocked_only: bool = False) -> list[ClaimedJob]:
        """Take back what has not started; see `Pool.recall`. The most urgent come first."""
        if not blocked_only:
            for child in self._children:
                self._take_back(child)
        held, self._held = self._held, []
        held.sort(key=lambda job: (-job.priority, job.seq))
        return held

    def _hand_out(self, jobs: Sequence[ClaimedJob]) -> list[ClaimedJob]:
        if not jobs:
            return []
        children = self._children
        given, touched = sharing.share_out(jobs, children, self._estimates, self._last_token, time.monotonic_ns())
        self._last_token += given
        for index in touched:
            self._crew.send(children[index])
        return list(jobs[given:])

    def _hand_out_held(self) -> None:
        if self._held and self._is_handing_out:
            self._held = self._hand_out(self._held)

    def _take_back(self, child: Child) -> None:
        self._held += child.take_back()
        if child.is_misread and child.spoiling is None:
            child.spoiling, child.culprit = _READ, child.first
            self._crew.kill(child)

    # -- events

    def events(self) -> list[PoolEvent]:
        """Return what has happened; see `Pool.events`.

        Raises:
            WorkerError: the forker dies again and again.
            TargetError: the forker was replaced, and cannot load the app any more.
        """
        readable, deaths = self._crew.poll()
        for child in readable:
            self._collect(child, READS_EACH)
        for death in deaths:
            self._bury(death)
        if deaths:
            self._crew.fill_up()
            self._hand_out_held()
        events, self._events = self._events, []
        return events

    def _collect(self, child: Child, reads: int) -> None:
        """Read up to `reads` times what a child has written."""
        if not self._crew.is_readable(child):
            return
        fd, pid = child.outcomes_fd, child.pid
        finish, record, ended = child.finish, self._estimates.record, self._events.append
        for _ in range(reads):
            try:
                data = os.read(fd, channel.READ_BYTES)
            except BlockingIOError:
                break
            if not data:
                self._crew.note_end_of_outcomes(child)
                break
            token = 0
            for frame in child.frames.feed(data):
                kind = frame.kind
                if kind >= channel.PROGRESS or kind == channel.RUBBISH:
                    self._note(child, frame)
                    continue
                job = finish(frame.token)
                if job is None:
                    continue
                token = frame.token
                record(job, frame.duration)
                if kind == channel.FAILED or child.is_retiring or job.timeout is not None:
                    self._end_unusually(child, job, frame)
                else:
                    ended(Ended(job, End.COMPLETED, frame.started_at, frame.duration, pid, frame.body or None))
            child.active_at = time.monotonic_ns()
            self._crew.note_outcome(child)
            if 0 < child.first < token:
                self._note_stolen(child, token)
            if len(data) < channel.READ_BYTES:
                break
        if child.spoiling is not None:
            self._take_back(child)
            if child.first in (0, child.culprit):  # if not, an innocent job runs there: it may end first
                self._crew.kill(child)
        elif child.is_sending:
            self._crew.send(child)

    def _note(self, child: Child, frame: channel.Frame) -> None:
        if frame.kind == channel.RUBBISH:
            child.spoiling, child.culprit = _WROTE, child.first
            child.is_retiring = True
        elif frame.token in child.ahead:
            self._events.append(Progress(child.ahead[frame.token][0], *channel.decode_progress(frame.body)))

    def _note_stolen(self, child: Child, reported: int) -> None:
        """Keep jobs before the one just reported: children run tokens in order, so a task has read these away."""
        child.spoiling = _READ
        child.is_retiring = True
        while 0 < child.first < reported:
            self._hold_first(child)

    def _hold_first(self, child: Child) -> None:
        job = child.finish(child.first)
        assert job is not None
        self._held.append(job)

    def _end_unusually(self, child: Child, job: ClaimedJob, frame: channel.Frame) -> None:
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
            child.is_retiring = child.killed_at is not None or child.spoiling is not None

    def _bury(self, death: Death) -> None:
        """Account for the jobs of a child that has ended, and forget it."""
        child = death.child
        self._collect(child, _TO_THE_END)  # an outcome that was written counts
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

    def _cause(self, child: Child, status: int) -> str:
        is_memory = status == signal.SIGKILL and child.killed_at is None and self._out_of_memory.has_risen()
        return cause_of_death(status, child.farewell, out_of_memory=is_memory)

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

    def _tend_child(self, child: Child, now: int, due: list[int]) -> None:
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
            deadline = child.stop.asked_at + int(GRACE_SECONDS * _NS)
            if now >= deadline:
                self._crew.kill(child)
                deadline = self._crew.check_killed(child, now)
            due.append(deadline)
        elif (entry := child.ahead.get(token)) is not None and (timeout := entry[0].timeout) is not None:
            deadline = started + int(timeout * _NS)
            if now >= deadline:
                self._stop_job(child, Stop(token, StopReason.TIMEOUT, now))
                deadline = now + int(GRACE_SECONDS * _NS)
            due.append(deadline)

    def _watch_stall(self, child: Child, now: int, due: list[int]) -> None:
        """Replace a child that takes no tokens, for it is stopped. What it had is taken back, so nothing is lost."""
        stalled_at = child.active_at + self._stall_ns
        if now < stalled_at:
            # It is between two jobs, or starting. The next one may be long: look again when others would wait for it.
            due.append(stalled_at if len(child.ahead) == 1 else min(stalled_at, now + sharing.AHEAD_NS))
            if child.ahead[child.first][0].timeout is not None:
                due.append(now + sharing.AHEAD_NS)
            return
        seen = child.active_at
        self._collect(child, READS_EACH)
        if child.active_at != seen or not child.ahead:
            due.append(now)
            return  # it waited for its outcome to be read, because this process was stopped
        self._take_back(child)
        self._stall_ns = min(self._stall_ns * 2, int(STALL_LONGEST_SECONDS * _NS))  # patience helps slow machines
        self._crew.kill(child)

    # -- stopping jobs

    def cancel(self, jobs: Sequence[tuple[int, int]]) -> None:
        """Stop jobs by (seq, claims); see `Pool.cancel`."""
        leases = set(jobs)
        for child in self._children:
            if not child.matching(leases):
                continue
            self._collect(child, READS_EACH)
            self._take_back(child)
            # The last of what is left may run. Those before it have ended, and their outcomes are on the way.
            for token in child.matching(leases):
                if token == child.last and child.stop_reason(token) is None:
                    self._stop_job(child, Stop(token, StopReason.CANCEL, time.monotonic_ns()))
        self._events += [endings.unstarted(job) for job in self._held if (job.seq, job.claims) in leases]
        self._held = [job for job in self._held if (job.seq, job.claims) not in leases]
        self._hand_out_held()

    def kill(self) -> None:
        """Kill the children that run jobs. What has not started stays in the pool until `recall` or `give`."""
        self._is_handing_out = False
        for child in self._children:
            self._take_back(child)
            if child.ahead:
                if child.stop_reason(child.last) is None:  # a job that was being stopped ends for that reason
                    child.stop = Stop(child.last, StopReason.RELEASE, time.monotonic_ns())
                self._crew.kill(child)

    def _stop_job(self, child: Child, stop: Stop) -> None:
        # In this order: once the job has ended, its child must find no token, because it is replaced.
        child.is_retiring = True
        self._take_back(child)
        child.mark_overdue(stop)
        self._crew.signal(child, SOFT_SIGNAL)
