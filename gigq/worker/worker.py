"""`Worker`: what a program or the command line starts."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
import time
import uuid
from collections.abc import Sequence
from types import FrameType
from typing import Any, Final, cast

from gigq.errors import ConfigurationError, TargetError, WorkerError
from gigq.options import check_queue
from gigq.queue import JobQueue, check_durability
from gigq.retry import seconds
from gigq.signing import SecretKey, make_signer
from gigq.storage import open_storage
from gigq.storage.rows import WorkerRow
from gigq.storage.urls import resolve_url, sqlite_path
from gigq.worker import identity
from gigq.worker.execute import RESULT_LIMIT_BYTES
from gigq.worker.node import Node
from gigq.worker.pool_choice import PoolName, choose_pool
from gigq.worker.pools.base import Hello, Pool
from gigq.worker.source import ModuleTarget, Preparation, TaskSource
from gigq.worker.writer import Writer

DRAIN_SECONDS: Final = 25.0  # container platforms send KILL 30 s after TERM

# What is called otherwise and does not exist is more likely a module's name without its app.
_DATABASE_SUFFIXES: Final = (".db", ".sqlite", ".sqlite3", ".gigq")

log = logging.getLogger("gigq.worker")


class Worker:
    """Claims jobs and runs them.

    Args:
        target: an app, a `JobQueue`, a path or URL, or `"module:app"`, which is imported where its tasks run and not
            here. With a queue, path or URL only jobs run whose functions travel with them.
        concurrency: how many jobs run at once; by default the processors that this process may use, and in the async
            pool 100 for each of its children.
        pool: `"process"` runs jobs in child processes, each one at a time; `"async"` many at once in the event loops of
            a few children, plain functions in threads there. Both can stop a job; `"thread"` and `"inline"` cannot.
        queues: the queues to serve, by default all.
        name: for people; by default host name and process id.
        burst: return when nothing is left to do: no job is ready, none runs here, and no retry is due later.
        drain: seconds that running jobs have to finish after the first TERM or INT.
        soft_timeouts: let the thread and inline pools take tasks with a timeout, which is then only noted afterwards;
            without, they leave those tasks to other workers.
        result_limit_bytes: a result that is bigger when pickled is a failure, by default 64 MiB. The worker holds one
            of each child in memory.
        children: how many child processes the async pool has; by default the processors that this process may use.
        max_jobs_per_child: replace a child when it has run so many jobs; by default never.
        max_memory_per_child: replace a child that holds more memory than this when a job has ended; bytes, or a text
            such as `"200M"`. What runs in it is not interrupted.
        secret_key: checks arguments and signs results, as the one of `App`; by default that of the app or queue, else
            that of the environment.

    Raises:
        ConfigurationError, TargetError: an argument has a wrong value.
    """

    def __init__(
        self,
        target: TaskSource | JobQueue | str | os.PathLike[str] | None = None,
        *,
        concurrency: int | None = None,
        pool: PoolName = "process",
        queues: Sequence[str] | None = None,
        name: str | None = None,
        burst: bool = False,
        drain: float = DRAIN_SECONDS,
        soft_timeouts: bool = False,
        result_limit_bytes: int = RESULT_LIMIT_BYTES,
        children: int | None = None,
        max_jobs_per_child: int | None = None,
        max_memory_per_child: int | str | None = None,
        secret_key: SecretKey | None = None,
    ) -> None:
        self._source, self._url, self._durability = _resolve(target)
        if secret_key is None:
            self._signer = target.signer if isinstance(target, JobQueue) else None
        else:
            self._signer = make_signer(secret_key)
        self._choice = choose_pool(
            pool,
            concurrency,
            children,
            max_jobs_per_child,
            max_memory_per_child,
            soft_timeouts=soft_timeouts,
            result_limit_bytes=result_limit_bytes,
        )
        self.concurrency = self._choice.concurrency
        if isinstance(queues, str):
            raise ConfigurationError(f"queues must be a list of names, got {queues!r}: write [{queues!r}]")
        self.pool = pool
        self.queues = None if queues is None else tuple(check_queue(queue) for queue in queues)
        self.name = name or f"{socket.gethostname()}-{os.getpid()}"
        self.burst = burst
        self.drain = seconds("drain", drain)
        self.preparation: Preparation | None = None  # for children of an app that is imported for them
        self._node: Node | None = None
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def run(self) -> None:
        """Work until stopped: by TERM or INT (the second one, or QUIT, does not wait for what runs), or by `stop`.

        In the main thread this takes over those signals while it runs.

        Raises:
            TargetError: the app cannot be loaded.
            StorageError: the database cannot be used.
            WorkerError: the worker cannot go on.
        """
        self._run(threading.Event(), with_signals=threading.current_thread() is threading.main_thread())

    def start(self) -> Worker:
        """Work in a background thread of this process; return when the worker has started. Raises what `run` raises."""
        if self._thread is not None and self._thread.is_alive():
            raise WorkerError("this worker runs already")
        started = threading.Event()
        self._error = None

        def work() -> None:
            try:
                self._run(started, with_signals=False)
            except BaseException as error:  # handed to whoever called start or stop
                self._error = error
            finally:
                started.set()

        self._thread = threading.Thread(target=work, name="gigq-worker", daemon=True)
        self._thread.start()
        started.wait()
        self._raise_error()
        return self

    def stop(self) -> None:
        """End a worker that `start` started, once what runs has finished or after `drain` seconds. Safe to repeat."""
        if self._node is not None:
            self._node.stop()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self._raise_error()

    def __enter__(self) -> Worker:
        return self.start()

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def _raise_error(self) -> None:
        error, self._error = self._error, None
        if error is not None:
            self._thread = None
            raise error

    def _run(self, started: threading.Event, *, with_signals: bool) -> None:
        pool = self._choice.make(self._source, self._url, self._signer, self.preparation)
        # First of all, so that the process from which children are forked has no connection and no thread yet.
        hello = pool.start()
        try:
            self._serve(pool, hello, started, with_signals=with_signals)
        finally:
            pool.stop()

    def _serve(self, pool: Pool, hello: Hello, started: threading.Event, *, with_signals: bool) -> None:
        url = self._url or hello.url
        if url is None:
            raise WorkerError("the worker has no database: give a path, a URL or an app")
        is_new = not os.path.exists(sqlite_path(url))
        storage = open_storage(url, durability=check_durability(self._durability or hello.durability))
        worker_id = str(uuid.uuid4())
        listener = storage.listen(worker_id)
        node = Node(pool, hello, worker_id, self.queues, burst=self.burst, drain=self.drain)
        writer = Writer(storage, self._row(worker_id, hello, listener.address), node.notify)
        try:
            writer.start()
            if is_new:
                log.warning("made a new database at %s: is it the one that jobs are sent to?", url)
            self._node = node
            log.info("started on %s: %s of the %s pool, %s", url, _count(self.concurrency, "slot"), self.pool,
                     _count(len(hello.tasks), "task"))  # fmt: skip
            with _Signals(node, enabled=with_signals):
                started.set()
                node.run(writer, listener)
            if node.leaves_jobs:
                log.warning(
                    "jobs still run in threads, which cannot be stopped: others take them when this process ends"
                )
                writer.abandon()
            else:
                writer.stop()
            log.info("stopped: %s finished", _count(node.counts["finished"], "attempt"))
        except BaseException:
            writer.abandon()
            raise
        finally:
            self._node = None
            listener.close()
            node.close()
            storage.close()

    def _row(self, worker_id: str, hello: Hello, address: str | None) -> WorkerRow:
        now = time.time()
        return WorkerRow(
            id=worker_id,
            name=self.name,
            hostname=socket.gethostname(),
            host=identity.host(),
            pid=os.getpid(),
            pid_started=identity.process_started(os.getpid()),
            pool=self.pool,
            concurrency=self.concurrency,
            queues=self.queues,
            tasks=tuple(hello.tasks),
            address=address,
            started_at=now,
            beat_at=now,
        )


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


class _Signals:
    """TERM and INT ask the node to stop, while this context lasts; without a main thread it does nothing."""

    def __init__(self, node: Node, *, enabled: bool) -> None:
        self._node = node
        self._enabled = enabled
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> None:
        if not self._enabled:
            return
        # The interpreter writes each signal's number there, which interrupts the loop's sleep.
        self._previous_fd = signal.set_wakeup_fd(self._node.wake_descriptor, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
            self._previous[number] = signal.signal(number, self._handle)

    def __exit__(self, *exception: object) -> None:
        if not self._enabled:
            return
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._previous_fd)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self._node.stop(at_once=number == signal.SIGQUIT)


def _resolve(
    target: TaskSource | JobQueue | str | os.PathLike[str] | None,
) -> tuple[TaskSource | ModuleTarget | None, str | None, str | None]:
    """Return (where tasks come from, URL, durability) for a target; None where the app will tell."""
    if isinstance(target, JobQueue):
        return None, target.url, target.durability
    if isinstance(target, str) and ":" in target and "://" not in target:
        return ModuleTarget.parse(target), None, None
    if target is None or isinstance(target, str | os.PathLike):
        url = resolve_url(target)
        path = sqlite_path(url)
        if target is not None and not os.path.exists(path) and path.suffix not in _DATABASE_SUFFIXES:
            raise TargetError(f"there is no database {path}; for the app of a module write module:app, as in myapp:app")
        return None, url, "power"
    if isinstance(target, TaskSource):
        return target, target.url, target.durability
    raise ConfigurationError(
        f"a worker needs an app, a JobQueue, a path, a URL or module:app, got {cast('object', target)!r}"
    )
