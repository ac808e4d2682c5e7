"""Decorate a function, call `.delay()`, run a worker: tasks in one SQLite file, with no broker to install."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gigq.app import App
from gigq.context import CurrentJob, current_job
from gigq.errors import (
    AlreadySubmitted,
    ConfigurationError,
    DatabaseLost,
    DependencyError,
    GigQError,
    IllegalTransition,
    JobCancelled,
    JobError,
    JobFailed,
    JobNotFound,
    JobTimedOut,
    NotInJob,
    NotSubmitted,
    OutcomeUnknown,
    PayloadError,
    SchemaTooNew,
    SignatureError,
    StorageBusy,
    StorageError,
    TargetError,
    TaskError,
    TaskExists,
    TaskNotFound,
    UnsafePermissions,
    WaitingInTask,
    WorkerError,
)
from gigq.job import Job
from gigq.queue import JobQueue
from gigq.retry import Retry
from gigq.states import JobState
from gigq.task import Task
from gigq.workflow import Group, Workflow, chain, group

if TYPE_CHECKING:
    from gigq.worker import Worker

__version__ = "0.1.0"

__all__ = [
    "AlreadySubmitted",
    "App",
    "ConfigurationError",
    "CurrentJob",
    "DatabaseLost",
    "DependencyError",
    "GigQError",
    "Group",
    "IllegalTransition",
    "Job",
    "JobCancelled",
    "JobError",
    "JobFailed",
    "JobNotFound",
    "JobQueue",
    "JobState",
    "JobTimedOut",
    "NotInJob",
    "NotSubmitted",
    "OutcomeUnknown",
    "PayloadError",
    "Retry",
    "SchemaTooNew",
    "SignatureError",
    "StorageBusy",
    "StorageError",
    "TargetError",
    "Task",
    "TaskError",
    "TaskExists",
    "TaskNotFound",
    "UnsafePermissions",
    "WaitingInTask",
    "Worker",
    "WorkerError",
    "Workflow",
    "chain",
    "current_job",
    "group",
]


def __getattr__(name: str) -> Any:
    # Programs that only submit jobs never pay for importing the worker.
    if name == "Worker":
        from gigq.worker import Worker

        return Worker
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
