"""`App`: where tasks are registered, and which database they use."""

from __future__ import annotations

import os
import re
import sys
import weakref
from collections.abc import Callable, Coroutine, Iterable, Mapping
from types import MappingProxyType
from typing import Any, Final, Never, ParamSpec, Protocol, TypeVar, overload

from typing_extensions import Unpack

from gigq.errors import ConfigurationError, TaskExists, TaskNotFound
from gigq.handle import Binding
from gigq.job import Job
from gigq.options import Options, TaskDefaults
from gigq.queue import JobQueue, check_durability
from gigq.retry import RetryPolicy
from gigq.signing import SecretKey, Signer
from gigq.storage import Durability
from gigq.task import Task
from gigq.workflow import Group

P = ParamSpec("P")
R = TypeVar("R")

_NAME: Final = re.compile(r"[A-Za-z_][\w.<>-]{0,199}")


class TaskDecorator(Protocol):
    """What `@app.task(…)` returns."""

    @overload
    def __call__(self, function: Callable[P, Coroutine[Any, Any, R]], /) -> Task[P, R, Coroutine[object, Never, R]]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> Task[P, R]: ...
    def __call__(self, function: Any, /) -> Any: ...


class App:
    """Tasks and the database that their jobs are in. Making one opens nothing.

    Args:
        url: a path, or a `sqlite:///` URL; without one `$GIGQ_URL`, else `gigq.db` in the current folder. A relative
            path becomes absolute here and now.
        name: tells apart apps of one program; by default the name of the module that makes it.
        durability: `"power"` keeps what was committed through a power cut, `"process"` only through the death of
            every process, and stores single jobs faster.
        secret_key: signs arguments and results, so that nothing else is ever loaded: a str or bytes of at least 32
            bytes, or a list of them, of which the first signs and all are accepted; without one `$GIGQ_SECRET_KEY`, or
            what is in the file `$GIGQ_SECRET_KEY_FILE`, else nothing is signed.
        **task_defaults: options for every task of this app, see `task`.

    Raises:
        ConfigurationError: an argument has a wrong value.
    """

    def __init__(
        self,
        url: str | os.PathLike[str] | None = None,
        *,
        name: str | None = None,
        durability: Durability = "power",
        secret_key: SecretKey | None = None,
        **task_defaults: Unpack[TaskDefaults],
    ) -> None:
        from gigq.storage.urls import resolve_url  # takes 7 ms, which `import gigq` does without

        self.url = resolve_url(url)
        self.name = name if name is not None else _module_name(sys._getframe(1).f_globals)
        self.durability: Durability = check_durability(durability)
        self._options = Options().changed(dict(task_defaults))
        self._tasks: dict[str, Task[..., Any, Any]] = {}
        self._queue = JobQueue(self.url, durability=self.durability, tasks=self._tasks, secret_key=secret_key)
        _apps.add(self)

    def __repr__(self) -> str:
        return f"<App {self.name} at {self.url} with {len(self._tasks)} tasks>"

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str, str]]:
        """Travel as (url, name), never with a connection."""
        return _find_app, (self.url, self.name)

    @property
    def tasks(self) -> Mapping[str, Task[..., Any, Any]]:
        """The registered tasks by name."""
        return MappingProxyType(self._tasks)

    @property
    def default_policy(self) -> RetryPolicy:
        """The retry policy of jobs whose function is not a task."""
        return self._options.policy

    @property
    def queue(self) -> JobQueue:
        """The store of this app's jobs."""
        return self._queue

    @property
    def signer(self) -> Signer | None:
        """What signs the payloads of its jobs; None: they are not signed."""
        return self._queue.signer

    @property
    def binding(self) -> Binding:
        """What the app's tasks submit through."""
        return self._queue.binding

    def reference(self, task_name: str) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        """Return how to find a task of this app again in another process."""
        return _find_task, (self.url, self.name, task_name)

    @overload
    def task(self, function: Callable[P, Coroutine[Any, Any, R]], /) -> Task[P, R, Coroutine[object, Never, R]]: ...
    @overload
    def task(self, function: Callable[P, R], /) -> Task[P, R]: ...
    @overload
    def task(self, /, *, name: str | None = None, **options: Unpack[TaskDefaults]) -> TaskDecorator: ...
    def task(self, function: Callable[..., Any] | None = None, /, *, name: str | None = None, **options: Any) -> Any:
        """Register a function as a task: `@app.task`, or `@app.task(priority=5, timeout=30)`.

        Args:
            function: the function, async or not.
            name: under which workers find it; by default `module.qualname`. Keep it when you move the function.
            queue: the named lane its jobs wait in; default "default".
            priority: jobs with a higher one are claimed first; default 0.
            timeout: seconds or timedelta that one attempt may take; default None, no limit.
            max_attempts: how often a job may be tried; default 3.
            retry_on: exception type, or tuple of them, that is worth another attempt; default `Exception`.
            retry_delay: seconds or timedelta before the second attempt; default 1.
            retry_backoff: each further delay is this many times the one before; default 2.
            retry_max_delay: the longest delay; default an hour.
            retry_jitter: the part of each delay that is drawn at random, 0 to 1; default 0.5.
            retry_on_timeout: whether an attempt that ran too long is followed by another; default False.
            description: for people; by default the first line of the function's docstring.
            capture: whether arguments are shown, in listings and in errors about them; default True. What is named like
                a secret is hidden in any case.

        Raises:
            ConfigurationError: an option is unknown or has a wrong value.
            TaskExists: another function has this name already.
        """
        checked = self._options.changed(options)

        def register(function: Callable[..., Any]) -> Task[..., Any, Any]:
            return self._register(function, name, checked)

        return register if function is None else register(function)

    def _register(self, function: Callable[..., Any], name: str | None, options: Options) -> Task[..., Any, Any]:
        if not callable(function) or isinstance(function, Task) or not hasattr(function, "__globals__"):
            raise ConfigurationError(f"@app.task decorates a function, got {function!r}")
        if name is None:
            name = f"{_module_name(function.__globals__)}.{function.__qualname__}"
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise ConfigurationError(
                f"a task's name must begin with a letter and consist of letters, digits and _ . < > -, got {name!r}"
            )
        known = self._tasks.get(name)
        if known is not None and not _is_redefinition(known.function, function):
            raise TaskExists(f"task {name!r} is {known.function!r} already, got {function!r}: give one of them a name=")
        if not options.description:
            options = options.changed({"description": (function.__doc__ or "").strip().partition("\n")[0]})
        task: Task[..., Any, Any] = Task(self, function, name, options)
        self._tasks[name] = task
        return task

    def submit(self, *jobs: Job[Any] | Group[Any]) -> None:
        """Store jobs and groups in one transaction, all or none, with all that they depend on.

        Raises what `JobQueue.submit` raises.
        """
        self._queue.submit_many(member for job in jobs for member in (job if isinstance(job, Group) else [job]))

    def submit_many(self, jobs: Iterable[Job[Any]]) -> list[Job[Any]]:
        """Store jobs in one transaction and return them, as `JobQueue.submit_many` does."""
        return self._queue.submit_many(jobs)

    def get(self, job_id: str) -> Job[Any]:
        """Return a handle on a stored job. Raises JobNotFound."""
        return self._queue.get(job_id)

    def worker(self, **options: Any) -> None:
        """Run a worker until it is stopped, or, with `burst=True`, until nothing is left to do.

        Takes what `Worker` takes.
        """
        from gigq.worker import Worker  # defining tasks and submitting jobs do not need it

        Worker(self, **options).run()


