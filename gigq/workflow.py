"""Jobs that depend on each other: `Workflow`, `chain` and `group`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import timedelta
from typing import Any, Generic, Protocol, TypeVar, overload

from gigq.errors import AlreadySubmitted, ConfigurationError
from gigq.ids import new_id
from gigq.job import Job, JobMaker
from gigq.options import check_text
from gigq.retry import seconds

R = TypeVar("R")
S = TypeVar("S")


class Submits(Protocol):
    """A `JobQueue`, or an app."""

    def submit_many(self, jobs: Iterable[Job[Any]]) -> list[Job[Any]]: ...


class Workflow:
    """Jobs under a common name, with the order in which they must run.

    Args:
        name: stored with each job; `queue.list(workflow=name)` finds them.
    """

    def __init__(self, name: str) -> None:
        self.name = check_text("name", name)
        if not name:
            raise ConfigurationError("a workflow needs a name, got an empty string")
        self.id = new_id()
        self._jobs: dict[str, Job[Any]] = {}

    def __repr__(self) -> str:
        return f"<Workflow {self.name} of {len(self._jobs)} jobs>"

    @property
    def jobs(self) -> list[Job[Any]]:
        """The jobs, in the order in which they were added."""
        return list(self._jobs.values())

    def add_job(self, job: Job[R], depends_on: Iterable[Job[Any] | str] = ()) -> Job[R]:
        """Add a job that runs when all of `depends_on` have completed; return it. The order of adding is free.

        Raises:
            AlreadySubmitted: the job is stored already, or part of this workflow.
        """
        if isinstance(depends_on, Job | str):
            raise ConfigurationError(f"depends_on must be a list of jobs, got {depends_on!r}: write [job]")
        if job.id in self._jobs:
            raise AlreadySubmitted(f"{job!r} is part of {self!r} already")
        for dependency in depends_on:
            job.depend_on(dependency)
        job._workflow = (self.name, self.id)
        self._jobs[job.id] = job
        return job

    def submit_all(self, queue: Submits) -> list[Job[Any]]:
        """Store all jobs in one transaction, all or none, and return them.

        Raises:
            DependencyError: they depend on each other in a circle, or on a job that does not exist.
            AlreadySubmitted: the workflow was submitted before.
        """
        return queue.submit_many(self._jobs.values())


class Group(Sequence[Job[R]], Generic[R]):
    """Jobs that may run side by side, in a fixed order."""

    def __init__(self, jobs: Iterable[Job[R]]) -> None:
        self._jobs = list(jobs)
        for job in self._jobs:
            if not isinstance(job, Job):
                raise ConfigurationError(f"a group is made of jobs, such as task.job(1), got {job!r}")

    @overload
    def __getitem__(self, index: int) -> Job[R]: ...
    @overload
    def __getitem__(self, index: slice) -> Group[R]: ...
    def __getitem__(self, index: int | slice) -> Job[R] | Group[R]:
        return Group(self._jobs[index]) if isinstance(index, slice) else self._jobs[index]

    def __len__(self) -> int:
        return len(self._jobs)

    def __iter__(self) -> Iterator[Job[R]]:
        return iter(self._jobs)

    def __repr__(self) -> str:
        return f"<Group of {len(self)} jobs>"

    @property
    def output(self) -> list[R]:
        """The results that the jobs will have, in order, to be put into the arguments of another job."""
        return [job.output for job in self._jobs]

    def get(self, timeout: float | timedelta | None = None) -> list[R]:
        """Block until all have ended, at most `timeout` seconds in all, and return their results in order.

        Raises:
            JobFailed, JobTimedOut, JobCancelled: the first, in order, that ended so.
            TimeoutError: one has not ended yet.
        """
        if timeout is None:
            return [job.get() for job in self._jobs]
        deadline = time.monotonic() + seconds("timeout", timeout)
        return [job.get(max(0.0, deadline - time.monotonic())) for job in self._jobs]

    @overload
    def then(self, function: JobMaker[S], /, *args: Any, **params: Any) -> Job[S]: ...
    @overload
    def then(self, function: Callable[..., S], /, *args: Any, **params: Any) -> Job[S]: ...
    def then(self, function: Any, /, *args: Any, **params: Any) -> Job[Any]:
        """Return a job that runs when all have completed and is given the list of their results.

        If the group is submitted, so is the new job; else submitting it submits the group.
        """
        if "when" in params:
            raise ConfigurationError(
                f"what follows a group runs when all of its jobs have completed, got when={params['when']!r}: "
                "make a job with Job(…) and call depend_on(job, when=…) for each of them"
            )
        if not self._jobs:
            raise ConfigurationError("an empty group has nothing to wait for: submit the job itself")
        # Through the last job, so that both cases are decided in one place, but with every result.
        return self._jobs[-1].then(_AfterAll(function, self.output), *args, **params)


class _AfterAll(JobMaker[Any]):
    """Gives a function all results of a group instead of the one result that `then` passes."""

    def __init__(self, function: Any, outputs: list[Any]) -> None:
        self._function = function
        self._outputs = outputs

    def make_job(self, args: tuple[Any, ...], params: dict[str, Any]) -> Job[Any]:
        args = (self._outputs, *args[1:])
        if isinstance(self._function, JobMaker):
            return self._function.make_job(args, params)
        return Job(function=self._function, args=args, params=params)


def group(*jobs: Job[R] | Iterable[Job[R]]) -> Group[R]:
    """Return jobs, or lists of them, as a group: submit it with `app.submit(group)`, wait with `get()`, fan in with
    `then(…)`.
    """
    return Group(job for some in jobs for job in ([some] if isinstance(some, Job) else _listed(some)))


def _listed(jobs: Any) -> Iterable[Job[Any]]:
    if isinstance(jobs, Iterable):
        return jobs
    raise ConfigurationError(f"a group is made of jobs, such as task.job(1), got {jobs!r}")


def chain(first: Job[Any] | JobMaker[Any], *steps: JobMaker[Any] | Callable[..., Any]) -> Job[Any]:
    """Return the last job of a chain in which each step is given the result of the one before it.

    `first` is a job, or a task that needs no arguments. Submitting the job that is returned submits the whole chain;
    if `first` is submitted already, so is each step.
    """
    if isinstance(first, JobMaker):
        first = first.make_job((), {})
    if not isinstance(first, Job):
        raise ConfigurationError(f"a chain begins with a job, such as task.job(1), got {first!r}")
    job = first
    for step in steps:
        job = job.then(step)
    return job
