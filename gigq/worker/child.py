"""What runs in a child process: take a token, run its job, write its outcome, again.

The order of the steps is what lets the supervisor account for every job after a death at any moment. A token is the
right to start one job, and reading it from the socket gives it to exactly one process: this one, or the supervisor
that takes it back. The outcome leaves the child completely before the next token is read. So the tokens that were
read here, minus the outcomes, name the one job that had started.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import threading
import time
from collections.abc import Callable, Coroutine, Mapping
from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

from gigq.retry import RetryPolicy
from gigq.signing import Signer
from gigq.storage.leases import claimed_job
from gigq.worker.execute import Execution, Executor, Overdue, where_stopped
from gigq.worker.link import (
    PROGRESS_IN_WINDOW,
    PROGRESS_WINDOW_SECONDS,
    SOFT_SIGNAL,
    TOKEN_BYTES,
    Descriptors,
    Link,
    Settings,
)
from gigq.worker.pools import channel
from gigq.worker.pools.slots import OVERDUE, RUNNING, STARTED
from gigq.worker.source import TaskLike

if TYPE_CHECKING:
    import asyncio


class Child:
    """The loop of a child process."""

    def __init__(self, link: Link, tasks: Mapping[str, TaskLike], default_policy: RetryPolicy) -> None:
        self._link = link
        self._words = link.words
        self._pid = link.pid
        self._stopped = 0  # the token whose job was told to stop: once is enough
        self._coroutines = _Coroutines()
        self._writing = threading.Lock()  # between the main thread's outcomes and reports from threads of a task
        self._window_ends = 0.0
        self._reports = 0
        self._executor = Executor(
            tasks,
            default_policy,
            read_result=link.read_result,
            read_arguments=link.read_arguments,
            run_async=self._coroutines.run,
            result_limit_bytes=link.settings.result_limit_bytes,
            signer=link.signer,
        )

    def serve(self) -> None:
        """Run jobs until the supervisor is gone."""
        signal.signal(SOFT_SIGNAL, self._on_soft_signal)
        link = self._link
        words, jobs, execute = self._words, link.received.jobs, self._executor.execute
        make, clock, wall, getpid = claimed_job, time.monotonic_ns, time.time, os.getpid
        while (token := self._next_token()) is not None:
            while token not in jobs:  # the frame was complete in the pipe before the token was sent
                link.read_jobs()
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
                link.flush_output()
                if getpid() != self._pid:
                    # The task forked, and this is the copy: it came back from the function as its parent did. It must
                    # not take part in this loop, nor touch the slot.
                    return
                words[RUNNING] = 0  # inside the try: the soft signal may come up to here
            except Overdue as error:
                words[RUNNING] = 0
                execution = Execution(failure=where_stopped(error))
            duration = (clock() - started) / 1e9
            frame = link.encode(token, execution, started_at, duration, stopped=token == self._stopped)
            with self._writing:
                link.write(frame)

    # -- reading

    def _next_token(self) -> int | None:
        """Wait for the right to start a job; None when the supervisor is gone."""
        tokens = self._link.tokens
        while True:
            try:
                data = tokens.recv(TOKEN_BYTES, socket.MSG_DONTWAIT)
            except BlockingIOError:
                self._idle()
                continue
            except OSError:
                self._link.leave()
            return int.from_bytes(data, "little") if len(data) == TOKEN_BYTES else None

    def _idle(self) -> None:
        # Frames are read here too: recalled jobs may fill the pipe, and without a token nothing else would empty it.
        fds = self._link.fds
        poll = select.poll()
        poll.register(fds.tokens, select.POLLIN)
        poll.register(fds.jobs, select.POLLIN)
        ready = {fd for fd, _ in poll.poll()}
        if fds.jobs in ready and fds.tokens not in ready:
            self._link.read_jobs()

    # -- writing

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
        frame = channel.encode_outcome(self._link.key, token, channel.PROGRESS, 0, 0.0, 0.0, body)
        outcomes = self._link.fds.outcomes
        try:
            if threading.current_thread() is threading.main_thread():
                # No lock: the main thread writes no outcome now, small writes do not mix, and Overdue, which is
                # raised in this thread alone, could leave a lock locked for ever.
                os.write(outcomes, frame)
            else:
                with self._writing:
                    if self._words[RUNNING] == token:
                        os.write(outcomes, frame)
        except OSError:
            return  # the loop will find out, and say why it leaves

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
        link = Link(descriptors.raised(), settings, signer)
        if settings.slots:
            from gigq.worker.loop_child import LoopChild  # imports asyncio

            LoopChild(link, tasks, default_policy).serve()
        else:
            Child(link, tasks, default_policy).serve()
    except BaseException:  # not a task's failure: those end in `execute`. Whatever it is, a process must not outlive it
        import traceback

        traceback.print_exc()
        os._exit(1)
    os._exit(0)
