"""Run one job: arguments in, a result or the text of a failure out. All pools share this.

Everything a task can do to the code around it ends here as an `Execution`. Two things pass through: a call that never
returns, which is the pool's business, and `Overdue`, by which a pool stops a job.
"""

from __future__ import annotations

import inspect
import os
import time
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from contextvars import copy_context
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, NamedTuple

from gigq.context import CurrentJob, ProgressSink, enter_job
from gigq.errors import ConfigurationError, PayloadError, SignatureError, StorageError
from gigq.payload import SCALARS, TRACEBACK_CHARS, Failure, dumps, loads, storable
from gigq.redaction import HIDDEN
from gigq.retry import Retry, RetryPolicy, seconds
from gigq.signing import Signer, use_signer
from gigq.storage.leases import ClaimedJob
from gigq.storage.rows import BY_VALUE
from gigq.summary import positional_names, shown_signature, summarise
from gigq.worker.source import TaskLike

RESULT_LIMIT_BYTES: Final = 64 * 1024 * 1024
"""The supervisor holds one result of each child in memory; bigger data belongs in a file that the result names."""

SHOWN_CHARS: Final = 500  # of the names of tasks in a message
_SKIPPED: Final = (os.path.dirname(__file__) + os.sep, os.path.dirname(os.__file__) + os.sep + "asyncio" + os.sep)


class Overdue(BaseException):
    """Raised inside a task by a pool that wants it to stop. Not an Exception, so that `except Exception` lets it by."""


class Execution(NamedTuple):
    """How a call ended: `failure` is None if it returned, and then `result` is None or the pickled result."""

    result: bytes | None = None
    failure: Failure | None = None
    retryable: bool = False
    retry_delay: float | None = None


_RETURNED_NONE: Final = Execution()

Call = tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]  # what a job does, its arguments unpickled


@dataclass(frozen=True, slots=True)
class Executor:
    """Runs jobs in the thread that calls it: `execute` all of one, the other methods a part of it.

    Attributes:
        tasks: the tasks by name.
        default_policy: decides about retries of functions that travel with their jobs.
        read_result: gives the pickled result of another job.
        read_arguments: gives arguments too big to travel with the job.
        run_async: runs a coroutine to its end.
        result_limit_bytes: a bigger result is a failure.
        signer: checks arguments before they are loaded, and signs results; None: they are not signed.
    """

    tasks: Mapping[str, TaskLike]
    default_policy: RetryPolicy
    read_result: Callable[[str], bytes | None]
    read_arguments: Callable[[str], bytes]
    run_async: Callable[[Coroutine[Any, Any, Any]], Any]
    result_limit_bytes: int = RESULT_LIMIT_BYTES
    signer: Signer | None = None

    def execute(self, job: ClaimedJob, report: ProgressSink) -> Execution:
        """Run `job` and say how it ended. Raises nothing but `Overdue`."""
        # In a context of its own, as asyncio does for its tasks: what a job binds there must not show up in the next.
        return copy_context().run(self._execute, job, report)

    def _execute(self, job: ClaimedJob, report: ProgressSink) -> Execution:
        self.enter(job, report)
        try:
            value = self.start(job)
            return value if isinstance(value, Execution) else self.conclude(job, self.run_async(value))
        except Overdue:
            raise
        except BaseException as error:  # SystemExit and KeyboardInterrupt too end this attempt, not the process
            return self.failed(job, error)

    def enter(self, job: ClaimedJob, report: ProgressSink) -> None:
        """Make `job` the current one of this context."""
        timeout = job.timeout
        deadline = None if timeout is None else time.monotonic() + timeout
        enter_job(CurrentJob(job.id, job.name, job.task, job.queue, job.attempt, job.max_attempts, deadline, report))
        if self.signer is not None:
            use_signer(self.signer)  # in this job's context: for queues and handles that the task makes

    def start(self, job: ClaimedJob, loaded: Call | None = None) -> Execution | Coroutine[Any, Any, Any]:
        """Run `job` to its end; of a coroutine only what comes before it, and return it. `loaded`: what `load` gave.

        Raises whatever the job raises.
        """
        call = self.load(job) if loaded is None else loaded
        if isinstance(call, Execution):
            return call
        function, args, kwargs = call
        try:
            value = function(*args, **kwargs)
        except TypeError as error:
            # Asked only now: binding the signature first would cost as much as everything else here.
            capture = getattr(self.tasks.get(job.task), "capture", True)
            mismatch = _mismatch(function, args, kwargs, error, capture=capture)
            if mismatch is None:
                raise
            return Execution(failure=Failure("TypeError", mismatch, ""))
        if value is None and self.signer is None:
            return _RETURNED_NONE
        if type(value) not in SCALARS and isinstance(value, Coroutine):
            return value
        return self.conclude(job, value)

    def load(self, job: ClaimedJob) -> Call | Execution:
        """Return what `job` calls; an `Execution` if that cannot be known. Raises whatever unpickling raises."""
        try:
            data = self.read_arguments(job.id) if job.arguments is None else job.arguments
            if self.signer is not None:
                data = self.signer.check_arguments(data, job)
            arguments = loads(data, self.read_result)
        except SignatureError as error:  # another attempt would find the same bytes
            return Execution(failure=_describe(error))
        except StorageError as error:  # not the task's doing, so the task's policy has no say in it
            return Execution(failure=_describe(error), retryable=True)
        if job.task == BY_VALUE:
            call: Call = arguments
            return call
        task = self.tasks.get(job.task)
        if task is None:
            text = f"this worker knows no task {job.task!r}; it knows {_shown(sorted(self.tasks))}"
            return Execution(failure=Failure("TaskNotFound", text, ""), retryable=True)
        return (task.function, *arguments)

    def conclude(self, job: ClaimedJob, value: Any) -> Execution:
        """Return how a call of `job` ended that returned `value`."""
        if value is None and self.signer is None:
            return _RETURNED_NONE
        try:
            result, outputs = dumps(value, what="the result")
        except PayloadError as error:  # the work is done: doing it again would give the same result
            return Execution(failure=_describe(error))
        if outputs:
            text = f"a result must be a value, got {outputs[0]!r}, which has none yet: return the job itself, or its id"
            return Execution(failure=Failure("TypeError", text, ""))
        if len(result) > self.result_limit_bytes:
            text = (
                f"the result must be at most {self.result_limit_bytes} bytes when pickled, got {len(result)}: "
                "write it to a file or a bucket and return its name"
            )
            return Execution(failure=Failure("ResultTooLarge", text, ""))
        # None is signed too: else to delete a result would be to forge one.
        return Execution(result if self.signer is None else self.signer.sign_result(result, job.id, job.task))

    def failed(self, job: ClaimedJob, error: BaseException) -> Execution:
        """Return how a call ended that raised `error`."""
        failure = _describe(error)
        if isinstance(error, Retry):
            return Execution(failure=failure, retryable=True, retry_delay=_asked_delay(error))
        if not isinstance(error, Exception):
            return Execution(failure=failure, retryable=True)
        task = self.tasks.get(job.task)
        policy = RetryPolicy.stored(job.policy, self.default_policy if task is None else task.policy)
        return Execution(failure=failure, retryable=policy.covers(error))


