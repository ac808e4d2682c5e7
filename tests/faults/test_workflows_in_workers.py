"""Jobs that depend on each other, through a real worker: what is refused, how results flow, how dependants end."""

from __future__ import annotations

from typing import Any

import pytest
from workshop import Workshop, attempts, until

from gigq import DependencyError, Job, JobCancelled, JobFailed, JobNotFound, JobState, Workflow, chain, group

pytestmark = pytest.mark.slow  # each starts a worker, or shares one with its neighbours

CANCELLED, COMPLETED, FAILED, TIMEOUT = JobState.CANCELLED, JobState.COMPLETED, JobState.FAILED, JobState.TIMEOUT


@pytest.fixture(scope="module")
def shop(shared: Workshop) -> Any:
    """The module with the tasks, as the submitting program imports it."""
    return shared.load("hostile")


# -- refused


def submit_cycle(queue: Any, shop: Any) -> None:
    workflow = Workflow("circle")
    one, two, three = (workflow.add_job(Job(name, print)) for name in ("one", "two", "three"))
    for job, parent in ((one, three), (two, one), (three, two)):
        job.depend_on(parent)
    workflow.submit_all(queue)


def submit_self_dependency(queue: Any, shop: Any) -> None:
    job = Job("own", print)
    job.depend_on(job)
    queue.submit(job)


def submit_own_output(queue: Any, shop: Any) -> None:
    job = Job("own", print, args=[])
    job._args = (job.output,)
    queue.submit(job)


def submit_unknown_parent(queue: Any, shop: Any) -> None:
    queue.submit_many([Job("fine", print), Job("orphan", print, dependencies=["no-such-job"])])


def submit_pruned_parent(queue: Any, shop: Any) -> None:
    parent = shop.add.delay(1)
    assert parent.get(10) == 1
    shop.add.delay(2).get(10)  # the newest is never pruned
    while queue.prune(older_than=0):
        pass
    assert queue.storage.states([parent.id]) == {}
    queue.submit(Job("late", print, dependencies=[parent]))


@pytest.mark.parametrize(
    "submit",
    [submit_cycle, submit_self_dependency, submit_own_output, submit_unknown_parent, submit_pruned_parent],
)
def test_fault_40_dependencies_that_cannot_be_are_refused_and_nothing_is_stored(
    shared: Workshop, shop: Any, submit: Any
) -> None:
    with pytest.raises(DependencyError, match="nothing was stored"):
        submit(shared.queue, shop)
    names = {job.name for job in shared.queue.list(limit=1000)}
    assert names.isdisjoint({"one", "two", "three", "own", "fine", "orphan", "late"})
    assert shop.add.delay(1).get(10) == 1


# -- ends


def end_failed(shop: Any) -> Job[Any]:
    return shop.fail.options(max_attempts=1).job()


def end_timed_out(shop: Any) -> Job[Any]:
    return shop.hold.options(timeout=0.1, max_attempts=1).job("never")


def end_dead(shop: Any) -> Job[Any]:
    return shop.os_exit.options(max_attempts=1).job()


def end_cancelled(shop: Any) -> Job[Any]:
    return shop.hold.options(max_attempts=1).job("never")


def end_cancelled_early(shop: Any) -> Job[Any]:
    return shop.add.options(delay=3600).job(1)


def end_completed(shop: Any) -> Job[Any]:
    return shop.add.job(1)


ENDS = [  # how the parent ends, and its dependants: on success, on failure, always
    (end_completed, COMPLETED, COMPLETED, CANCELLED, COMPLETED),
    (end_failed, FAILED, CANCELLED, COMPLETED, COMPLETED),
    (end_dead, FAILED, CANCELLED, COMPLETED, COMPLETED),
    (end_timed_out, TIMEOUT, CANCELLED, COMPLETED, COMPLETED),
    (end_cancelled, CANCELLED, CANCELLED, CANCELLED, COMPLETED),
    (end_cancelled_early, CANCELLED, CANCELLED, CANCELLED, COMPLETED),
]


@pytest.mark.parametrize(("make", "end", "success", "failure", "always"), ENDS)
def test_fault_42_every_dependant_of_a_parent_has_its_end(
    shared: Workshop, shop: Any, make: Any, end: JobState, success: JobState, failure: JobState, always: JobState
) -> None:
    parent = make(shop)
    shared.queue.submit(parent)
    on_success, on_failure = parent.then(shop.echo), parent.then(describe_end, when="failure")
    on_success_of_it, in_any_case = on_success.then(shop.echo), parent.then(describe_end, when="always")
    if end is CANCELLED:
        until(lambda: parent.state is JobState.RUNNING or make is end_cancelled_early)
        parent.cancel()
    assert parent.wait(10) is end
    assert on_success.wait(10) is success
    assert on_success_of_it.wait(10) is success
    assert on_failure.wait(10) is failure
    assert in_any_case.wait(10) is always
    assert in_any_case.get(1) == f"{parent.name} {end}"
    for job in (on_success, on_success_of_it, on_failure):
        if job.state is CANCELLED:
            assert job.executions == []
            assert f"was {CANCELLED if job is on_success_of_it else end}" in (job.error or "")


def test_fault_42_a_parent_that_is_needed_is_not_pruned_and_one_that_is_gone_says_so(
    shared: Workshop, shop: Any
) -> None:
    parent, gone = shop.add.delay(7), shop.add.delay(8)
    assert (parent.get(10), gone.get(10)) == (7, 8)
    child = shop.add.options(delay=0.5).delay(parent.output, 1)
    while shared.queue.prune(older_than=0):
        pass
    assert parent.state is COMPLETED
    with pytest.raises(JobNotFound):
        gone.state
    with pytest.raises(DependencyError):
        gone.then(shop.echo)
    assert child.get(10) == 8


# -- results


def test_results_flow_through_chains_fans_and_containers(shared: Workshop, shop: Any) -> None:
    last = chain(shop.add.job(1, 2), shop.echo, lambda n: n * 10)
    shared.queue.submit(last)
    fan = [last.then(shop.add, n) for n in range(10)]
    total = group(*fan).then(sum)
    nested = shop.echo.delay({"total": [total.output, (last.output,)], "fan": [job.output for job in fan]})
    by_value = shared.queue.submit(Job(function=lambda box: box["a"]["b"][0] + 1, args=[{"a": {"b": [total.output]}}]))
    assert last.get(10) == 30
    assert total.get(10) == sum(30 + n for n in range(10))
    assert nested.get(10) == {"total": [345, (30,)], "fan": [30 + n for n in range(10)]}
    assert by_value.get(10) == 346
    assert {tuple(attempts(job)) for job in [last, *fan, total, nested, by_value]} == {(COMPLETED,)}


def test_a_failure_in_a_fan_ends_what_waits_for_all_of_it(shop: Any) -> None:
    parts = [shop.add.delay(1), shop.fail.options(max_attempts=1).delay(), shop.add.delay(2)]
    total = group(*parts).then(sum)
    with pytest.raises(JobCancelled, match="which it depends on, was FAILED"):
        total.get(10)
    with pytest.raises(JobFailed, match="on purpose"):
        parts[1].get(1)
    assert [parts[0].get(10), parts[2].get(10)] == [1, 2]


def describe_end(parent: Job[Any]) -> str:
    return f"{parent.name} {parent.state}"


describe_end.__module__ = "__main__"  # no worker can import this file
