"""What runs in a child process: take a token, run its job, write its outcome, again.

The order of the steps is what lets the supervisor account for every job after a death at any moment. A token is the
right to start one job, and reading it from the socket gives it to exactly one process: this one, or the supervisor
that takes it back. The outcome leaves the child completely before the next token is read. So the tokens that were
read here, minus the outcomes, name the one job that had started.
"""

from __future__ import annotations

import fcntl
import os
import resource
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Mapping
from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple, NoReturn, cast

from gigq.results import read_result
from gigq.retry import RetryPolicy
from gigq.signing import Signer
from gigq.storage import Durability, open_storage
from gigq.storage.base import Storage
from gigq.storage.leases import claimed_job
from gigq.worker.execute import Execution, Executor, Overdue, where_stopped
from gigq.worker.pools import channel
from gigq.worker.pools.slots import CHANNEL_CLOSED, FAREWELL, OVERDUE, PID, RUNNING, STARTED, Slot
from gigq.worker.source import TaskLike

if TYPE_CHECKING:
    import asyncio

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


class Child:
    """The loop of a child process."""

    def __init__(
        self,
        descriptors: Descriptors,
        settings: Settings,
        tasks: Mapping[str, TaskLike],
        default_policy: RetryPolicy,
        signer: Signer | None,
    ) -> None:
        self._fds = descriptors
        self._key = settings.key
        self._settings = settings
        self._tokens = socket.socket(fileno=descriptors.tokens)
        slot = Slot(descriptors.slot)
        self._slot = slot  # keeps the page mapped
        self._words = slot.words
        self._pid = self._words[PID] = os.getpid()
        self._received = channel.JobBuffer()
        self._stopped = 0  # the token whose job was told to stop: once is enough
        self._coroutines = _Coroutines()
        self._writing = threading.Lock()  # between the main thread's outcomes and reports from threads of a task
        self._window_ends = 0.0
        self._reports = 0
        self._storage: Storage | None = None
        self._executor = Executor(
            tasks,
            default_policy,
            read_result=lambda job_id: read_result(self._open(), signer, job_id),
            read_arguments=lambda job_id: self._open().arguments(job_id),
            run_async=self._coroutines.run,
            result_limit_bytes=settings.result_limit_bytes,
            signer=signer,
        )

    def serve(self) -> None:
        """Run jobs until the supervisor is gone."""
        signal.signal(SOFT_SIGNAL, self._on_soft_signal)
        os.register_at_fork(after_in_child=self._disown)
        words, jobs, execute = self._words, self._received.jobs, self._executor.execute
        make, clock, wall, getpid = claimed_job, time.monotonic_ns, time.time, os.getpid
        while (token := self._next_token()) is not None:
            while token not in jobs:  # the frame was complete in the pipe before the token was sent
                self._read_jobs()
            job = make(jobs.pop(token))
            if job.timeout is not None and signal.getsignal(SOFT_SIGNAL) != self._on_soft_signal:
                signal.signal(SOFT_SIGNAL, self._on_soft_signal)  # an earlier task reset all handlers
            started_at = wall()
            started = words[STARTED] = clock()
            words[RUNNING] = token
            try:
                # The signal may have come between reading the token and saying so; then nobody has seen it.
                if words[OVERDUE] == token != self._stopped:
                    self._stopped = token
                    raise Overdue
                execution = execute(job, partial(self._report, token))
                self._flush_output()
                if getpid() != self._pid:
                    # The task forked, and this is the copy: it came back from the function as its parent did. It must
                    # not take part in this loop, nor touch the slot.
                    return
                words[RUNNING] = 0  # inside the try: the soft signal may come up to here
            except Overdue as error:
                words[RUNNING] = 0
                execution = Execution(failure=where_stopped(error))
            duration = (clock() - started) / 1e9
            self._write(self._encode(token, execution, started_at, duration))

    # -- reading

    def _next_token(self) -> int | None:
        """Wait for the right to start a job; None when the supervisor is gone."""
        while True:
            try:
                data = self._tokens.recv(TOKEN_BYTES, socket.MSG_DONTWAIT)
            except BlockingIOError:
                self._idle()
                continue
            except OSError:
                self._leave()
            return int.from_bytes(data, "little") if len(data) == TOKEN_BYTES else None

    def _idle(self) -> None:
        # Frames are read here too: recalled jobs may fill the pipe, and without a token nothing else would empty it.
        poll = select.poll()
        poll.register(self._fds.tokens, select.POLLIN)
        poll.register(self._fds.jobs, select.POLLIN)
        ready = {fd for fd, _ in poll.poll()}
        if self._fds.jobs in ready and self._fds.tokens not in ready:
            self._read_jobs()

    def _read_jobs(self) -> None:
        try:
            data = os.read(self._fds.jobs, channel.READ_BYTES)
        except OSError:
            self._leave()
        if not data:  # the supervisor is gone
            os._exit(0)
        self._received.feed(data)

    # -- writing

    def _encode(self, token: int, execution: Execution, started_at: float, duration: float) -> bytes:
        flags = channel.STOPPED if token == self._stopped else 0
        failure = execution.failure
        if failure is not None:
            kind = channel.FAILED
            body = channel.encode_failure(execution.retryable, execution.retry_delay, failure.to_json())
        elif execution.result is None:
            kind, body = channel.COMPLETED_NONE, b""
        else:
            kind, body = channel.COMPLETED, execution.result
        return channel.encode_outcome(self._key, token, kind, flags, started_at, duration, body)

    def _write(self, frame: bytes) -> None:
        with self._writing:
            try:
                written = os.write(self._fds.outcomes, frame)
                while written < len(frame):
                    frame = frame[written:]
                    written = os.write(self._fds.outcomes, frame)
            except OSError:
                self._leave()

    def _report(self, token: int, fraction: float, message: str) -> None:
        if self._words[RUNNING] != token or os.getpid() != self._pid:
            return  # from a thread or process that a task left behind
        now = time.monotonic()
        if now >= self._window_ends:
            self._window_ends, self._reports = now + PROGRESS_WINDOW_SECONDS, 0
        self._reports += 1
        if self._reports > PROGRESS_IN_WINDOW:
            return
        body = channel.encode_progress(fraction, message)
        frame = channel.encode_outcome(self._key, token, channel.PROGRESS, 0, 0.0, 0.0, body)
        try:
            if threading.current_thread() is threading.main_thread():
                # No lock: the main thread writes no outcome now, small writes do not mix, and Overdue, which is
                # raised in this thread alone, could leave a lock locked for ever.
                os.write(self._fds.outcomes, frame)
            else:
                with self._writing:
                    if self._words[RUNNING] == token:
                        os.write(self._fds.outcomes, frame)
        except OSError:
            return  # the loop will find out, and say why it leaves

    def _flush_output(self) -> None:
        """Let out what the task printed: a child that is killed later would take it along."""
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except Exception:  # a full disk, closed, None, or whatever the task has put there: its result stands
                continue

    # -- stopping

    def _on_soft_signal(self, signum: int, frame: object) -> None:
        """Raise `Overdue` in the running job, once, and only if it is the one that is meant."""
        token = self._words[OVERDUE]
        # A signal that comes late finds another token running, or none.
        if token != self._words[RUNNING] or token in (0, self._stopped) or os.getpid() != self._pid:
            return
        self._stopped = token
        if not self._coroutines.cancel():
            raise Overdue

    def _leave(self) -> NoReturn:
        """End this process: the descriptors to the supervisor are not usable any more."""
        self._words[FAREWELL] = CHANNEL_CLOSED
        os._exit(1)

    def _disown(self) -> None:
        """In a process that a task forked: let go of what belongs to the child alone."""
        for fd in self._fds:
            try:
                os.close(fd)
            except OSError:  # closed by the task
                continue

    def _open(self) -> Storage:
        if self._storage is None:
            self._storage = open_storage(
                self._settings.url, durability=cast(Durability, self._settings.durability), must_exist=True
            )
        return self._storage


