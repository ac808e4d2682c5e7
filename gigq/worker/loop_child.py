"""What runs in a child process with an event loop: many jobs at once, each a task of asyncio.

The order of the steps is what lets the supervisor account for every job after a death at any moment, as in
`gigq.worker.child`: a token is read when a slot is free, a note that its job begins is made before the job's first
step, and the outcome leaves the child completely before the slot is free again. So the tokens that were read here and
noted, minus the outcomes, name the jobs that had started.

Plain functions run in threads, since they would block the loop. Only the loop's thread reads and writes the pipes and
the shared memory, so it needs no locks, which an exception that stops a job could leave locked.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Mapping
from contextvars import Context, ContextVar, copy_context
from functools import partial
from typing import Any, Final, NoReturn, TypeVar, cast

from gigq.retry import RetryPolicy
from gigq.storage.leases import ClaimedJob, claimed_job
from gigq.storage.rows import BY_VALUE
from gigq.worker.execute import Call, Execution, Executor, Overdue, where_stopped
from gigq.worker.link import PROGRESS_WINDOW_SECONDS, SOFT_SIGNAL, TOKEN_BYTES, Link
from gigq.worker.plain_calls import PlainCall, Threads
from gigq.worker.pools import channel
from gigq.worker.pools.loop_children import BEAT_NS
from gigq.worker.pools.slots import BEAT, BEGUN, BUSY, ENTRY_WORDS, SINCE, STOP, TABLE
from gigq.worker.source import TaskLike

TAKE_AT_MOST: Final = 16  # tokens in one turn of the loop; then the jobs that run already have their turn
TAKE_NS: Final = 2_000_000  # and no more after this time: starting a job runs its code up to its first await
BLOCKED_NS: Final = 200_000_000  # a loop that has not done for so long what a signal asked for is blocked
PROGRESS_IN_WINDOW: Final = 2  # of one job; there may be hundreds

T = TypeVar("T")


class Run:
    """A job that runs here."""

    __slots__ = ("at", "call", "is_interrupted", "is_told", "job", "reports", "task", "token", "window_ends")

    def __init__(self, token: int, job: ClaimedJob, at: int) -> None:
        self.token = token
        self.job = job
        self.at = at  # the first word of its entry in the table
        self.task: asyncio.Task[None] | None = None
        self.call: PlainCall[Any] | None = None  # what of it runs in a thread
        self.is_told = False  # to stop
        self.is_interrupted = False  # by the signal, where it blocked the loop
        self.window_ends = 0.0  # of reports
        self.reports = 0


_run: ContextVar[Run | None] = ContextVar("gigq_run", default=None)


class LoopChild:
    """The event loop of a child process, and what it runs."""

    def __init__(self, link: Link, tasks: Mapping[str, TaskLike], default_policy: RetryPolicy) -> None:
        self._link = link
        self._words = link.words
        self._loop = asyncio.new_event_loop()  # of the policy that the app has set, if it has
        self._threads = Threads(self._loop)
        self._thread = threading.get_ident()
        slots = link.settings.slots
        self._free = [TABLE + ENTRY_WORDS * index for index in reversed(range(slots))]
        self._runs: dict[int, Run] = {}  # by token
        self._ended: list[tuple[Run, bytes]] = []  # whose frames are not written yet
        # Tasks whose last job ended in its first step. Their outcomes are written together, as each write may wake the
        # supervisor; but before a job that may block the loop, and so hold them back.
        self._quick: set[str] = set()
        self._is_taking = False
        self._is_reading = False
        self._is_beating = False
        self._asked_at = 0  # monotonic nanoseconds: since when the loop ought to stop jobs; 0: not
        self._is_coroutine = {name: inspect.iscoroutinefunction(task.function) for name, task in tasks.items()}
        self._executor = Executor(
            tasks,
            default_policy,
            read_result=link.read_result,
            read_arguments=link.read_arguments,
            run_async=_not_here,
            result_limit_bytes=link.settings.result_limit_bytes,
            signer=link.signer,
        )

    def serve(self) -> NoReturn:
        """Run jobs until the supervisor is gone, which ends the process."""
        signal.signal(SOFT_SIGNAL, self._on_soft_signal)
        # It would raise KeyboardInterrupt in whatever runs at the moment: another's job, or this loop.
        signal.signal(signal.SIGINT, _ignore)
        asyncio.set_event_loop(self._loop)
        os.set_blocking(self._link.fds.jobs, False)
        self._loop.add_reader(self._link.fds.jobs, self._guard, self._link.read_jobs)
        self._set_reading(True)
        while True:
            try:
                self._loop.run_forever()  # returns if a job stops the loop
            except (SystemExit, KeyboardInterrupt):  # from a task that a job has started
                import traceback

                traceback.print_exc()
            except OSError:  # the loop's own: its descriptors were closed
                self._link.leave()

    def _guard(self, step: Callable[[], None]) -> None:
        """Do a step of the loop; one that fails would lose a job, so the process ends, and all is accounted for."""
        try:
            step()
        except BaseException:
            import traceback

            traceback.print_exc()
            os._exit(1)

    # -- reading

    def _set_reading(self, on: bool) -> None:
        if on is not self._is_reading:
            self._is_reading = on
            if on:
                self._loop.add_reader(self._link.fds.tokens, self._guard, self._take)
            else:
                self._loop.remove_reader(self._link.fds.tokens)

    def _take(self) -> None:
        """Start jobs while there are free slots, and tokens."""
        tokens, began_at = self._link.tokens, time.monotonic_ns()
        self._is_taking = True
        is_more = True  # there may be more tokens than were read
        for _ in range(min(len(self._free), TAKE_AT_MOST)):
            try:
                data = tokens.recv(TOKEN_BYTES, socket.MSG_DONTWAIT)
            except BlockingIOError:
                is_more = False
                break
            except OSError:
                self._link.leave()
            if len(data) != TOKEN_BYTES:  # the supervisor is gone
                os._exit(0)
            self._start(int.from_bytes(data, "little"))
            if time.monotonic_ns() - began_at > TAKE_NS:
                break
        self._is_taking = False
        if self._ended:
            self._write_ends()
        self._set_reading(bool(self._free) or not is_more)

    def _start(self, token: int) -> None:
        jobs = self._link.received.jobs
        while token not in jobs:  # the frame was complete in the pipe before the token was sent
            self._link.read_jobs()
        job = claimed_job(jobs.pop(token))
        if self._ended and job.task not in self._quick:
            self._write_ends()  # it may not yield for long
        if job.timeout is not None and signal.getsignal(SOFT_SIGNAL) != self._on_soft_signal:
            signal.signal(SOFT_SIGNAL, self._on_soft_signal)  # an earlier task reset all handlers
        run = Run(token, job, self._free.pop())
        self._runs[token] = run
        started_at, started = time.time(), time.monotonic_ns()
        words = self._words
        words[run.at + SINCE] = words[BEAT] = started
        words[run.at] = token
        words[BUSY] = len(self._runs)
        if not self._is_beating:
            self._is_beating = True
            self._loop.call_later(BEAT_NS / 1e9, self._beat)
        run.task = self._begin(self._work(run, started_at, started))
        if not run.task.done():
            self._quick.discard(job.task)
        elif job.task != BY_VALUE:
            self._quick.add(job.task)

    def _begin(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Return a task that has done its first step: if that does not yield, no other token has been read yet."""
        # Not create_task: a factory that a job has set must not change how jobs run.
        if sys.version_info >= (3, 12):
            return asyncio.Task(work, loop=self._loop, eager_start=True)
        loop: Any = self._loop
        steps: list[tuple[Context, Callable[[], object]]] = []
        # A new task asks its loop to call its first step soon; it is called at once instead.
        loop.call_soon = lambda step, context: steps.append((context, step))
        try:
            task = asyncio.Task(work, loop=loop)
        finally:
            del loop.call_soon
        ((context, step),) = steps
        context.run(step)
        return task

    def _beat(self) -> None:
        """Note that the loop turns, while it runs jobs: the supervisor can see then when it is blocked."""
        self._words[BEAT] = time.monotonic_ns()
        self._is_beating = bool(self._runs)
        if self._is_beating:
            self._loop.call_later(BEAT_NS / 1e9, self._beat)

    # -- one job

    async def _work(self, run: Run, started_at: float, started: int) -> None:
        self._words[BEGUN] = run.token  # tasks begin in the order in which they were made
        try:
            execution = await self._attempt(run)
            self._words[run.at] = 0  # inside the try: the soft signal may come up to here
        except (Overdue, asyncio.CancelledError) as error:
            self._words[run.at] = 0
            execution = Execution(failure=where_stopped(error))
        self._guard(partial(self._end, run, execution, started_at, started))

    async def _attempt(self, run: Run) -> Execution:
        executor, job = self._executor, run.job
        _run.set(run)
        executor.enter(job, partial(self._report, run))
        try:
            loaded: Call | None = None
            is_coroutine = self._is_coroutine.get(job.task)  # None: it travels with its job, and says so when loaded
            if is_coroutine is None or (is_coroutine and job.arguments is None):
                load = partial(executor.load, job)
                call = load() if job.arguments is not None else await self._in_thread(run, load)
                if isinstance(call, Execution):
                    return call
                loaded = call
                is_coroutine = inspect.iscoroutinefunction(loaded[0])
            start = partial(executor.start, job, loaded)
            value = start() if is_coroutine else await self._in_thread(run, start)
            if isinstance(value, Execution):
                return value
            if run.is_told:  # while a thread made the coroutine
                value.close()
                raise Overdue
            return executor.conclude(job, await value)
        except Overdue:
            raise
        except asyncio.CancelledError as error:
            if run.is_told:
                raise
            return executor.failed(job, error)  # its own doing, or another job's
        except BaseException as error:  # SystemExit and KeyboardInterrupt too end this attempt, not the process
            return executor.failed(job, error)

    async def _in_thread(self, run: Run, function: Callable[[], T]) -> T:
        """Call a function that may block; it sees the same current job."""
        call = run.call = self._threads.start(partial(copy_context().run, function))
        while not call.done.done():
            try:
                await asyncio.wait([call.done])
            except asyncio.CancelledError:  # a job may cancel all tasks it finds; but a thread goes on
                continue
        run.call = None
        if call.error is not None:
            raise call.error
        return cast(T, call.result)

    def _end(self, run: Run, execution: Execution, started_at: float, started: int) -> None:
        link = self._link
        if link.is_copy:  # a job forked, and this is the copy: it came back from the function as its parent did
            os._exit(0)
        duration = (time.monotonic_ns() - started) / 1e9
        link.flush_output()
        stopped = run.is_told or run.is_interrupted
        self._ended.append((run, link.encode(run.token, execution, started_at, duration, stopped=stopped)))
        if not self._is_taking:
            self._write_ends()
            if not self._is_reading:
                self._loop.call_soon(self._guard, self._take)

    def _write_ends(self) -> None:
        """Write what has ended and free the slots."""
        ended, self._ended = self._ended, []
        for run, _ in ended:
            del self._runs[run.token]
        # Before the write: if this process is stopped after it, nothing must look as if a job ran here.
        self._words[BUSY] = len(self._runs)
        self._link.write(b"".join([frame for _, frame in ended]))
        self._free += [run.at for run, _ in ended]

    def _report(self, run: Run, fraction: float, message: str) -> None:
        """Write how far a job is, from any thread; what comes too often is dropped."""
        if self._link.is_copy:
            return
        now = time.monotonic()
        if now >= run.window_ends:
            run.window_ends, run.reports = now + PROGRESS_WINDOW_SECONDS, 0
        run.reports += 1
        if run.reports > PROGRESS_IN_WINDOW:
            return
        if threading.get_ident() == self._thread:
            self._write_report(run, fraction, message)
        else:
            self._loop.call_soon_threadsafe(self._write_report, run, fraction, message)

    def _write_report(self, run: Run, fraction: float, message: str) -> None:
        if self._words[run.at] != run.token:  # from something that a job has left behind
            return
        body = channel.encode_progress(fraction, message)
        frame = channel.encode_outcome(self._link.key, run.token, channel.PROGRESS, 0, 0.0, 0.0, body)
        try:
            os.write(self._link.fds.outcomes, frame)
        except OSError:
            return  # the loop will find out, and say why it leaves

    # -- stopping

    def _on_soft_signal(self, signum: int, frame: object) -> None:
        """Have the loop stop what is marked. If it does not come to that, stop what keeps it from turning."""
        if self._link.is_copy:
            return
        now = time.monotonic_ns()
        if not self._asked_at:
            self._asked_at = now
            self._loop.call_soon_threadsafe(self._guard, self._stop_marked)
        elif now - self._asked_at > BLOCKED_NS:
            # A signal's handler runs within what the main thread is doing: this is the job that does not yield.
            run = _run.get()
            if run is not None and self._is_marked(run) and not run.is_interrupted:
                run.is_interrupted = True
                raise Overdue

    def _is_marked(self, run: Run) -> bool:
        words = self._words
        return words[run.at] == run.token == words[run.at + STOP]

    def _stop_marked(self) -> None:
        self._asked_at = 0
        for run in list(self._runs.values()):
            if run.is_told or not self._is_marked(run):
                continue
            run.is_told = True
            if run.call is not None:
                run.call.interrupt()
            elif run.task is not None:
                run.task.cancel()


def _ignore(signum: int, frame: object) -> None:
    """Do nothing. Unlike SIG_IGN, programs that a job starts do not inherit this."""


def _not_here(coroutine: Coroutine[Any, Any, Any]) -> Any:
    raise AssertionError("coroutines are awaited by the loop")
