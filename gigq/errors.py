"""Every error that gigq raises on purpose. All derive from `GigQError`, and from a builtin where one is natural.

A message says what was expected, what came and what to do; values a program may want stay as attributes.
"""

from __future__ import annotations


class GigQError(Exception):
    """The base of every error of gigq."""


class ConfigurationError(GigQError, ValueError):
    """An option, a name or a URL is not what it must be."""


class IllegalTransition(GigQError, ValueError):
    """A job cannot do this in the state it is in: see `gigq.states`."""


# -- defining and submitting -----------------------------------------------------------------------------------------


class TaskExists(ConfigurationError):
    """Two different functions were registered under one task name."""


class TaskNotFound(GigQError, LookupError):
    """No task of that name is registered in this app."""


class PayloadError(GigQError, TypeError):
    """Arguments cannot be pickled, or stored bytes cannot be read back."""


class SignatureError(PayloadError):
    """A payload is not signed as it must be: it was changed, moved, or stored without the key. It was not loaded."""


class DependencyError(GigQError, ValueError):
    """A dependency is unknown, makes a cycle, or contradicts another one. Nothing was stored."""


class AlreadySubmitted(GigQError, ValueError):
    """The job is in a database already; a job is one call and is submitted once."""


class NotSubmitted(GigQError, RuntimeError):
    """The job is not in a database yet, so it has no state and no result."""


# -- results -----------------------------------------------------------------------------------------------------------


class JobNotFound(GigQError, KeyError):
    """No job of that id is stored (it may have been pruned)."""

    def __init__(self, job_id: str) -> None:
        super().__init__(job_id)
        self.job_id = job_id

    def __str__(self) -> str:
        return f"no job {self.job_id!r} in this database: it was never submitted here, or it was pruned"

    def __reduce__(self) -> tuple[type[JobNotFound], tuple[str]]:
        return type(self), (self.job_id,)


class JobError(GigQError):
    """A job that has ended without a result. `job_id` names it, `reason` says why as text."""

    _ended = "ended"

    def __init__(self, job_id: str, name: str, reason: str) -> None:
        super().__init__(job_id, name, reason)
        self.job_id = job_id
        self.name = name
        self.reason = reason

    def __str__(self) -> str:
        return f"job {self.name!r} ({self.job_id}) {self._ended}: {self.reason}"


class TaskError(GigQError):
    """What a task raised, as text: the exception itself stayed in the worker. It is the `__cause__` of `JobFailed`."""

    def __init__(self, traceback: str) -> None:
        super().__init__(traceback)
        self.traceback = traceback

    def __str__(self) -> str:
        return "in the worker\n" + self.traceback.rstrip()


class JobFailed(JobError):
    """The job failed on its last attempt.

    Attributes:
        type: name of the exception's type, such as `"ValueError"`.
        message: the exception's own message.
        traceback: the whole traceback as the worker saw it, as text.
    """

    _ended = "failed"

    def __init__(self, job_id: str, name: str, type: str, message: str, traceback: str) -> None:
        super().__init__(job_id, name, f"{type}: {message}" if message else type)
        self.type = type
        self.message = message
        self.traceback = traceback
        if traceback:
            self.__cause__ = TaskError(traceback)

    def __reduce__(self) -> tuple[type[JobFailed], tuple[str, str, str, str, str]]:
        return type(self), (self.job_id, self.name, self.type, self.message, self.traceback)


class JobTimedOut(JobError):
    """The job ran longer than its timeout. (Waiting too long for a result is the builtin `TimeoutError`.)"""

    _ended = "timed out"


class JobCancelled(JobError):
    """The job was cancelled, by a person or because a job it depends on ended badly."""

    _ended = "was cancelled"


# -- inside tasks ------------------------------------------------------------------------------------------------------


class NotInJob(GigQError, RuntimeError):
    """`current_job()` was called outside a running job."""


class WaitingInTask(GigQError, RuntimeError):
    """A task waited for another job, which holds a slot of the worker that the other job may need."""


# -- workers -----------------------------------------------------------------------------------------------------------


class TargetError(GigQError, ValueError):
    """A worker's target (`module:app`, a path or a URL) cannot be used."""


class WorkerError(GigQError, RuntimeError):
    """The worker cannot start or go on."""


# -- storage -----------------------------------------------------------------------------------------------------------


class StorageError(GigQError):
    """The database cannot do what it was asked. If a write was under way, it was rolled back."""


class StorageBusy(StorageError):
    """Another program held the database's write lock for too long. Nothing was stored: try again."""


class UnsafePermissions(StorageError, PermissionError):
    """Others can write the database, and so make its workers run code. Nothing was opened."""


class OutcomeUnknown(StorageError):
    """The commit itself failed: whether it was stored is not known until the database can be read again."""


class DatabaseLost(StorageError):
    """The database's file was deleted, moved or replaced while it was in use. Nothing was stored that anybody reads.

    Attributes:
        is_log: the database itself is there, but the log beside it is not.
    """

    def __init__(self, message: str, *, is_log: bool = False) -> None:
        super().__init__(message)
        self.is_log = is_log


class SchemaTooNew(StorageError):
    """The database was made by a newer gigq. Nothing was touched."""