class _Coroutines:
    """Runs coroutines one after the other in one event loop, which is made for the first of them."""

    def __init__(self) -> None:
        self._runner: asyncio.Runner | None = None
        self._stop: Callable[[], object] | None = None

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        import asyncio  # takes 30 ms that only coroutines need

        if self._runner is None:
            self._runner = asyncio.Runner()
        # The runner keeps the context of its first use, in which another job is the current one.
        return self._runner.run(self._main(coroutine), context=copy_context())

    async def _main(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        import asyncio

        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None
        self._stop = lambda: loop.call_soon_threadsafe(task.cancel)
        try:
            return await coroutine
        finally:
            self._stop = None
            # As asyncio.run does: what the job left running must not go on inside the next job.
            left = asyncio.all_tasks() - {task}
            for other in left:
                other.cancel()
            await asyncio.gather(*left, return_exceptions=True)
            await loop.shutdown_asyncgens()

    def cancel(self) -> bool:
        """Cancel the running coroutine; return False if none runs."""
        if self._stop is None:
            return False
        self._stop()
        return True


def run_child(
    descriptors: Descriptors,
    settings: Settings,
    tasks: Mapping[str, TaskLike],
    default_policy: RetryPolicy,
    signer: Signer | None,
) -> NoReturn:
    """Be a child of the forker. Ends the process without atexit hooks: one that hangs would keep it for ever."""
    try:
        Child(descriptors.raised(), settings, tasks, default_policy, signer).serve()
    except BaseException:  # not a task's failure: those end in `execute`. Whatever it is, a process must not outlive it
        import traceback

        traceback.print_exc()
        os._exit(1)
    os._exit(0)
