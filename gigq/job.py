"""`Job`: one call of a function, before it is submitted and afterwards."""

from __future__ import annotations

import functools
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any, Generic, Literal, TypeVar, cast, overload

from gigq import payload
from gigq.errors import AlreadySubmitted, ConfigurationError, NotSubmitted, TaskNotFound
from gigq.handle import Binding, JobHandle
from gigq.ids import new_id
from gigq.options import Options, check_max_attempts, check_priority, check_queue, check_text, check_timeout
from gigq.results import read_result
from gigq.retry import RetryPolicy
from gigq.signing import Signer, make_signer, using
from gigq.storage import open_storage
from gigq.storage.rows import BY_VALUE, JobRow, When

R_co = TypeVar("R_co", covariant=True)
S = TypeVar("S")

WhenName = Literal["success", "failure", "always"]


class JobMaker(Generic[R_co]):
    """What `Job(function=…)` and `then` know of a task: its name, its options, and how it makes a job."""

    name: str

    @property
    def call_options(self) -> Options:
        """The options of calls made through this task."""
        raise NotImplementedError

    @property
    def parameter_names(self) -> Sequence[str]:
        """The names of the positional parameters."""
        raise NotImplementedError

    @property
    def url(self) -> str:
        """The database of the app that the task belongs to."""
        raise NotImplementedError

    def check_arguments(self, args: tuple[Any, ...], params: dict[str, Any]) -> None:
        """Check that the arguments fit the function. Raises TypeError."""
        raise NotImplementedError

    def make_job(self, args: tuple[Any, ...], params: dict[str, Any]) -> Job[R_co]:
        """Return a job of this task that is not submitted."""
        raise NotImplementedError


