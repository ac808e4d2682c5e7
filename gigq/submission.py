"""From definitions to stored rows: payloads, dependencies, order, cycles."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NoReturn, cast

from gigq import payload
from gigq.errors import AlreadySubmitted, ConfigurationError, DependencyError
from gigq.handle import Binding
from gigq.job import Job, JobMaker, function_name
from gigq.redaction import HIDDEN
from gigq.storage.rows import BY_VALUE, NewJob, Parent, When
from gigq.summary import positional_names, summarise


def submit(binding: Binding, jobs: Iterable[Job[Any]]) -> None:
    """Store `jobs` in one transaction, and with them all jobs they depend on that are not stored yet.

    Nothing is stored if anything is wrong with any of them.

    Raises:
        AlreadySubmitted: one of them is stored already, or is given twice.
        ConfigurationError: one of them is no job, or calls a task of an app with another database.
        DependencyError: a dependency is unknown, in another database, or part of a cycle.
        PayloadError: arguments cannot be pickled.
    """
    jobs = list(jobs)
    _refuse_what_is_not_new(jobs)
    url = binding.storage.url
    drafts: dict[str, _Draft] = {}
    touched: list[Job[Any]] = []
    try:
        for job in jobs:
            if job.id not in drafts:
                _draft_with_ancestors(job, drafts, binding, touched)
        if not drafts:
            return
        _refuse_circles(drafts)
        rows = [draft.row(url) for draft in drafts.values()]
        signer = binding.signer
        if signer is not None:
            rows = [row._replace(arguments=signer.sign_arguments(row.arguments, row)) for row in rows]
        binding.storage.submit(rows)
    except BaseException:
        for job in touched:
            job._url = None  # it is not stored: it can be changed, and submitted elsewhere
        raise
    for draft in drafts.values():
        draft.job.bind(binding)


def _refuse_what_is_not_new(jobs: Sequence[Job[Any]]) -> None:
    seen: set[str] = set()
    for job in jobs:
        if not isinstance(job, Job):
            raise ConfigurationError(f"expected a Job, such as task.job(…), got {cast('object', job)!r}")
        if job._binding is not None:
            raise AlreadySubmitted(f"{job!r} is stored already: a job is one call; make another job to call it again")
        if job.id in seen:
            raise AlreadySubmitted(f"{job!r} was given twice: a job is one call; make another job to call it again")
        seen.add(job.id)


def _refuse_strange_task(binding: Binding, job: Job[Any]) -> None:
    """Refuse a task of another app with another database, whose workers would never look here."""
    function = job._function
    if not (binding.tasks and isinstance(function, JobMaker)) or function.name in binding.tasks:
        return
    if function.url != binding.storage.url:
        raise ConfigurationError(
            f"task {function.name!r} belongs to the app of {function.url}, got {binding.storage.url}: "
            "submit its jobs through its own app, whose workers know it"
        )


class _Draft:
    """A job on its way to become a row."""

    __slots__ = ("arguments", "job", "parents")

    def __init__(self, job: Job[Any], binding: Binding, touched: list[Job[Any]]) -> None:
        _refuse_strange_task(binding, job)
        url = binding.storage.url
        # Known from here on, so that a parent that is itself an argument can be pickled before it is stored.
        job._url = url
        touched.append(job)
        for parent, _ in job._parents:
            if isinstance(parent, Job) and parent._binding is None:
                parent._url = url
                touched.append(parent)
        self.job = job
        value = (job._args, job._params)
        if not isinstance(job._function, JobMaker):
            value = (job._function, *value)  # type: ignore[assignment]  # by value: the function travels first
        pickled = payload.dumps(value)
        self.arguments = pickled.data
        self.parents: list[tuple[Job[Any] | str, When]] = job._parents
        if pickled.outputs:
            self.parents = self.parents + [(output.job, When.SUCCESS) for output in pickled.outputs]

    def unsubmitted(self) -> list[Job[Any]]:
        """Return the parents that are not stored, the first of them last: where a stack wants it."""
        return [parent for parent, _ in reversed(self.parents) if isinstance(parent, Job) and parent._binding is None]

    def row(self, url: str) -> NewJob:
        job = self.job
        function = job._function
        job.check()
        by_name = isinstance(function, JobMaker)
        names = function.parameter_names if by_name else positional_names(function)
        workflow, workflow_id = job._workflow or (None, None)
        return NewJob(
            id=job.id,
            name=job.name,
            task=function.name if by_name else BY_VALUE,
            function=function.name if by_name else function_name(function),
            queue=job.queue,
            priority=job.priority,
            max_attempts=job.max_attempts,
            timeout=job.timeout,
            policy=None if job._policy is None else job._policy.to_json(),
            arguments=self.arguments,
            summary=summarise(job._args, job._params, names) if job._capture else HIDDEN,
            description=job.description,
            workflow=workflow,
            workflow_id=workflow_id,
            delay=job._delay,
            run_at=job._run_at,
            parents=self._edges(url) if self.parents else (),
        )

    def _edges(self, url: str) -> list[Parent]:
        edges: dict[str, When] = {}
        for parent, when in self.parents:
            if isinstance(parent, Job) and parent._url not in (None, url):
                raise DependencyError(
                    f"{self.job!r} depends on {parent!r}, which is in another database ({parent._url})"
                )
            parent_id = parent if isinstance(parent, str) else parent.id
            edges[parent_id] = self._both(parent_id, edges.get(parent_id, when), when)
        return [Parent(parent_id, when) for parent_id, when in edges.items()]

    def _both(self, parent_id: str, one: When, other: When) -> When:
        if {one, other} == {When.SUCCESS, When.FAILURE}:
            raise DependencyError(f"{self.job!r} waits for both success and failure of {parent_id}: it could never run")
        return other if one is When.ALWAYS else one


def _refuse_circles(drafts: dict[str, _Draft]) -> None:
    """Refuse a circle that is closed by ids: one of jobs alone is found while drafting."""
    edges = (parent for draft in drafts.values() for parent, _ in draft.parents)
    if not any(isinstance(parent, str) and parent in drafts for parent in edges):
        return
    from graphlib import CycleError, TopologicalSorter  # needed by few programs, so not by `import gigq`

    parents = {
        job_id: {parent if isinstance(parent, str) else parent.id for parent, _ in draft.parents} & drafts.keys()
        for job_id, draft in drafts.items()
    }
    try:
        TopologicalSorter(parents).prepare()
    except CycleError as error:
        _refuse_circle([drafts[job_id].job for job_id in error.args[1]])


def _refuse_circle(cycle: Sequence[Job[Any]]) -> NoReturn:
    names = " → ".join(job.name for job in cycle)
    raise DependencyError(f"jobs must not depend on each other in a circle, got {names}; nothing was stored")


def _draft_with_ancestors(job: Job[Any], drafts: dict[str, _Draft], binding: Binding, touched: list[Job[Any]]) -> None:
    """Add drafts of `job` and of its unsubmitted ancestors, parents first. No recursion: chains may be long.

    `touched` collects the jobs that were told their database.
    """
    draft = _Draft(job, binding, touched)
    if not draft.parents:  # nearly every job, and the rest of this costs as much as drafting it
        drafts[job.id] = draft
        return
    path: dict[str, _Draft] = {}  # the jobs between `job` and the one being looked at, in that order
    stack: list[tuple[_Draft, list[Job[Any]]]] = []

    def enter(draft: _Draft) -> None:
        path[draft.job.id] = draft
        stack.append((draft, draft.unsubmitted()))

    enter(draft)
    while stack:
        draft, rest = stack[-1]
        if not rest:
            stack.pop()
            del path[draft.job.id]
            drafts[draft.job.id] = draft
            continue
        parent = rest.pop()
        if parent.id in path:
            cycle = [*list(path)[list(path).index(parent.id) :], parent.id]
            _refuse_circle([path[job_id].job for job_id in reversed(cycle)])
        if parent.id not in drafts:
            enter(_Draft(parent, binding, touched))
