"""The asyncio side of a database: blocking calls and waiting, in threads of their own."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, TypeVar

from gigq.errors import GigQError, JobNotFound
from gigq.states import JobState
from gigq.storage.base import Storage, Watch
from gigq.waiting import pause_after

if TYPE_CHECKING:
    import asyncio
    from concurrent.futures import ThreadPoolExecutor

T = TypeVar("T")

THREADS: Final = 4  # for calls that may block while the database is locked; not asyncio's own, which others need


class Awaiter:
    """Lets coroutines use a storage. One thread waits for all jobs that are awaited in this process.

    Threads are started when they are first needed. After a fork the child starts its own.
    """

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._reset()

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._waiting: dict[str, list[tuple[asyncio.AbstractEventLoop, asyncio.Future[JobState]]]] = {}
        self._asked_at = 0.0
        self._thread: threading.Thread | None = None
        self._executor: ThreadPoolExecutor | None = None

    async def call(self, function: Callable[..., T], *args: Any) -> T:
        """Run a blocking function without blocking the event loop."""
        import asyncio
        from concurrent.futures import ThreadPoolExecutor

        if self._pid != os.getpid():
            self._reset()
        if self._executor is None:
            self._executor = ThreadPoolExecutor(THREADS, thread_name_prefix="gigq-async")
        return await asyncio.get_running_loop().run_in_executor(self._executor, function, *args)

    async def ended(self, job_id: str) -> JobState:
        """Return the job's state once it has ended.

        Raises:
            JobNotFound: it is not stored.
        """
        import asyncio

        if self._pid != os.getpid():
            self._reset()
        loop = asyncio.get_running_loop()
        future: asyncio.Future[JobState] = loop.create_future()
        with self._lock:
            self._waiting.setdefault(job_id, []).append((loop, future))
            self._asked_at = time.monotonic()
            if self._thread is None:
                self._thread = threading.Thread(target=self._look, name="gigq-awaiter", daemon=True)
                self._thread.start()
        return await future

    def _look(self) -> None:
        """Look at the awaited jobs whenever the database changes, until none is left."""
        watch: Watch | None = None
        seen_asked_at = -1.0
        changed = True
        while True:
            with self._lock:
                self._waiting = {job: kept for job, futures in self._waiting.items() if (kept := _undone(futures))}
                if not self._waiting:
                    self._thread = None
                    return
                asked_at, job_ids = self._asked_at, list(self._waiting)
            if changed or asked_at != seen_asked_at:
                self._answer(job_ids)
            seen_asked_at = asked_at
            pause = pause_after(time.monotonic() - asked_at)
            try:
                if watch is None:  # opened in here: even that fails while the database cannot be used
                    watch = self._storage.watch()
                    changed = True
                else:
                    changed = watch.wait(pause)
            except GigQError:
                changed = True  # the next look meets the same trouble and hands it to whoever waits

    def _answer(self, job_ids: list[str]) -> None:
        states: dict[str, JobState] = {}
        error: GigQError | None = None
        try:
            states = dict(self._storage.states(job_ids))
        except GigQError as caught:
            error = caught
        for job_id in job_ids:
            state = states.get(job_id)
            problem = error or (JobNotFound(job_id) if state is None else None)
            if problem is None and state is not None and not state.is_terminal:
                continue
            with self._lock:
                futures = self._waiting.pop(job_id, [])
            for loop, future in futures:
                try:
                    loop.call_soon_threadsafe(_resolve, future, state, problem)
                except RuntimeError:  # the loop was closed: nobody waits there any more
                    continue


def _undone(futures: list[Any]) -> list[Any]:
    return [(loop, future) for loop, future in futures if not future.done() and not loop.is_closed()]


def _resolve(future: asyncio.Future[JobState], state: JobState | None, error: GigQError | None) -> None:
    if future.done():  # cancelled meanwhile
        return
    if error is not None:
        future.set_exception(error)
    elif state is not None:
        future.set_result(state)
