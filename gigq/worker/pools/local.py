"""What the thread and inline pools share: jobs that run in the supervisor's own process."""

from __future__ import annotations

import logging
import time
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any, cast

from gigq.context import ProgressSink
from gigq.payload import Failure
from gigq.results import read_result
from gigq.retry import RetryPolicy
from gigq.signing import Signer
from gigq.storage import Durability, open_storage
from gigq.storage.base import Storage
from gigq.storage.leases import ClaimedJob, End
from gigq.worker.execute import RESULT_LIMIT_BYTES, Execution, Executor
from gigq.worker.pools import endings
from gigq.worker.pools.base import Ended, Hello, hello_of
from gigq.worker.source import ModuleTarget, TaskSource, signer_of

log = logging.getLogger("gigq.worker")


class LocalExecutor:
    """Loads the app into this process, and runs its jobs in the threads that call it.

    Code that runs here cannot be stopped. With `soft_timeouts` a job that took longer than its timeout is recorded as
    timed out when it returns. Without, tasks that have a timeout are left to other workers, and a job whose caller gave
    it a timeout fails.
    """

    def __init__(
        self,
        source: TaskSource | ModuleTarget | None,
        url: str | None,
        *,
        soft_timeouts: bool,
        result_limit_bytes: int = RESULT_LIMIT_BYTES,
        signer: Signer | None = None,
    ) -> None:
        self._source = source
        self._url = url
        self._soft_timeouts = soft_timeouts
        self._signer = signer
        self._result_limit_bytes = result_limit_bytes
        self._durability = "power"
        self._storage: Storage | None = None

    def start(self) -> Hello:
        """Load the app; see `Pool.start`."""
        source = self._source.load() if isinstance(self._source, ModuleTarget) else self._source
        hello = hello_of(source)
        if source is not None and not self._soft_timeouts:
            hello = _without_timeouts(hello, source)
        self._url = self._url or hello.url
        self._durability = hello.durability
        signer = self._signer or signer_of(source)
        self._executor = Executor(
            {} if source is None else source.tasks,
            RetryPolicy() if source is None else source.default_policy,
            read_result=lambda job_id: read_result(self._open(), signer, job_id),
            read_arguments=lambda job_id: self._open().arguments(job_id),
            run_async=_run_async,
            result_limit_bytes=self._result_limit_bytes,
            signer=signer,
        )
        return hello

    def run(self, job: ClaimedJob, report: ProgressSink) -> Ended:
        """Run a job, and say how it ended."""
        if job.timeout is not None and not self._soft_timeouts:
            text = (
                f"its timeout of {job.timeout:g} s cannot be enforced in a thread: "
                "use a pool of processes, or soft_timeouts=True"
            )
            return Ended(job, End.FAILED, None, 0.0, None, error=Failure("TimeoutNotEnforced", text, "").to_json())
        started_at, started = time.time(), time.monotonic()
        try:
            execution = self._executor.execute(job, report)
        except BaseException as error:  # a mistake of ours, or a task's code in a place where none was expected
            execution = Execution(failure=Failure.of(error))
        duration = time.monotonic() - started
        return _ended(job, execution, started_at, duration)

    def _open(self) -> Storage:
        # Two threads may both open one; the second replaces the first, and both work.
        if self._storage is None:
            self._storage = open_storage(
                self._url or "", durability=cast(Durability, self._durability), must_exist=True
            )
        return self._storage

    def close(self) -> None:
        """Close what was opened here."""
        if self._storage is not None:
            self._storage.close()
            self._storage = None


def _without_timeouts(hello: Hello, source: TaskSource) -> Hello:
    """Return what an app says of itself, without the tasks that have a timeout."""
    refused = sorted(name for name, task in source.tasks.items() if task.timeout is not None)
    if not refused:
        return hello
    log.warning(
        "tasks with a timeout are left to other workers, because a thread cannot be stopped: %s "
        "(a pool of processes takes them; soft_timeouts=True only notes afterwards that the time had passed)",
        ", ".join(refused),
    )
    return replace(hello, tasks={name: options for name, options in hello.tasks.items() if name not in refused})


def _ended(job: ClaimedJob, execution: Execution, started_at: float, duration: float) -> Ended:
    result, failure, retryable, delay = execution
    if job.timeout is not None and duration >= job.timeout:
        late = endings.timed_out(job.timeout, "" if failure is None else failure.traceback)
        return Ended(job, End.TIMED_OUT, started_at, duration, None, error=late.to_json())
    if failure is not None:
        return Ended(job, End.FAILED, started_at, duration, None, None, failure.to_json(), retryable, delay)
    return Ended(job, End.COMPLETED, started_at, duration, None, result)


def _run_async(coroutine: Coroutine[Any, Any, Any]) -> Any:
    import asyncio  # takes 30 ms that only coroutines need

    return asyncio.run(coroutine)
