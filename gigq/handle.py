"""`JobHandle`: what can be asked of a job that is stored, and done to it."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from datetime import timedelta
from functools import partial
from types import MappingProxyType
from typing import Any, Generic, TypeVar, cast

from gigq import payload
from gigq.awaiting import Awaiter
from gigq.context import is_in_job
from gigq.errors import JobCancelled, JobFailed, JobTimedOut, NotSubmitted, WaitingInTask
from gigq.reasons import why_pending
from gigq.results import read_result
from gigq.signing import Signer, using
from gigq.states import JobState
from gigq.storage.base import Storage
from gigq.storage.rows import ExecutionRow, JobRow
from gigq.waiting import wait_until_ended

R_co = TypeVar("R_co", covariant=True)

_WAITING_IN_TASK = (
    "a task must not wait for another job: it would hold a slot of the worker that the job may need; "
    "use job.then(…) or put job.output into the arguments, or allow it with get(within_task=True)"
)


class Binding:
    """The database that a job is in, and what a handle needs beside it."""

    __slots__ = ("awaiter", "signer", "storage", "tasks")

    def __init__(
        self, storage: Storage, tasks: Mapping[str, Any] = MappingProxyType({}), signer: Signer | None = None
    ) -> None:
        self.storage = storage
        self.tasks = tasks
        self.signer = signer  # of arguments and results; None: they are not signed
        self.awaiter = Awaiter(storage)


class JobHandle(Generic[R_co]):
    """The part of `Job` that asks the database, each time."""

    id: str
    name: str
    _binding: Binding | None  # None: not stored yet
    _workflow: tuple[str, str] | None  # name, id

    def _bound(self) -> Binding:
        if self._binding is None:
            raise NotSubmitted(f"{self!r}: submit it first, with app.submit(job) or queue.submit(job)")
        return self._binding

    @property
    def state(self) -> JobState:
        """The state that the job is in now.

        Raises:
            NotSubmitted: it is not in a database yet.
            JobNotFound: it was pruned.
        """
        return self._row().state

    def _row(self) -> JobRow:
        return self._bound().storage.get(self.id)

    @property
    def attempts(self) -> int:
        """How many attempts have begun."""
        return self._row().attempts

    @property
    def error(self) -> str | None:
        """Why the job, or its last attempt, ended badly, in one line; None if it did not."""
        return self._row().error

    @property
    def progress(self) -> tuple[float, str] | None:
        """How far the running job says it is: a fraction from 0 to 1 and a message."""
        row = self._row()
        return None if row.progress is None else (row.progress, row.progress_message or "")

    @property
    def workflow(self) -> str | None:
        """The name of the workflow that the job belongs to."""
        return None if self._workflow is None else self._workflow[0]

    @property
    def waiting_for(self) -> str | None:
        """What a pending job waits for, in one line; None if it is not pending."""
        return why_pending(self._bound().storage, self._row())

    @property
    def executions(self) -> list[ExecutionRow]:
        """The attempts that have ended, in order."""
        return self._bound().storage.executions(self.id)

    def cancel(self, reason: str = "cancelled by a person") -> JobState:
        """Cancel the job; return its state: CANCELLED, RUNNING while its worker stops it, or how it had ended."""
        return self._bound().storage.cancel(self.id, reason)

    def retry(self) -> None:
        """Run the job again, although it ended badly; what fell with it comes back too.

        Raises:
            IllegalTransition: it has not failed, timed out or been cancelled.
        """
        self._bound().storage.retry(self.id)

    def wait(self, timeout: float | timedelta | None = None, *, within_task: bool = False) -> JobState:
        """Block until the job has ended, at most `timeout` seconds, and return how.

        Args:
            timeout: seconds or timedelta; None waits as long as it takes.
            within_task: allow this inside a task. It then holds a slot of its worker that the job may need itself.

        Raises:
            TimeoutError: the job has not ended yet.
            WaitingInTask: the calling code is a task.
        """
        storage = self._bound().storage
        if is_in_job() and not within_task:
            raise WaitingInTask(_WAITING_IN_TASK)
        return wait_until_ended(storage, self.id, timeout)

    def get(self, timeout: float | timedelta | None = None, *, within_task: bool = False) -> R_co:
        """Block until the job has ended, at most `timeout` seconds, and return its result.

        Raises:
            JobFailed, JobTimedOut, JobCancelled: it ended so.
            TimeoutError: it has not ended yet.
            WaitingInTask: the calling code is a task; `within_task=True` allows it, see `wait`.
        """
        return self._result(self.wait(timeout, within_task=within_task))

    def __await__(self) -> Generator[Any, None, R_co]:
        """Wait without blocking the event loop, and return what `get` returns."""
        return self._get_async().__await__()

    async def _get_async(self) -> R_co:
        awaiter = self._bound().awaiter
        if is_in_job():
            raise WaitingInTask(_WAITING_IN_TASK)
        state = await awaiter.ended(self.id)
        return cast("R_co", await awaiter.call(self._result, state))

    def _result(self, state: JobState) -> R_co:
        binding = self._bound()
        storage = binding.storage
        if state is JobState.COMPLETED:
            if binding.signer is not None:
                return cast("R_co", self._signed_result(storage, binding.signer))
            data = storage.result(self.id)
            return cast("R_co", None if data is None else payload.loads(data, storage.result))
        if state is JobState.FAILED:
            # The last one only: what earlier attempts raised is not why the job has failed.
            error = next((e.error for e in reversed(storage.executions(self.id))), None)
            if error:
                raise JobFailed(self.id, self.name, *payload.Failure.from_json(error))
            raise JobFailed(self.id, self.name, self.error or "unknown", "", "")
        if state is JobState.TIMEOUT:
            raise JobTimedOut(self.id, self.name, self.error or "no reason given")
        raise JobCancelled(self.id, self.name, self.error or "no reason given")

    def _signed_result(self, storage: Storage, signer: Signer) -> Any:
        read = partial(read_result, storage, signer)
        data = read(self.id)
        with using(signer):  # for handles and queues inside of the result
            return None if data is None else payload.loads(data, read)
