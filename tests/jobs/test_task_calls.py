"""Calling, delaying and configuring tasks."""

from __future__ import annotations

import asyncio
import functools
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from gigq import App, ConfigurationError, Job, JobState, TaskExists
from gigq.retry import RetryPolicy


def test_a_task_is_still_the_function(app: App) -> None:
    @app.task
    def pack(parcel: str, weight: int = 1) -> str:
        """Pack a parcel.

        With care.
        """
        return parcel * weight

    assert pack("a", weight=2) == "aa"
    assert (pack.__name__, pack.__doc__) == ("pack", pack.function.__doc__)


def test_delay_stores_the_call_with_the_tasks_options(app: App) -> None:
    @app.task(name="shop.pack", queue="fast", priority=5, timeout=timedelta(seconds=30), max_attempts=7)
    def pack(parcel: str) -> None:
        """Pack a parcel.

        With care.
        """

    job = pack.delay("a")
    row = app.queue.storage.get(job.id)
    assert (row.task, row.queue, row.priority, row.timeout, row.max_attempts) == ("shop.pack", "fast", 5, 30.0, 7)
    assert (row.description, row.summary, row.policy) == ("Pack a parcel.", "'a'", None)
    assert job.state is JobState.PENDING
    assert (job.function, job.args, job.params) == (pack, ("a",), {})


def test_defaults_are_those_that_are_documented(app: App) -> None:
    @app.task
    def pack() -> None: ...

    row = app.queue.storage.get(pack.delay().id)
    assert (row.queue, row.priority, row.timeout, row.max_attempts) == ("default", 0, None, 3)
    assert pack.policy == RetryPolicy(("builtins.Exception",), 1.0, 2.0, 3600.0, 0.5, False)


def test_an_app_gives_its_defaults_to_all_its_tasks(tmp_path: Any) -> None:
    app = App(tmp_path / "jobs.db", name="shop", queue="slow", max_attempts=9)

    @app.task(max_attempts=2)
    def pack() -> None: ...

    assert (pack.call_options.queue, pack.call_options.max_attempts) == ("slow", 2)


@pytest.mark.parametrize(
    ("args", "params"),
    [((), {}), ((1, 2, 3), {}), ((1,), {"colour": "red"}), ((1, 2), {"weight": 3}), ((), {"weight": 1})],
)
def test_arguments_that_do_not_fit_are_a_type_error_and_nothing_is_stored(
    app: App, hand: Any, args: tuple[Any, ...], params: dict[str, Any]
) -> None:
    @app.task
    def pack(parcel: int, weight: int = 1) -> None: ...

    for submit in (pack.delay, pack.job, lambda *a, **p: asyncio.run(pack.adelay(*a, **p))):
        with pytest.raises(TypeError, match=r"pack\(parcel.* cannot be called like this"):
            submit(*args, **params)  # type: ignore[operator]
    assert hand.stored() == 0


def test_a_job_made_by_hand_is_checked_as_delay_is(app: App) -> None:
    @app.task
    def add(a: int, b: int = 0) -> int:
        return a + b

    with pytest.raises(TypeError, match="unexpected keyword argument 'zz'"):
        Job(function=add, params={"a": 1, "zz": 1})
    with pytest.raises(ConfigurationError, match="params must be a dict"):
        Job(function=add, params=[1, 2])  # type: ignore[arg-type]
    for args in (1, "ab"):
        with pytest.raises(ConfigurationError, match="args must be a list or tuple"):
            Job(function=add, args=args)  # type: ignore[arg-type]


def test_every_kind_of_parameter_is_checked_as_python_does(app: App) -> None:
    @app.task
    def pack(first: int, /, second: int = 2, *rest: int, only: int, **more: int) -> None: ...

    for args, params in [((1,), {"only": 1}), ((1, 2, 3, 4), {"only": 1, "other": 2})]:
        pack.job(*args, **params)
    for args, params in [((1,), {}), ((), {"second": 1, "only": 2})]:
        with pytest.raises(TypeError):
            pack.job(*args, **params)


@pytest.mark.parametrize(
    "options",
    [
        {"priority": "high"},
        {"priority": True},
        {"priority": 2**40},
        {"queue": ""},
        {"queue": "no spaces"},
        {"queue": "x" * 101},
        {"timeout": 0},
        {"timeout": -1},
        {"timeout": "30"},
        {"timeout": float("nan")},
        {"max_attempts": 0},
        {"max_attempts": 2.0},
        {"retry_on": ValueError("an instance")},
        {"retry_on": (ValueError, "TypeError")},
        {"retry_delay": -1},
        {"retry_backoff": 0.5},
        {"retry_max_delay": float("inf")},
        {"retry_jitter": 1.5},
        {"retry_on_timeout": 1},
        {"description": None},
        {"colour": "red"},
        {"delay": 5},
        {"name": "no spaces"},
        {"name": ""},
    ],
)
def test_wrong_options_are_errors_when_the_function_is_decorated(app: App, options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):

        @app.task(**options)
        def pack() -> None: ...

    assert app.tasks == {}


