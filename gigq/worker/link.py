"""What every child has: its pipes to the supervisor, the memory it shares with it, and a way to read from storage."""

from __future__ import annotations

import fcntl
import os
import resource
import signal
import socket
import sys
from typing import Final, NamedTuple, NoReturn, cast

from gigq.results import read_result
from gigq.signing import Signer
from gigq.storage import Durability, open_storage
from gigq.storage.base import Storage
from gigq.worker.execute import Execution
from gigq.worker.pools import channel
from gigq.worker.pools.slots import CHANNEL_CLOSED, FAREWELL, PID, Slot

SOFT_SIGNAL: Final = signal.SIGRTMIN + 7  # asks the running job to stop; glibc keeps the first two for itself
TOKEN_BYTES: Final = 8
PROGRESS_WINDOW_SECONDS: Final = 0.1
PROGRESS_IN_WINDOW: Final = 20  # more are dropped: a loop that reports each step must not flood the supervisor

_LOWEST_FD: Final = 200  # above the numbers that tasks get for their own files, and mistake for them
_ROOM_FDS: Final = 24


class Descriptors(NamedTuple):
    """What the forker was sent for a child, in the order of sending."""

    tokens: int
    jobs: int
    outcomes: int
    slot: int

    def raised(self) -> Descriptors:
        """Move them out of the way of tasks, close the low ones."""
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        # Below 1024 even where there is room above: a table of descriptors is as long as its highest number.
        lowest = max(min(soft, 1024) - _ROOM_FDS, min(_LOWEST_FD, soft // 2))
        high = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, lowest) for fd in self]
        for fd in self:
            os.close(fd)
        return Descriptors(*high)


class Settings(NamedTuple):
    """What a child must know, as the supervisor's pool decides."""

    url: str
    durability: str
    key: int  # marks this child's frames
    result_limit_bytes: int
    slots: int  # how many jobs it runs at once in an event loop; 0: one, without a loop


class Link:
    """The child's end. Its attributes are for the child's loop, which reads and writes them for each job."""

    def __init__(self, descriptors: Descriptors, settings: Settings, signer: Signer | None) -> None:
        self.signer = signer
        self.fds = descriptors
        self.key = settings.key
        self.settings = settings
        self.tokens = socket.socket(fileno=descriptors.tokens)
        slot = Slot(descriptors.slot)
        self._slot = slot  # keeps the memory mapped
        self.words = slot.words
        self.pid = self.words[PID] = os.getpid()
        self.is_copy = False  # this is a process that a task has forked
        self.received = channel.JobBuffer()
        self._storage: Storage | None = None
        os.register_at_fork(after_in_child=self._disown)

    def read_jobs(self) -> None:
        """Take in jobs from the pipe. Waits if there are none, unless the pipe was made not to.

        Ends the process when the supervisor is gone.
        """
        try:
            data = os.read(self.fds.jobs, channel.READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            self.leave()
        if not data:
            os._exit(0)
        self.received.feed(data)

    def encode(self, token: int, execution: Execution, started_at: float, duration: float, *, stopped: bool) -> bytes:
        """Return the frame that tells how a job ended."""
        flags = channel.STOPPED if stopped else 0
        failure = execution.failure
        if failure is not None:
            kind = channel.FAILED
            body = channel.encode_failure(execution.retryable, execution.retry_delay, failure.to_json())
        elif execution.result is None:
            kind, body = channel.COMPLETED_NONE, b""
        else:
            kind, body = channel.COMPLETED, execution.result
        return channel.encode_outcome(self.key, token, kind, flags, started_at, duration, body)

    def write(self, frame: bytes) -> None:
        """Write a frame, all of it, before anything else happens."""
        try:
            written = os.write(self.fds.outcomes, frame)
            while written < len(frame):
                frame = frame[written:]
                written = os.write(self.fds.outcomes, frame)
        except OSError:
            self.leave()

    def flush_output(self) -> None:
        """Let out what the task printed: a child that is killed later would take it along."""
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except Exception:  # a full disk, closed, None, or whatever the task has put there: its result stands
                continue

    def leave(self) -> NoReturn:
        """End this process: the descriptors to the supervisor are not usable any more."""
        if not self.is_copy:
            self.words[FAREWELL] = CHANNEL_CLOSED
        os._exit(1)

    def _disown(self) -> None:
        """In a process that a task forked: let go of what belongs to the child alone."""
        self.is_copy = True
        for fd in self.fds:
            try:
                os.close(fd)
            except OSError:  # closed by the task
                continue

    def read_result(self, job_id: str) -> bytes | None:
        """Return the pickled result of another job."""
        return read_result(self._open(), self.signer, job_id)

    def read_arguments(self, job_id: str) -> bytes:
        """Return arguments too big to travel with their job."""
        return self._open().arguments(job_id)

    def _open(self) -> Storage:
        # Two threads may both open one; the second replaces the first, and both work.
        if self._storage is None:
            self._storage = open_storage(
                self.settings.url, durability=cast(Durability, self.settings.durability), must_exist=True
            )
        return self._storage
