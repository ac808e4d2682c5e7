"""What a running task can know about its own job: `current_job()`."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar

from gigq.errors import ConfigurationError, NotInJob
from gigq.payload import storable

ProgressSink = Callable[[float, str], None]


class CurrentJob:
    """The job that this code runs in.

    Attributes:
        id: the job's id.
        name: its name.
        task: its task's name.
        queue: the queue it came from.
        attempt: which attempt this is, from 1.
        max_attempts: how many there may be.
        deadline: monotonic time (`time.monotonic()`) at which the attempt is stopped, None without a timeout.
    """

    __slots__ = ("_report", "attempt", "deadline", "id", "max_attempts", "name", "queue", "task")

    def __init__(
        self,
        job_id: str,
        name: str,
        task: str,
        queue: str,
        attempt: int,
        max_attempts: int,
        deadline: float | None,
        report: ProgressSink,
    ) -> None:
        self.id = job_id
        self.name = name
        self.task = task
        self.queue = queue
        self.attempt = attempt
        self.max_attempts = max_attempts
        self.deadline = deadline
        self._report = report

    def __repr__(self) -> str:
        return f"<CurrentJob {self.name} {self.id} attempt {self.attempt} of {self.max_attempts}>"

    def progress(self, fraction: float, message: str = "") -> None:
        """Show how far the job is: `fraction` from 0 to 1, and a short message. Cheap, and safe to call often.

        Raises:
            ConfigurationError: the fraction is not from 0 to 1.
        """
        if not 0 <= fraction <= 1:
            raise ConfigurationError(f"progress must be from 0 to 1, got {fraction!r}")
        self._report(float(fraction), storable(str(message)))


_current: ContextVar[CurrentJob | None] = ContextVar("gigq_current_job", default=None)


def current_job() -> CurrentJob:
    """Return the job that the calling code runs in.

    Raises:
        NotInJob: the code does not run inside a job.
    """
    job = _current.get()
    if job is None:
        raise NotInJob("current_job() works only inside a task that a worker runs; here no job is running")
    return job


def is_in_job() -> bool:
    """Return whether the calling code runs inside a job."""
    return _current.get() is not None


def enter_job(job: CurrentJob) -> None:
    """Make `job` the current one in the calling context, which belongs to this job alone."""
    _current.set(job)