@pytest.mark.parametrize("thing", [42, int, len, functools.partial(print), staticmethod(print)])
def test_only_functions_can_be_decorated(app: App, thing: Any) -> None:
    with pytest.raises(ConfigurationError, match="decorates a function"):
        app.task(thing)
    with pytest.raises(ConfigurationError, match="decorates a function"):
        app.task(name="named")(thing)


def test_two_functions_of_one_name_are_refused(app: App) -> None:
    @app.task(name="shop.pack")
    def pack() -> None: ...

    with pytest.raises(TaskExists, match=r"shop\.pack"):

        @app.task(name="shop.pack")
        def send() -> None: ...

    assert app.tasks["shop.pack"] is pack


def test_a_module_that_is_loaded_again_replaces_its_tasks(app: App) -> None:
    source = "def pack(): ..."
    for _ in range(2):
        namespace: dict[str, Any] = {"__name__": "shop.parcels"}
        exec(compile(source, "parcels.py", "exec"), namespace)
        task = app.task(namespace["pack"])
    assert app.tasks == {"shop.parcels.pack": task}


def test_options_change_the_calls_made_through_them_and_nothing_else(app: App) -> None:
    @app.task(priority=1)
    def pack(parcel: int) -> None: ...

    urgent = pack.options(priority=9).options(queue="fast", retry_delay=5)
    row = app.queue.storage.get(urgent.delay(1).id)
    assert (row.priority, row.queue, row.task) == (9, "fast", pack.name)
    assert RetryPolicy.from_json(row.policy or "").delay == 5.0
    assert app.queue.storage.get(pack.delay(1).id).priority == 1
    assert app.tasks == {pack.name: pack}


@pytest.mark.parametrize("options", [{"name": "x"}, {"delay": -1}, {"run_at": 5}, {"colour": "red"}])
def test_wrong_options_of_calls_are_errors(app: App, options: dict[str, Any]) -> None:
    @app.task
    def pack() -> None: ...

    with pytest.raises(ConfigurationError):
        pack.options(**options)


def test_run_at_needs_a_timezone_and_excludes_delay(app: App) -> None:
    @app.task
    def pack() -> None: ...

    with pytest.raises(ConfigurationError, match="timezone"):
        pack.options(run_at=datetime(2030, 1, 1))
    with pytest.raises(ConfigurationError, match="got both"):
        pack.options(delay=5, run_at=datetime.now(UTC))


def test_a_delayed_call_is_due_at_its_time(app: App) -> None:
    @app.task
    def pack() -> None: ...

    instant = datetime(2100, 1, 1, tzinfo=UTC)
    row = app.queue.storage.get(pack.options(run_at=instant).delay().id)
    assert row.due_at == instant.timestamp()
    row = app.queue.storage.get(pack.options(delay=timedelta(minutes=1)).delay().id)
    assert row.due_at == pytest.approx(row.submitted_at + 60)
    assert app.queue.storage.get(pack.options(delay=0).delay().id).due_at is None


def test_map_stores_one_job_for_each_item_in_order(app: App, hand: Any) -> None:
    @app.task
    def double(number: int) -> int:
        return number * 2

    jobs = double.map(iter(range(4)))
    assert [hand.run() for _ in jobs] == [0, 2, 4, 6]
    assert jobs.get(timeout=5) == [0, 2, 4, 6]
    assert double.map([]).get() == []


def test_map_stores_all_or_nothing(app: App, hand: Any) -> None:
    @app.task
    def double(number: Any) -> Any: ...

    with pytest.raises(TypeError):
        double.map([1, iter([2]), (n for n in [3])])
    assert hand.stored() == 0


def test_a_backoff_that_overflows_is_the_longest_delay() -> None:
    policy = RetryPolicy().changed({"retry_backoff": 1e30, "retry_jitter": 0})
    assert policy.delay_after(1) == 1.0
    assert policy.delay_after(1000) == 3600.0


def test_delays_grow_up_to_the_longest_and_jitter_shortens_them() -> None:
    policy = RetryPolicy(jitter=0.5)
    assert [policy.delay_after(attempt, lambda: 0.0) for attempt in (1, 2, 3, 20)] == [1.0, 2.0, 4.0, 3600.0]
    assert policy.delay_after(3, lambda: 1.0) == 2.0


def test_a_policy_covers_subclasses_of_what_it_names() -> None:
    policy = RetryPolicy().changed({"retry_on": (LookupError, OSError)})
    assert policy.covers(KeyError())
    assert not policy.covers(ValueError())
    assert RetryPolicy.from_json(policy.to_json()) == policy
