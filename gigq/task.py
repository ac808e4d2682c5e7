"""`Task`: what `@app.task` makes of a function."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Generic, ParamSpec, Protocol

from typing_extensions import TypeVar, Unpack

from gigq.handle import Binding
from gigq.job import Job, JobMaker
from gigq.options import CallOptions, Options
from gigq.retry import RetryPolicy
from gigq.submission import submit
from gigq.summary import shown_signature
from gigq.workflow import Group

P = ParamSpec("P")
R = TypeVar("R")
C = TypeVar("C", default=R)  # what a plain call returns: for an async function a coroutine of R

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


class TaskOwner(Protocol):
    """The app, as a task sees it."""

    @property
    def binding(self) -> Binding: ...

    def reference(self, task_name: str) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        """Return how to find the task again in another process, as `__reduce__` wants it."""
        ...


class Task(JobMaker[R], Generic[P, R, C]):
    """A function that workers can run. Calling it runs it here and now; `delay` has a worker run it.

    Made by `@app.task`. Attributes: `name`, under which workers find it, and `function`, the function itself.
    """

    def __init__(self, owner: TaskOwner, function: Callable[P, C], name: str, options: Options) -> None:
        functools.update_wrapper(self, function)
        self.name = name
        self.function: Callable[..., Any] = function
        self._owner = owner
        self._options = options
        self._arity = _Arity(function)

    def __repr__(self) -> str:
        return f"<Task {self.name}>"

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> C:
        """Call the function itself, in this process."""
        return self.function(*args, **kwargs)  # type: ignore[no-any-return]  # kept as any callable for the workers

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        """Travel as (database, app, task): never with a connection, and never with the code."""
        return self._owner.reference(self.name)

    @property
    def policy(self) -> RetryPolicy:
        """When a failed attempt is followed by another one."""
        return self._options.policy

    @property
    def timeout(self) -> float | None:
        """Seconds that an attempt may take, None for no limit."""
        return self._options.timeout

    @property
    def capture(self) -> bool:
        """Whether its arguments may be shown."""
        return self._options.capture

    @property
    def call_options(self) -> Options:
        """The options of calls made through this task."""
        return self._options

    @property
    def parameter_names(self) -> Sequence[str]:
        """The names of the positional parameters."""
        return self._arity.names

    @property
    def url(self) -> str:
        """The database of the app that this task belongs to."""
        return self._owner.binding.storage.url

    def check_arguments(self, args: tuple[Any, ...], params: dict[str, Any]) -> None:
        """Raise TypeError if the arguments do not fit the function's signature."""
        self._arity.check(self.name, args, params)

    def job(self, *args: P.args, **kwargs: P.kwargs) -> Job[R]:
        """Return a call of this task as a job that is not submitted yet.

        Raises:
            TypeError: the arguments do not fit the function's signature.
        """
        return self.make_job(args, kwargs)

    def make_job(self, args: tuple[Any, ...], params: dict[str, Any]) -> Job[R]:
        """Do what `job` does, for callers that hold the arguments as values."""
        return Job(function=self, args=args, params=params)

    def delay(self, *args: P.args, **kwargs: P.kwargs) -> Job[R]:
        """Have a worker call the function; return the job, which is committed when this returns.

        Raises:
            TypeError: the arguments do not fit the function's signature.
            PayloadError: they cannot be pickled.
            StorageError: the database cannot store it; nothing was stored, unless it is `OutcomeUnknown`.
        """
        job = self.make_job(args, kwargs)
        submit(self._owner.binding, [job])
        return job

    async def adelay(self, *args: P.args, **kwargs: P.kwargs) -> Job[R]:
        """Do what `delay` does from a coroutine, without ever blocking its event loop."""
        binding = self._owner.binding
        job = self.make_job(args, kwargs)
        await binding.awaiter.call(submit, binding, [job])
        return job

    def map(self, items: Iterable[Any]) -> Group[R]:
        """Submit a job for each item, its only argument, in one transaction; return them in order."""
        jobs = [self.make_job((item,), {}) for item in items]
        submit(self._owner.binding, jobs)
        return Group(jobs)

    def options(self, **options: Unpack[CallOptions]) -> Task[P, R, C]:
        """Return this task with other options for the calls made through what is returned.

        Takes what `@app.task` takes except `name`, and also `delay` (seconds or timedelta) or `run_at` (a datetime
        with a timezone), before which the job does not run.

        Raises:
            ConfigurationError: an option is unknown or has a wrong value.
        """
        task: Task[P, R, C] = object.__new__(type(self))  # not copy(): that would find the registered task again
        task.__dict__.update(self.__dict__)
        task._options = self._options.changed(dict(options), for_calls=True)
        return task


class _Arity:
    """Whether arguments fit a function. Counting positional arguments spares most calls the binding of a signature."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._signature = inspect.signature(function)
        parameters = list(self._signature.parameters.values())
        positional = [parameter for parameter in parameters if parameter.kind in _POSITIONAL]
        self.names = tuple(parameter.name for parameter in positional)
        self._most = len(positional)
        self._least = sum(parameter.default is parameter.empty for parameter in positional)
        self._countable = len(positional) == len(parameters)

    def check(self, name: str, args: tuple[Any, ...], params: dict[str, Any]) -> None:
        if self._countable and not params and self._least <= len(args) <= self._most:
            return
        try:
            self._signature.bind(*args, **params)
        except TypeError as error:
            raise TypeError(f"{name}{shown_signature(self._signature)} cannot be called like this: {error}") from None