# Unpickling must find the app of this process; there is no other place to look. Apps are only referred to weakly.
_apps: weakref.WeakSet[App] = weakref.WeakSet()


def _find_app(url: str, name: str) -> App:
    same_name = [app for app in _apps if app.name == name]
    for app in same_name:
        if app.url == url:
            return app
    return same_name[0] if same_name else App(url, name=name)


def _find_task(url: str, app_name: str, task_name: str) -> Task[..., Any, Any]:
    app = _find_app(url, app_name)
    task = app.tasks.get(task_name)
    if task is not None:
        return task

    def not_here(*args: Any, **kwargs: Any) -> Any:
        raise TaskNotFound(f"task {task_name!r} is not registered in this process: it can be delayed, but not called")

    return Task(app, not_here, task_name, app._options)


def _module_name(namespace: Mapping[str, Any]) -> str:
    """Return the importable name of a module, also of the one that was started as the program.

    `python myapp.py` and `worker myapp:app` must agree on the names of tasks.
    """
    name = str(namespace.get("__name__", "app"))
    if name not in ("__main__", "__mp_main__"):  # the second in a process that multiprocessing spawned
        return name
    spec = namespace.get("__spec__")
    if spec is not None and spec.name:  # python -m package.module
        return str(spec.name).removesuffix(".__main__")
    file: str | None = namespace.get("__file__")
    if not file or file.startswith("<"):  # python -c, a notebook; standard input
        return "__main__"
    return os.path.splitext(os.path.basename(file))[0]


def _is_redefinition(old: Callable[..., Any], new: Callable[..., Any]) -> bool:
    """Return whether `new` replaces `old` on purpose: a module that is reloaded, a notebook's cell that runs again."""
    if getattr(old, "__module__", None) != getattr(new, "__module__", None):
        return False
    if getattr(old, "__qualname__", None) != getattr(new, "__qualname__", None):
        return False
    old_code, new_code = getattr(old, "__code__", None), getattr(new, "__code__", None)
    if old_code is None or new_code is None:
        return False
    interactive = new.__module__ == "__main__" and not hasattr(sys.modules.get("__main__"), "__file__")
    same_place = (old_code.co_filename, old_code.co_firstlineno) == (new_code.co_filename, new_code.co_firstlineno)
    return interactive or same_place
