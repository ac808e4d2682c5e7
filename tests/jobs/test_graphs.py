"""Jobs that depend on each other: outputs, chains, groups, workflows, and what is refused."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from gigq import (
    AlreadySubmitted,
    App,
    ConfigurationError,
    DependencyError,
    Job,
    JobQueue,
    JobState,
    PayloadError,
    Workflow,
    chain,
    group,
)
from gigq.storage.leases import End
from gigq.storage.rows import BY_VALUE, When
from gigq.testing.clock import FakeClock
from gigq.testing.harness import Harness


def one() -> int:
    return 1


def add(left: Any, right: Any = 10) -> Any:
    return left + right


def total(numbers: list[int]) -> int:
    return sum(numbers)


def echo(*args: Any, **params: Any) -> Any:
    return args, params


# -- outputs


def test_an_output_in_the_arguments_is_a_dependency_and_arrives_as_the_value(app: App, hand: Any) -> None:
    first = app.task(one).delay()
    second = app.task(add).delay(first.output, right=first.output)
    assert second.dependencies == [first.id]
    assert second.waiting_for is not None
    hand.run()
    assert hand.run() == 2
    assert second.get(timeout=5) == 2


def test_outputs_are_found_wherever_they_are_nested(app: App, hand: Any) -> None:
    task, collect = app.task(one), app.task(echo)
    jobs = [task.delay() for _ in range(5)]
    captured = jobs[4].output

    def by_closure() -> Any:
        return captured

    job = collect.delay(
        [jobs[0].output, (jobs[1].output, {"deep": {"deeper": [jobs[2].output]}})],
        keyword={jobs[3].id: frozenset([1]), "output": jobs[3].output},
        function=by_closure,
    )
    assert set(job.dependencies) == {job.id for job in jobs}
    for _ in jobs:
        hand.run()
    args, params = hand.run()
    assert args == ([1, (1, {"deep": {"deeper": [1]}})],)
    assert params["keyword"]["output"] == 1
    assert params["function"]() == 1


def test_an_output_that_is_used_twice_is_one_dependency(app: App) -> None:
    first = app.task(one).delay()
    assert app.task(add).delay(first.output, first.output).dependencies == [first.id]


def test_the_outputs_of_jobs_that_are_not_submitted_take_them_along(app: App, hand: Any) -> None:
    first = app.task(one).job()
    second = app.task(add).job([first.output], [2])
    assert second.dependencies == [first.id]
    app.submit(second)
    assert first.state is JobState.PENDING
    hand.run()
    assert hand.run() == [1, 2]


def test_an_output_of_another_database_is_refused(app: App, hand: Any, tmp_path: Path) -> None:
    other = App(tmp_path / "other.db", name="other")
    foreign = other.task(one).delay()
    with pytest.raises(DependencyError, match="another database"):
        app.task(add).delay(foreign.output)
    assert hand.stored() == 0
    other.queue.close()


# -- then


def test_then_gives_the_result_as_first_argument(app: App, hand: Any) -> None:
    job = app.task(one).delay().then(app.task(add), 5)
    hand.run()
    assert hand.run() == 6
    assert job.get(timeout=5) == 6


def test_then_on_a_job_that_has_ended_is_submitted_at_once(app: App, hand: Any) -> None:
    first = app.task(one).delay()
    hand.run()
    job = first.then(add, right=1)
    assert (job.state, hand.run()) == (JobState.PENDING, 2)


@pytest.mark.parametrize("submitted", [True, False])
@pytest.mark.parametrize("when", ["failure", "always"])
def test_a_handler_of_failures_is_given_the_job_that_ended(app: App, hand: Any, when: Any, submitted: bool) -> None:
    def report(job: Job[int]) -> str:
        return f"{job.id} {job.state}"

    first = app.task(one).delay() if submitted else app.task(one).job()
    handler = first.then(report, when=when)
    if not submitted:
        app.submit(handler)
    hand.fail(ValueError("no"))
    assert hand.run() == f"{first.id} FAILED"


def test_the_branch_that_is_not_taken_is_cancelled(app: App, hand: Any, states: Any) -> None:
    first = app.task(one).delay()
    good, bad = first.then(add), first.then(echo, when="failure")
    hand.run()
    assert states(good, bad) == [JobState.PENDING, JobState.CANCELLED]
    assert (bad.error or "").startswith("not needed")


def test_an_unknown_when_is_an_error(app: App, hand: Any) -> None:
    first = app.task(one).delay()
    with pytest.raises(ConfigurationError, match="when must be"):
        first.then(add, when="sometimes")  # type: ignore[call-overload]
    assert hand.stored() == 1


def test_waiting_for_both_ends_of_one_job_is_refused(app: App, hand: Any) -> None:
    first = app.task(one).job()
    job = Job(function=add, args=[first.output])
    job.depend_on(first, when="failure")
    with pytest.raises(DependencyError, match="could never run"):
        app.submit(job)
    assert hand.stored() == 0


def test_the_stricter_of_two_conditions_on_one_job_counts(app: App) -> None:
    first = app.task(one).delay()
    job = Job(function=echo, args=[first.output])
    job.depend_on(first, when="always")
    app.submit(job)
    assert [when for _, when in app.queue.storage.parents(job.id)] == [When.SUCCESS]


# -- what is refused (nothing is stored then)


def test_a_job_that_depends_on_itself_is_refused(app: App, hand: Any) -> None:
    for itself in (lambda job: job, lambda job: job.id):
        job = Job(function=one, name="snake")
        job.depend_on(itself(job))
        with pytest.raises(DependencyError, match="circle, got snake → snake; nothing was stored"):
            app.submit(job)
    assert hand.stored() == 0


@pytest.mark.parametrize("by_id", [False, True])
def test_a_circle_is_refused_and_named(app: App, hand: Any, by_id: bool) -> None:
    jobs = [Job(function=one, name=name) for name in "abc"]
    for job, parent in zip(jobs, [*jobs[1:], jobs[0]], strict=True):
        job.depend_on(parent.id if by_id else parent)
    other = Job(function=one)
    with pytest.raises(DependencyError, match=r"circle, got \w → \w → \w → \w;"):
        app.submit(other, *jobs)
    assert hand.stored() == 0
    assert repr(other).endswith("not submitted>")


def test_a_circle_behind_a_job_is_refused(app: App, hand: Any) -> None:
    left, right = Job(function=one, name="left"), Job(function=one, name="right")
    left.depend_on(right.id)
    right.depend_on(left.id)
    job = Job(function=one, dependencies=[left, right])
    with pytest.raises(DependencyError, match="circle"):
        app.submit(job)
    assert hand.stored() == 0


def test_an_unknown_dependency_is_refused(app: App, hand: Any) -> None:
    with pytest.raises(DependencyError, match="no-such-job"):
        app.submit(Job(function=one), Job(function=one, dependencies=["no-such-job"]))
    assert hand.stored() == 0


def test_a_stored_job_takes_no_more_dependencies(app: App) -> None:
    first, second = app.task(one).delay(), app.task(echo).delay()
    with pytest.raises(AlreadySubmitted):
        second.depend_on(first)


def test_one_job_that_cannot_be_pickled_stores_none_of_a_workflow(app: App, hand: Any) -> None:
    workflow = Workflow("flow")
    good = workflow.add_job(Job(function=one))
    workflow.add_job(Job(function=echo, args=[(number for number in ())]), depends_on=[good])
    with pytest.raises(PayloadError):
        workflow.submit_all(app)
    assert hand.stored() == 0


def test_jobs_that_were_refused_can_be_submitted_to_another_database(app: App, hand: Any, tmp_path: Path) -> None:
    parent = Job(function=one)
    child = Job(function=echo, args=[parent.output, parent], dependencies=[parent, "no-such-job"])
    with pytest.raises(DependencyError, match="no-such-job"):
        app.submit(child)
    assert hand.stored() == 0
    with pytest.raises(PayloadError, match="must be submitted before it can be pickled"):
        app.submit(Job(function=echo, args=[parent]))
    other = JobQueue(tmp_path / "other.db")
    other.submit(Job(function=echo, args=[parent], dependencies=[parent]))
    assert parent.state is JobState.PENDING
    assert other.get(parent.id).state is JobState.PENDING


def test_one_file_is_one_database_however_its_path_is_written(app: App, hand: Any, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link.db").symlink_to(tmp_path / "jobs.db")
    parent = app.task(one).delay()
    for path in (tmp_path / "folder" / ".." / "jobs.db", tmp_path / "link.db"):
        queue = JobQueue(path)
        assert queue.url == app.url
        queue.submit(Job(function=echo, dependencies=[parent]))
        queue.close()
    assert hand.stored() == 3


def test_a_task_of_an_app_with_another_database_is_refused(app: App, hand: Any, tmp_path: Path) -> None:
    other = App(tmp_path / "other.db", name="other")
    stranger = other.task(echo)
    job = app.task(one).delay()
    for submit in (
        lambda: job.then(stranger),
        lambda: app.submit(stranger.job(1)),
        lambda: app.submit(app.task(total).job([stranger.job(1).output])),  # as an ancestor, too
    ):
        with pytest.raises(ConfigurationError, match=r"belongs to the app of sqlite:.*other\.db"):
            submit()
    assert hand.stored() == 1
    JobQueue(app.url).submit(stranger.job(1))  # whoever names a queue means it
    App(app.url, name="neighbour").submit(app.tasks[job.function.name].job())
    assert hand.stored() == 3


@pytest.mark.parametrize("wrong", [3, [Job(function=one)], one])
def test_what_is_no_job_is_refused(app: App, hand: Any, wrong: Any) -> None:
    with pytest.raises(ConfigurationError, match="expected a Job"):
        app.submit(wrong)
    with pytest.raises(ConfigurationError, match="expected a Job"):
        app.queue.submit(wrong)
    with pytest.raises(ConfigurationError, match="takes a list of jobs"):
        app.queue.submit_many(Job(function=one))  # type: ignore[arg-type]
    assert hand.stored() == 0


# -- chains and groups


def test_submitting_the_last_job_of_a_chain_submits_all_of_it(app: App, hand: Any) -> None:
    last = chain(app.task(one), app.task(add), add, lambda number: number * 2)
    assert hand.stored() == 0
    app.submit(last)
    assert [hand.run() for _ in range(4)] == [1, 11, 21, 42]
    assert last.get(timeout=5) == 42


def test_a_chain_goes_on_from_a_submitted_job(app: App, hand: Any) -> None:
    last = chain(app.task(one).delay(), add, add)
    assert hand.stored() == 3
    assert last.state is JobState.PENDING


@pytest.mark.slow
def test_a_chain_of_thousands_is_submitted_without_recursion(app: App, hand: Any) -> None:
    last: Job[Any] = Job(function=one)
    for _ in range(3000):
        last = last.then(add)
    app.submit(last)
    assert hand.stored() == 3001


def test_a_chain_begins_with_a_job(app: App) -> None:
    with pytest.raises(ConfigurationError, match="a chain begins with a job"):
        chain(one, add)  # type: ignore[arg-type]


@pytest.mark.parametrize("submitted", [True, False])
def test_a_group_fans_in(app: App, hand: Any, submitted: bool) -> None:
    task = app.task(add)
    jobs = group(*(task.job(number, 0) for number in range(4)))
    if submitted:
        app.submit(jobs)
    job = jobs.then(total)
    if not submitted:
        app.submit(job)
    assert set(job.dependencies) == {member.id for member in jobs}
    for _ in jobs:
        hand.run()
    assert hand.run() == 6
    assert jobs.get(timeout=5) == [0, 1, 2, 3]


def test_a_group_is_a_sequence_of_jobs() -> None:
    jobs = group(*(Job(function=one) for _ in range(3)))
    assert (len(jobs), jobs[1], list(jobs[1:])) == (3, list(jobs)[1], list(jobs)[1:])
    with pytest.raises(ConfigurationError, match="made of jobs"):
        group(one)  # type: ignore[arg-type]
    assert list(group(list(jobs), (job for job in jobs))) == [*jobs, *jobs]
    with pytest.raises(ConfigurationError, match="empty group"):
        group().then(total)
    with pytest.raises(ConfigurationError, match="when='failure'"):
        jobs.then(total, when="failure")


# -- workflows


def test_the_pipeline_of_the_core_concepts_runs_in_its_order(tmp_path: Path) -> None:
    queue = JobQueue(tmp_path / "jobs.db")
    workflow = Workflow("data_pipeline")
    download, process, report, notify, archive = (
        Job(name=name, function=one) for name in ("download", "process", "report", "notify", "archive")
    )
    # In an order of adding that is not that of running.
    workflow.add_job(archive, depends_on=[report, notify])
    workflow.add_job(notify, depends_on=[process])
    workflow.add_job(process, depends_on=[download])
    workflow.add_job(report, depends_on=[process])
    workflow.add_job(download)
    assert workflow.submit_all(queue) == workflow.jobs
    assert {job.id for job in queue.list(workflow="data_pipeline")} == {job.id for job in workflow.jobs}
    assert len(queue.list(workflow=workflow.id)) == 5
    assert queue.get(archive.id).workflow == "data_pipeline"
    assert set(archive.dependencies) == {report.id, notify.id}
    harness = Harness(queue.storage, FakeClock())
    order = []
    while jobs := harness.claim(limit=1, tasks=[BY_VALUE]):
        order.append(jobs[0].name)
        harness.end(jobs[0])
    assert order[:2] == ["download", "process"]
    assert order[-1] == "archive"
    queue.close()


def test_a_workflow_is_submitted_once(app: App, hand: Any) -> None:
    workflow = Workflow("flow")
    workflow.add_job(Job(function=one))
    workflow.submit_all(app.queue)
    with pytest.raises(AlreadySubmitted):
        workflow.submit_all(app.queue)
    assert hand.stored() == 1


def test_mistakes_in_a_workflow_are_errors(app: App, hand: Any) -> None:
    with pytest.raises(ConfigurationError):
        Workflow("")
    workflow = Workflow("flow")
    job = workflow.add_job(Job(function=one))
    with pytest.raises(AlreadySubmitted, match="part of"):
        workflow.add_job(job)
    with pytest.raises(ConfigurationError, match=r"write \[job\]"):
        workflow.add_job(Job(function=one), depends_on=job)  # type: ignore[arg-type]
    circle = workflow.add_job(Job(function=one), depends_on=[job])
    job.depend_on(circle)
    with pytest.raises(DependencyError, match="circle"):
        workflow.submit_all(app)
    assert hand.stored() == 0


@pytest.mark.parametrize("end", [End.FAILED, End.TIMED_OUT, End.CANCELLED])
def test_a_bad_end_gives_every_dependant_a_documented_end(app: App, hand: Any, states: Any, end: End) -> None:
    first = app.task(one).delay()
    child = first.then(add)
    grandchild, failure, always = child.then(add), first.then(echo, when="failure"), first.then(echo, when="always")
    hand.fail(ValueError("no"), end)
    expected = JobState.CANCELLED if end is End.CANCELLED else JobState.PENDING
    assert states(child, grandchild, failure, always) == [
        JobState.CANCELLED,
        JobState.CANCELLED,
        expected,
        JobState.PENDING,
    ]
    assert first.id in (child.error or "")
    assert child.id in (grandchild.error or "")


def test_an_async_function_is_a_task_like_any_other(app: App) -> None:
    async def fetch(number: int) -> int:
        await asyncio.sleep(0)
        return number

    task = app.task(fetch)
    assert asyncio.run(task(5)) == 5
    assert task.delay(1).state is JobState.PENDING
