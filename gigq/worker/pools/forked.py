"""What pools of forked children share: hand out, take back, collect, replace. How they differ is in their own files."""

from __future__ import annotations

import logging
import os
import signal
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Final, Generic

from gigq.signing import Signer
from gigq.storage.leases import ClaimedJob, End
from gigq.worker.pools import channel, endings
from gigq.worker.pools.base import Ended, Hello, PoolEvent
from gigq.worker.pools.crew import C, Crew, Death
from gigq.worker.pools.deaths import OutOfMemoryCounter, cause_of_death
from gigq.worker.pools.estimates import Estimates
from gigq.worker.pools.forking import check_platform
from gigq.worker.pools.limits import NO_LIMITS, Limits
from gigq.worker.source import ModuleTarget, Preparation, TaskSource

GRACE_SECONDS: Final = 2.0  # between the exception that stops a job and SIGKILL: time for `finally` blocks
STALL_SECONDS: Final = 1.0  # a child that has tokens and takes none for so long is replaced; doubled each time
STALL_LONGEST_SECONDS: Final = 60.0
READS_EACH: Final = 16  # of one child's pipe, before it is the next one's turn
TO_THE_END: Final = 1_000_000  # reads

_NS: Final = 1_000_000_000

log = logging.getLogger("gigq.worker")


class ForkedPool(ABC, Generic[C]):
    """A pool whose jobs run in children of the forker.

    Single-threaded: all methods are for the thread that runs the loop.

    Args:
        source: the app, if it is in this process: children are forked from here. A `ModuleTarget` is imported in a
            fresh interpreter, never here. None: only functions that travel with their jobs.
        url: the database, from which children read big arguments and outputs; None: the app's own.
        concurrency: how many jobs run at once.
        count: how many children.
        make: makes the account of one, see `Crew`.
        result_limit_bytes: a bigger pickled result is a failure.
        limits: when a child is replaced.
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
        count: int,
        make: Callable[[int, int], C],
        result_limit_bytes: int,
        limits: Limits,
        signer: Signer | None,
        preparation: Preparation | None,
    ) -> None:
        self.concurrency = concurrency
        self._url = url
        self._limits = limits
        self._crew = Crew(source, count, make, result_limit_bytes, signer, preparation)
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
        given, touched = self._share_out(jobs, time.monotonic_ns())
        self._last_token += given
        for index in touched:
            self._crew.send(children[index])
        return list(jobs[given:])

    @abstractmethod
    def _share_out(self, jobs: Sequence[ClaimedJob], now: int) -> tuple[int, set[int]]:
        """Assign the first of `jobs` to children; return how many, and the indexes of children that got some."""

    def _hand_out_held(self) -> None:
        if self._held and self._is_handing_out:
            self._held = self._hand_out(self._held)

    def _take_back(self, child: C) -> None:
        self._held += child.take_back()
        if child.is_misread:
            self._note_misread(child)

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

    def _collect(self, child: C, reads: int) -> None:
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
                if kind == channel.FAILED or frame.flags or child.is_retiring or job.timeout is not None:
                    self._end_unusually(child, job, frame)
                else:
                    ended(Ended(job, End.COMPLETED, frame.started_at, frame.duration, pid, frame.body or None))
            child.active_at = time.monotonic_ns()
            self._crew.note_outcome(child)
            self._note_read(child, token)
            if len(data) < channel.READ_BYTES:
                break
        self._settle(child)

    @abstractmethod
    def _note(self, child: C, frame: channel.Frame) -> None:
        """Note a frame that is not the end of a job."""

    @abstractmethod
    def _note_misread(self, child: C) -> None:
        """Note that a task has read a part of a token, maybe more."""

    def _note_read(self, child: C, token: int) -> None:
        """Note that frames were read, `token` the last whose job they ended (0: none)."""

    @abstractmethod
    def _end_unusually(self, child: C, job: ClaimedJob, frame: channel.Frame) -> None:
        """Account for a job that has failed, or may have been stopped."""

    def _settle(self, child: C) -> None:
        """Do what is due after collecting: replace a child that has reached a limit, go on sending."""
        if self._limits is not NO_LIMITS and child.is_proven:
            self._check_limits(child)
        if child.is_worn and not child.ahead:
            self._crew.depart(child)  # idle: its successor can take jobs before it has ended
            self._crew.kill(child)
        elif child.is_sending:
            self._crew.send(child)

    def _check_limits(self, child: C) -> None:
        if child.is_retiring:
            return
        reached = self._limits.reached(child, child.active_at)
        if reached is not None and self._wear_out(child):
            child.is_worn = child.is_retiring = True
            # The number of jobs is reached all the time, maybe; memory tells of a leak, or of too low a limit.
            level = logging.DEBUG if child.quota <= 0 else logging.INFO
            log.log(level, "child process %s %s: it is replaced", child.pid, reached)

    @abstractmethod
    def _wear_out(self, child: C) -> bool:
        """Prepare the replacement of a child that has reached a limit; False: not now, it gets more jobs."""

    @abstractmethod
    def _bury(self, death: Death[C]) -> None:
        """Account for the jobs of a child that has ended, and forget it."""

    def _cause(self, child: C, status: int) -> str:
        is_memory = status == signal.SIGKILL and child.killed_at is None and self._out_of_memory.has_risen()
        return cause_of_death(status, child.farewell, out_of_memory=is_memory)

    # -- children that do not move

    def _kill_if_stalled(self, child: C, now: int, due: list[int]) -> None:
        """Replace a child that takes no tokens, for it is stopped. What it had is taken back, so nothing is lost."""
        seen = child.active_at
        if now < seen + self._stall_ns:
            due.append(seen + self._stall_ns)
            return
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
            self._cancel_started(child, child.matching(leases))
        self._events += [endings.unstarted(job) for job in self._held if (job.seq, job.claims) in leases]
        self._held = [job for job in self._held if (job.seq, job.claims) not in leases]
        self._hand_out_held()

    @abstractmethod
    def _cancel_started(self, child: C, tokens: list[int]) -> None:
        """Stop the jobs of these tokens, which the child has read and not reported."""

    def kill(self) -> None:
        """Kill the children that run jobs. What has not started stays in the pool until `recall` or `give`."""
        self._is_handing_out = False
        for child in self._children:
            self._take_back(child)
            if child.ahead:
                self._note_release(child)
                self._crew.kill(child)

    @abstractmethod
    def _note_release(self, child: C) -> None:
        """Note that the jobs of a child which is about to be killed end with their worker."""