def _asked_delay(error: Retry) -> float | None:
    """Return the seconds that a task asked for, None for its policy's. A subclass may hold anything there."""
    delay = getattr(error, "delay", None)
    try:
        return None if delay is None else seconds("delay", delay)
    except ConfigurationError:
        return None


def _describe(error: BaseException) -> Failure:
    try:
        with suppress(Exception):  # an exception may refuse to be changed, as a frozen dataclass does
            error.__traceback__ = without_our_frames(error.__traceback__)
        return Failure.of(error)
    except Overdue:
        raise
    except BaseException as broken:  # a __str__ that raises SystemExit must not look like a task that did
        return Failure(type(error).__name__, f"(it cannot be shown: {type(broken).__name__})", "")


def where_stopped(error: BaseException) -> Failure:
    """Return the place in a task's own code at which it was stopped, without our frames on both sides of it."""
    import traceback  # costs import time that only failures need

    frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith(_SKIPPED)]
    text = "Stopped at (most recent call last):\n" + "".join(traceback.format_list(frames)) if frames else ""
    return Failure("Stopped", "", storable(text)[-TRACEBACK_CHARS:])


def without_our_frames(traceback: TracebackType | None) -> TracebackType | None:
    """Return the part of a traceback that starts in the task's own code."""
    while traceback is not None and traceback.tb_frame.f_code.co_filename.startswith(_SKIPPED):
        traceback = traceback.tb_next
    return traceback


def _mismatch(
    function: Any, args: tuple[Any, ...], kwargs: dict[str, Any], error: TypeError, *, capture: bool
) -> str | None:
    """Return what was expected and what came, if `error` says that the arguments do not fit the function."""
    try:
        signature = inspect.signature(function)
    except (ValueError, TypeError):  # builtins without one: their own message is all there is
        return None
    try:
        signature.bind(*args, **kwargs)
    except TypeError as reason:
        # A decorator may add arguments that the inner signature shows as missing. If the inner function was
        # entered, the arguments did fit, and the error is the task's own.
        code = getattr(inspect.unwrap(function), "__code__", None)
        traceback = error.__traceback__
        while traceback is not None:
            if traceback.tb_frame.f_code is code:
                return None
            traceback = traceback.tb_next
        name = getattr(function, "__qualname__", type(function).__name__)
        came = summarise(args, kwargs, positional_names(function)) if capture else HIDDEN
        return f"the arguments do not fit: {reason}; expected {name}{shown_signature(signature)}, got ({came})"
    return None


def _shown(value: Any) -> str:
    try:
        return repr(value)[:SHOWN_CHARS]
    except Exception:  # the arguments' own __repr__ must not hide the mismatch
        return f"<{type(value).__name__}>"
