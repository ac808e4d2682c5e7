"""Jobs as definitions, and as handles on stored rows."""

from __future__ import annotations

import copy
import functools
import pickle
from contextvars import copy_context
from pathlib import Path
from typing import Any

import pytest

from gigq import (
    AlreadySubmitted,
    App,
    ConfigurationError,
    Job,
    JobCancelled,
    JobFailed,
    JobNotFound,
    JobQueue,
    JobState,
    JobTimedOut,
    NotSubmitted,
    TaskNotFound,
    WaitingInTask,
)
from gigq.context import CurrentJob, enter_job
from gigq.errors import TaskError
from gigq.storage.leases import End
from gigq.testing.harness import outcome


def double(number: int) -> int:
    """Double a number."""
    return number * 2


def test_a_job_of_a_plain_function_has_the_documented_attributes(tmp_path: Path) -> None:
    queue = JobQueue(tmp_path / "jobs.db")
    job: Job[int] = Job(
        name="twice",
        function=double,
        params={"number": 4},
        priority=2,
        max_attempts=5,
        timeout=1.5,
        description="Doubles.",
    )
    assert queue.submit(job) is job
    found = queue.get(job.id)
    assert found == job
    assert (found.name, found.params, found.priority) == ("twice", {"number": 4}, 2)
    assert (found.max_attempts, found.timeout, found.description) == (5, 1.5, "Doubles.")
    assert (found.function(**found.params), found.queue, found.dependencies) == (8, "default", [])
    queue.close()


@pytest.mark.parametrize(
    ("function", "name"),
    [(double, "double"), (functools.partial(double, 1), "double"), ("".join, "str.join"), (Path, "Path")],
)
def test_a_job_is_named_after_its_function(function: Any, name: str) -> None:
    assert Job(function=function).name == name


@pytest.mark.parametrize("function", [None, "double", 42])
def test_a_job_needs_something_to_call(function: Any) -> None:
    with pytest.raises(ConfigurationError, match="function must be"):
        Job(function=function)