class Job(JobHandle[R_co]):
    """One call of a function, with its arguments and how it is to be run.

    A new job is a definition: it can be changed until it is submitted, and then it is a handle on the stored job.
    `state`, `error` and what follows ask the database each time.

    Args:
        name: what people call it; by default the function's name.
        function: a task, or any callable, which then travels with the job.
        params: keyword arguments.
        args: positional arguments.
        priority: jobs with a higher one are claimed first; by default the task's, else 0.
        dependencies: jobs (or ids of stored ones) that must complete before this one runs.
        max_attempts: how often it may be tried; by default the task's, else 3.
        timeout: seconds or timedelta that one attempt may take; by default the task's, else no limit.
        description: for people.
        queue: the named lane that it waits in; by default the task's, else "default".

    Raises:
        ConfigurationError: an option has a wrong value.
        TypeError: the arguments do not fit the task's function.
    """

    def __init__(
        self,
        name: str | None = None,
        function: JobMaker[R_co] | Callable[..., R_co] | None = None,
        params: Mapping[str, Any] | None = None,
        *,
        args: Iterable[Any] = (),
        priority: int | None = None,
        dependencies: Iterable[Job[Any] | str] = (),
        max_attempts: int | None = None,
        timeout: float | timedelta | None = None,
        description: str | None = None,
        queue: str | None = None,
    ) -> None:
        if not callable(function) and not isinstance(function, JobMaker):
            raise ConfigurationError(f"function must be a task or a callable, got {function!r}")
        if params is not None and not isinstance(params, Mapping):
            raise ConfigurationError(f"params must be a dict of keyword arguments, got {params!r}")
        if isinstance(args, str | bytes) or not isinstance(args, Iterable):
            raise ConfigurationError(f"args must be a list or tuple of positional arguments, got {args!r}")
        options = function.call_options if isinstance(function, JobMaker) else _PLAIN_OPTIONS
        self.id: str = new_id()
        self.name: str = function_name(function) if name is None else check_text("name", name)
        self.priority: int = options.priority if priority is None else check_priority(priority)
        self.max_attempts: int = options.max_attempts if max_attempts is None else check_max_attempts(max_attempts)
        self.timeout: float | None = options.timeout if timeout is None else check_timeout(timeout)
        self.description: str = options.description if description is None else check_text("description", description)
        self.queue: str = options.queue if queue is None else check_queue(queue)
        self._function: Any = function
        self._args: tuple[Any, ...] = tuple(args)
        self._params: dict[str, Any] = dict(params) if params else {}
        if isinstance(function, JobMaker):
            function.check_arguments(self._args, self._params)
        self._policy: RetryPolicy | None = options.policy if options.own_policy else None
        self._delay: float | None = options.delay
        self._run_at: float | None = options.run_at
        self._capture: bool = options.capture
        self._parents: list[tuple[Job[Any] | str, When]] = []
        self._workflow: tuple[str, str] | None = None  # name, id
        self._binding: Binding | None = None
        self._url: str | None = None
        for dependency in dependencies:
            self.depend_on(dependency)

    @classmethod
    def stored(cls, row: JobRow, binding: Binding) -> Job[Any]:
        """Return a handle on a stored job. Nothing is unpickled until `function`, `args` or `params` are asked for."""
        job: Job[Any] = cls.__new__(cls)
        job.id = row.id
        job.name = row.name
        job.priority = row.priority
        job.max_attempts = row.max_attempts
        job.timeout = row.timeout
        job.description = row.description
        job.queue = row.queue
        job._binding = binding
        job._url = binding.storage.url
        job._workflow = None if row.workflow is None or row.workflow_id is None else (row.workflow, row.workflow_id)
        return job

    def check(self) -> None:
        """Check what may have been changed since the job was made.

        Raises:
            ConfigurationError: an attribute has a wrong value.
        """
        check_text("name", self.name)
        check_text("description", self.description)
        check_queue(self.queue)
        check_priority(self.priority)
        check_max_attempts(self.max_attempts)
        self.timeout = check_timeout(self.timeout)

    def __repr__(self) -> str:
        where = "not submitted" if self._binding is None else self.state
        return f"<Job {self.name} {self.id} {where}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Job) and self.id == other.id

    def __hash__(self) -> int:
        return hash(self.id)

    # -- definition

    @property
    def function(self) -> Any:
        """The task or callable that runs.

        Raises:
            TaskNotFound: the stored job names a task that this program has not registered.
            PayloadError: the stored function cannot be unpickled here.
        """
        return self._definition()[0]

    @property
    def args(self) -> tuple[Any, ...]:
        """The positional arguments. On a stored job this unpickles them."""
        return self._definition()[1]

    @property
    def params(self) -> dict[str, Any]:
        """The keyword arguments. On a stored job this unpickles them."""
        return self._definition()[2]

    def _definition(self) -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
        if not hasattr(self, "_function"):
            binding = self._bound()
            storage, signer = binding.storage, binding.signer
            row, data = storage.get(self.id), storage.arguments(self.id)
            task_name = row.task
            if signer is not None:
                data = signer.check_arguments(data, row)
            with using(signer):
                stored = payload.loads(data, functools.partial(read_result, storage, signer))
            if task_name == BY_VALUE:
                self._function, self._args, self._params = stored
            else:
                task = self._bound().tasks.get(task_name)
                if task is None:
                    raise TaskNotFound(
                        f"job {self.id} runs task {task_name!r}, which is not registered here: "
                        "get the job through the app that has the task, such as app.queue.get(id)"
                    )
                self._function, (self._args, self._params) = task, stored
        return self._function, self._args, self._params

    @property
    def dependencies(self) -> list[str]:
        """The ids of the jobs that this one depends on, those whose outputs are in its arguments included."""
        if self._binding is not None:
            return [row.id for row, _ in self._binding.storage.parents(self.id)]
        ids = [parent if isinstance(parent, str) else parent.id for parent, _ in self._parents]
        ids += [output.job.id for output in payload.dumps((self._function, self._args, self._params)).outputs]
        return list(dict.fromkeys(ids))

    def depend_on(self, dependency: Job[Any] | str, *, when: WhenName = "success") -> None:
        """Let this job run only after `dependency` (a job, or the id of a stored one) has ended as `when` says.

        Raises:
            AlreadySubmitted: this job is stored already.
        """
        if self._binding is not None:
            raise AlreadySubmitted(f"{self!r} is submitted: its dependencies cannot change any more")
        if not isinstance(dependency, Job | str):
            raise ConfigurationError(f"a dependency must be a Job or a job's id, got {dependency!r}")
        if not isinstance(when, str) or when not in tuple(When):
            raise ConfigurationError(f"when must be success, failure or always, got {when!r}")
        self._parents.append((dependency, When(when)))

    @property
    def output(self) -> R_co:
        """The result that this job will have, to be put anywhere into the arguments of another job.

        It stands for a value that does not exist yet, and is typed as that value.
        """
        return cast("R_co", payload.Output(self))

    @overload
    def then(self, function: JobMaker[S], /, *args: Any, when: WhenName = ..., **params: Any) -> Job[S]: ...
    @overload
    def then(
        self, function: Callable[..., Coroutine[Any, Any, S]], /, *args: Any, when: WhenName = ..., **params: Any
    ) -> Job[S]: ...
    @overload
    def then(self, function: Callable[..., S], /, *args: Any, when: WhenName = ..., **params: Any) -> Job[S]: ...
    def then(self, function: Any, /, *args: Any, when: WhenName = "success", **params: Any) -> Job[Any]:
        """Return a job that runs after this one and is given its result as first argument.

        If this job is submitted, the new one is submitted at once, also when this one has ended already; else it is
        submitted together with this one. With `when="failure"` (failed or timed out) or `when="always"` (any end) it
        is given the ended job itself.
        """
        first = self.output if when == "success" else self
        job: Job[Any]
        if isinstance(function, JobMaker):
            job = function.make_job((first, *args), params)
        else:
            job = Job(function=function, args=(first, *args), params=params)
        job.depend_on(self, when=when)
        if self._binding is not None:
            from gigq.submission import submit  # it builds on Job

            submit(self._binding, [job])
        return job

    # -- as a handle

    def bind(self, binding: Binding) -> None:
        """Make this definition a handle; `gigq.submission` calls it once the job is stored."""
        self._binding = binding
        self._url = binding.storage.url

    def __reduce__(self) -> tuple[Callable[[str, str], Job[Any]], tuple[str, str]]:
        """Travel as (database, id): a job that is given to a task arrives there as a handle."""
        if self._url is None:
            raise NotSubmitted(f"{self!r} must be submitted before it can be pickled; to pass its result use .output")
        return _restore, (self._url, self.id)


_PLAIN_OPTIONS = Options()


def function_name(function: Any) -> str:
    """Return a name for people: the task's, the function's, or that of what a partial or an object stands for."""
    while isinstance(function, functools.partial):
        function = function.func
    if isinstance(function, JobMaker):
        return function.name
    return getattr(function, "__qualname__", None) or type(function).__qualname__


@functools.lru_cache(maxsize=16)
def _binding_for(url: str, signer: Signer | None) -> Binding:
    return Binding(open_storage(url), signer=signer)


def _restore(url: str, job_id: str) -> Job[Any]:
    binding = _binding_for(url, make_signer(None))
    return Job.stored(binding.storage.get(job_id), binding)
