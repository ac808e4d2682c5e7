"""The supervisor's side of one child process: its pipes, and the account of what was given to it.

The account: `ahead` holds the jobs whose tokens were sent and have neither been taken back nor ended, in the order in
which the child takes them. Their tokens are either still in the socket, where both sides can read them and one does,
or the child has read them, and so has started their jobs. It reads one only when it can start the job at once: a
`ProcessChild` when it has reported the one before, so at most one job has started.
"""

from __future__ import annotations

import os
import secrets
import socket
import struct
import sys
import time
from collections import deque
from collections.abc import Iterable
from contextlib import ExitStack
from typing import Final

from gigq.storage.leases import ClaimedJob
from gigq.worker.pools import channel
from gigq.worker.pools.endings import Stop, StopReason
from gigq.worker.pools.slots import FAREWELL, OVERDUE, PID, Slot

FRAME_BYTES: Final = 48 * 1024  # of arguments in one frame: it fits the pipe, so its jobs need not wait for the next
_TOKENS_BYTES: Final = 64 * 1024


class Child:
    """A child process, or the wish for one: until the forker has made it, what is given waits in its pipes."""

    slots = 0  # see `gigq.worker.link.Settings`

    def __init__(self, number: int, body_limit_bytes: int) -> None:
        self.number = number
        self.key = secrets.randbits(64)
        self.ahead: dict[int, tuple[ClaimedJob, float]] = {}  # by token: the job, and the seconds it probably takes
        self.load = 0.0  # seconds: the sum of those
        self.quota = sys.maxsize  # how many jobs more it may be given in its life
        self.is_retiring = False  # gets no more jobs, and is replaced when it has ended
        self.is_worn = False  # it has reached a limit, and is replaced when what it runs has ended
        self.has_successor = False  # another child has its place already
        self.killed_at: int | None = None  # monotonic nanoseconds: when SIGKILL was asked for
        self.silent_since: int | None = None  # monotonic nanoseconds: when its end of the outcomes was closed
        self.is_proven = False  # it has reported something
        self.measured_at = 0  # monotonic nanoseconds: when its memory was looked at
        self.is_misread = False  # a task has read a part of a token
        self.active_at = time.monotonic_ns()  # when it was last given something while idle, or reported something
        self.frames = channel.FrameBuffer(self.key, body_limit_bytes)
        self._staged: list[tuple[int, ClaimedJob]] = []
        self._staged_bytes = 0
        self._unsent: deque[tuple[bytes, list[int]]] = deque()  # rest of a frame, tokens to send after it
        self._forgotten: list[int] = []
        # The second socket is the child's end. Held here too, it lets tokens be read back.
        with ExitStack() as undo:  # if there are no descriptors left, those that were made must not be lost
            self._tokens, self._taker = socket.socketpair()
            undo.callback(self._tokens.close)
            undo.callback(self._taker.close)
            self._child_jobs, self.jobs_fd = _pipe(undo)
            self.outcomes_fd, self._child_outcomes = _pipe(undo)
            self._slot_fd = Slot.create(self.slots)
            undo.callback(os.close, self._slot_fd)
            self.slot = Slot(self._slot_fd)
            undo.pop_all()
        self._taker.shutdown(socket.SHUT_WR)  # what a task writes to its descriptors must not pile up
        self._tokens.setblocking(False)
        os.set_blocking(self.jobs_fd, False)
        os.set_blocking(self.outcomes_fd, False)

    # -- descriptors

    def descriptors(self) -> list[int]:
        """Return what the child needs, in the order of `gigq.worker.link.Descriptors`."""
        return [self._taker.fileno(), self._child_jobs, self._child_outcomes, self._slot_fd]

    def hand_over(self) -> None:
        """Close here what only the child needs, once it was sent."""
        for fd in (self._child_jobs, self._child_outcomes, self._slot_fd):
            os.close(fd)

    def close(self) -> None:
        """Let go of everything."""
        self._tokens.close()
        self._taker.close()
        os.close(self.jobs_fd)
        os.close(self.outcomes_fd)
        self.slot.close()

    @property
    def pid(self) -> int | None:
        """The process id; None as long as the child has not started."""
        return self.slot.words[PID] or None

    @property
    def farewell(self) -> int:
        """The child's last word."""
        return self.slot.words[FAREWELL]

    # -- giving

    def assign(self, token: int, job: ClaimedJob, seconds: float) -> None:
        """Put a job on the account; `send` sends it."""
        self.ahead[token] = job, seconds
        self.load += seconds
        self.quota -= 1
        self._staged.append((token, job))
        if job.arguments is not None:
            self._staged_bytes += len(job.arguments)
            if self._staged_bytes > FRAME_BYTES:
                self._close_frame()

    def _close_frame(self) -> None:
        frame = channel.encode_jobs(self._forgotten, self._staged)
        self._unsent.append((frame, [token for token, _ in self._staged]))
        self._forgotten, self._staged, self._staged_bytes = [], [], 0

    def send(self) -> bool:
        """Send what was assigned, as far as the pipe takes it now; return whether all of it went."""
        if self._staged:
            self._close_frame()
        unsent = self._unsent
        while unsent:
            frame, tokens = unsent[0]
            try:
                if frame:
                    frame = frame[os.write(self.jobs_fd, frame) :]
                if not frame and tokens:
                    # Only now: a child that has a token must find its job.
                    sent = self._tokens.send(struct.pack(f"<{len(tokens)}Q", *tokens)) // 8
                    tokens = tokens[sent:]
            except BlockingIOError:
                return False
            except BrokenPipeError:  # it has died, which the forker will report
                return True
            finally:
                unsent[0] = frame, tokens
            if frame or tokens:
                return False
            unsent.popleft()
        return True

    @property
    def is_sending(self) -> bool:
        """Whether something waits for room in the pipe."""
        return bool(self._unsent)

    # -- taking back

    def take_back(self) -> list[ClaimedJob]:
        """Take back the jobs that have not started. From then on they never will, here."""
        tokens: list[int] = []
        for index in range(len(self._unsent)):
            frame, later = self._unsent[index]
            tokens += later
            self._unsent[index] = frame, []  # the frame itself must go on: part of it may be in the pipe
        while True:
            try:
                data = self._taker.recv(_TOKENS_BYTES, socket.MSG_DONTWAIT)
            except BlockingIOError:
                break
            if len(data) % 8:
                self.is_misread = True
                break
            tokens += struct.unpack(f"<{len(data) // 8}Q", data)
        jobs = []
        for token in tokens:
            job = self.finish(token)
            if job is not None:
                jobs.append(job)
                self._forgotten.append(token)
        self.quota += len(jobs)
        return jobs

    # -- accounting

    @property
    def first(self) -> int:
        """The token of the job that runs if one runs, 0 if the child has none."""
        return next(iter(self.ahead), 0)

    @property
    def last(self) -> int:
        """The token of the job that was given last, 0 if the child has none."""
        return next(reversed(self.ahead), 0)

    def finish(self, token: int) -> ClaimedJob | None:
        """Take a job off the account; None if it is not on it."""
        entry = self.ahead.pop(token, None)
        if entry is None:
            return None
        self.load -= entry[1]
        if not self.ahead:
            self.load = 0.0  # sums of floats drift
        return entry[0]

    def matching(self, leases: Iterable[tuple[int, int]]) -> list[int]:
        """Return the tokens of jobs with these (seq, claims)."""
        wanted = set(leases)
        return [token for token, (job, _) in self.ahead.items() if (job.seq, job.claims) in wanted]


class ProcessChild(Child):
    """A child that runs one job at a time."""

    def __init__(self, number: int, body_limit_bytes: int) -> None:
        super().__init__(number, body_limit_bytes)
        self.stop: Stop | None = None
        self.spoiling: str | None = None  # what a task did to the pipes
        self.culprit = 0  # the token of that task, if it has not reported its end yet

    def running(self) -> tuple[int, int]:
        """Return (token, monotonic nanoseconds of the start) of the job that runs, (0, 0) if none is known to."""
        token, started = self.slot.running()
        return (token, started) if token in self.ahead else (0, 0)

    def mark_overdue(self, stop: Stop) -> None:
        """Note that a running job must stop; the child looks here when the signal comes."""
        self.stop = stop
        self.slot.words[OVERDUE] = stop.token

    def stop_reason(self, token: int) -> StopReason | None:
        """Return why a job was told to stop, None if it was not."""
        return self.stop.reason if self.stop is not None and self.stop.token == token else None


def _pipe(undo: ExitStack) -> tuple[int, int]:
    reader, writer = os.pipe()
    undo.callback(os.close, reader)
    undo.callback(os.close, writer)
    return reader, writer