@pytest.mark.parametrize(
    "options",
    [{"priority": 1.5}, {"max_attempts": 0}, {"timeout": -1}, {"queue": "a b"}, {"name": 5}, {"dependencies": [5]}],
)
def test_wrong_options_of_a_job_are_errors(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        Job(function=double, **options)


def test_a_job_that_is_not_submitted_has_no_state(app: App) -> None:
    job = Job(function=double, args=[1])
    for ask in (lambda: job.state, lambda: job.error, job.get, job.cancel, lambda: job.executions):
        with pytest.raises(NotSubmitted, match="submit it first"):
            ask()
    assert "not submitted" in repr(job)


def test_a_job_is_submitted_once(app: App, hand: Any) -> None:
    job = app.task(double).delay(1)
    with pytest.raises(AlreadySubmitted):
        app.submit(job)
    twice = Job(function=double, args=[1])
    with pytest.raises(AlreadySubmitted):
        app.submit(twice, twice)
    assert hand.stored() == 1


def test_an_unknown_job_is_an_error_and_a_key_error(app: App) -> None:
    for ask in (app.get, app.queue.cancel, app.queue.retry, app.queue.executions):
        with pytest.raises(JobNotFound) as caught:
            ask("no-such-job")
        assert isinstance(caught.value, KeyError)
        assert "'no-such-job'" in str(caught.value)


# -- results


def test_get_returns_the_result(app: App, hand: Any) -> None:
    job = app.task(double).delay(21)
    hand.run()
    assert job.get(timeout=5) == 42
    assert app.get(job.id).get(timeout=5) == 42
    assert (job.attempts, job.error, job.waiting_for) == (1, None, None)


def test_a_failure_is_raised_with_what_the_worker_saw(app: App, hand: Any) -> None:
    job = app.task(name="shop.double")(double).delay(1)
    try:
        int("many")
    except ValueError as error:
        hand.fail(error)
    with pytest.raises(JobFailed) as caught:
        app.get(job.id).get(timeout=5)
    failed = caught.value
    assert (failed.job_id, failed.name, failed.type) == (job.id, "shop.double", "ValueError")
    assert failed.message == "invalid literal for int() with base 10: 'many'"
    assert 'int("many")' in failed.traceback
    assert isinstance(failed.__cause__, TaskError)
    assert job.error == "ValueError: invalid literal for int() with base 10: 'many'"
    again = pickle.loads(pickle.dumps(failed))
    assert (str(again), again.traceback) == (str(failed), failed.traceback)


def test_the_failure_that_is_raised_is_that_of_the_last_attempt(app: App, hand: Any) -> None:
    job = app.task(max_attempts=2)(double).delay(1)
    first = hand.claim()
    retried = outcome(first, End.FAILED, 1.0, reason="the first", retry_in=0)
    hand.storage.finish("hand", [retried])
    hand.end(hand.claim(), End.RELEASED)
    with pytest.raises(JobFailed, match="worker shut down"):
        job.get(timeout=5)


def test_a_timeout_and_a_cancellation_are_errors_of_their_own(app: App, hand: Any) -> None:
    task = app.task(double)
    late, unwanted = task.delay(1), task.delay(2)
    hand.fail(TimeoutError("ran for 2 s"), End.TIMED_OUT)
    assert unwanted.cancel("not today") is JobState.CANCELLED
    with pytest.raises(JobTimedOut, match="ran for 2 s"):
        late.get(timeout=5)
    with pytest.raises(JobCancelled, match="not today"):
        unwanted.get(timeout=5)


def test_waiting_too_long_is_the_builtin_timeout(app: App) -> None:
    job = app.task(double).delay(1)
    with pytest.raises(TimeoutError, match="still PENDING"):
        job.get(timeout=0)
    with pytest.raises(ConfigurationError):
        job.get(timeout=-1)


def test_a_retry_makes_a_failed_job_pending_again(app: App, hand: Any) -> None:
    job = app.task(double).delay(1)
    hand.fail(ValueError("once"))
    assert app.queue.retry(job.id).state is JobState.PENDING
    hand.run()
    assert job.get(timeout=5) == 2
    assert [execution.state for execution in job.executions] == [JobState.FAILED, JobState.COMPLETED]


def _ask_within_a_task(job: Job[int]) -> None:
    enter_job(CurrentJob("id", "name", "task", "default", 1, 3, None, lambda fraction, message: None))
    with pytest.raises(WaitingInTask, match=r"job\.then"):
        job.get()
    with pytest.raises(WaitingInTask):
        job.wait()
    assert job.get(within_task=True) == 2


def test_waiting_for_another_job_inside_a_task_is_refused_unless_asked_for(app: App, hand: Any) -> None:
    job = app.task(double).delay(1)
    hand.run()
    copy_context().run(_ask_within_a_task, job)
    assert job.get(timeout=5) == 2


# -- pickling


def test_a_stored_job_arrives_as_a_handle(app: App, hand: Any) -> None:
    job = app.task(double).delay(21)
    again = pickle.loads(pickle.dumps(job))
    assert (again, again.name) == (job, job.name)
    hand.run()
    assert again.get(timeout=5) == 42


def test_a_job_that_is_not_stored_cannot_be_pickled(app: App) -> None:
    with pytest.raises(NotSubmitted, match=r"\.output"):
        pickle.dumps(Job(function=double, args=[1]))


def test_a_queue_arrives_without_its_connection(app: App) -> None:
    job = app.task(double).delay(1)
    again = pickle.loads(pickle.dumps(app.queue))
    assert (again.url, again.durability) == (app.queue.url, "process")
    assert again.get(job.id).state is JobState.PENDING
    again.close()


def test_apps_and_tasks_arrive_as_those_of_the_process(app: App) -> None:
    task = app.task(double)
    assert pickle.loads(pickle.dumps(app)) is app
    assert pickle.loads(pickle.dumps(task)) is task
    assert copy.copy(task) is task
    assert len(pickle.dumps(task)) < 400  # names, not code


def test_a_task_that_is_not_registered_here_can_be_delayed_but_not_called(tmp_path: Path) -> None:
    app = App(tmp_path / "jobs.db", name="far")
    restore, arguments = app.task(double).__reduce__()
    app._tasks.clear()
    task = restore(*arguments)
    job = task.delay(1)
    assert app.queue.storage.get(job.id).task == task.name
    with pytest.raises(TaskNotFound, match="not registered in this process"):
        task(1)
    with pytest.raises(TaskNotFound, match="not registered here"):
        app.get(job.id).function
    app.queue.close()


def test_a_relative_path_is_that_of_the_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    app = App("jobs.db", name="here")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    app.task(double).delay(1)
    assert (tmp_path / "jobs.db").exists()
    app.queue.close()


def test_the_environment_names_the_database_when_nobody_else_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIGQ_URL", f"sqlite:///{tmp_path}/from env.db")
    assert App().url == f"sqlite:///{tmp_path}/from%20env.db"
    assert App(tmp_path / "own.db").url == f"sqlite:///{tmp_path}/own.db"


@pytest.mark.parametrize("url", ["", "mysql://here/jobs", "sqlite://host/jobs.db", "sqlite:///", "sqlite:///a.db?x=1"])
def test_urls_that_name_no_database_are_errors(url: str) -> None:
    with pytest.raises(ConfigurationError):
        App(url)


def test_an_unknown_durability_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="durability"):
        App(tmp_path / "jobs.db", durability="none")  # type: ignore[arg-type]
