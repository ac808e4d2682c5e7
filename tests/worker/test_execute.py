"""Running one job, without any pool around it."""

from __future__ import annotations

import asyncio
import functools
import sys
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from pool_driver import FakeApp, make_job

from gigq.context import current_job
from gigq.errors import StorageBusy
from gigq.job import Job
from gigq.payload import Output, dumps, loads
from gigq.retry import Retry, RetryPolicy
from gigq.storage.leases import ClaimedJob
from gigq.worker.execute import Execution, Executor, Overdue


def no_results(job_id: str) -> bytes | None:
    raise AssertionError(f"nobody needs the result of {job_id}")


def execute(
    function: Callable[..., Any],
    job: ClaimedJob,
    *,
    read_result: Callable[[str], bytes | None] = no_results,
    read_arguments: Callable[[str], bytes] = lambda job_id: b"",
    limit: int = 1 << 20,
) -> Execution:
    executor = Executor(
        FakeApp(function).tasks, RetryPolicy(), read_result, read_arguments, asyncio.run, result_limit_bytes=limit
    )
    return executor.execute(job, lambda fraction, message: None)


def add(a: int, b: int = 1) -> int:
    return a + b


def value_of(execution: Execution) -> Any:
    assert execution.failure is None
    return None if execution.result is None else loads(execution.result, no_results)


def test_a_result_is_pickled() -> None:
    assert value_of(execute(add, make_job("add", 1, b=2))) == 3


def test_none_is_no_bytes() -> None:
    def nothing() -> None: ...

    assert execute(nothing, make_job("nothing")).result is None


def test_a_coroutine_is_run_in_the_context_of_its_job() -> None:
    async def who() -> str:
        await asyncio.sleep(0)
        return current_job().id

    job = make_job("who")
    assert value_of(execute(who, job)) == job.id


def test_a_function_can_travel_with_its_job() -> None:
    assert value_of(execute(add, make_job(lambda n: n * 2, 21, by_value=True))) == 42


def test_an_output_becomes_the_parents_result() -> None:
    parent = Job(function=add, params={"a": 1})
    job = make_job("add", Output(parent), b=1)
    read = {parent.id: dumps(41).data}.get
    assert value_of(execute(add, job, read_result=read)) == 42


def test_big_arguments_are_read_from_the_storage() -> None:
    job = make_job("add", inline=False)
    assert value_of(execute(add, job, read_arguments=lambda job_id: dumps(((1, 2), {})).data)) == 3


def test_a_locked_database_is_worth_a_retry_whatever_the_policy_says() -> None:
    def locked(job_id: str) -> bytes:
        raise StorageBusy("locked")

    execution = execute(add, make_job("add", inline=False, policy=RetryPolicy(on=())), read_arguments=locked)
    assert execution.failure is not None
    assert execution.failure.type == "StorageBusy"
    assert execution.retryable


def test_arguments_that_do_not_fit_say_what_was_expected_and_what_came() -> None:  # fault 32
    execution = execute(add, make_job("add", 1, c="x"))
    assert execution.failure is not None
    assert not execution.retryable
    assert "unexpected keyword argument 'c'" in execution.failure.message
    assert "expected add(a: 'int', b: 'int' = 1) -> 'int'" in execution.failure.message
    assert "got (1, c='x')" in execution.failure.message


def test_a_type_error_of_the_task_itself_is_its_own() -> None:
    def broken(a: int) -> None:
        raise TypeError("mine")

    execution = execute(broken, make_job("broken", 1))
    assert execution.failure is not None
    assert execution.failure.message == "mine"
    assert execution.retryable


def test_a_decorator_may_add_arguments() -> None:
    def with_session(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def wrapper(*args: Any) -> Any:
            return function("session", *args)

        return wrapper

    @with_session
    def use(session: str, n: int) -> None:
        raise TypeError(f"{session} {n}")

    execution = execute(use, make_job("use", 1))
    assert execution.failure is not None
    assert execution.failure.message == "session 1"


def test_a_result_that_cannot_be_pickled_fails_without_retry() -> None:  # fault 27
    def open_file() -> Any:
        return [sys.stdout]

    execution = execute(open_file, make_job("open_file"))
    assert execution.failure is not None
    assert "the result must be picklable" in execution.failure.message
    assert not execution.retryable


def test_a_result_above_the_limit_fails_without_retry() -> None:  # fault 29
    def big() -> bytes:
        return bytes(5000)

    execution = execute(big, make_job("big"), limit=4096)
    assert execution.failure is not None
    assert execution.failure.type == "ResultTooLarge"
    assert "at most 4096 bytes" in execution.failure.message
    assert not execution.retryable


class Unloadable(Exception):
    """Pickles, but does not unpickle: it wants two arguments."""

    def __init__(self, one: str, two: str) -> None:
        super().__init__(one)


class Unprintable(Exception):
    def __str__(self) -> str:
        raise SystemExit("from __str__")


def test_an_exception_that_does_not_unpickle_is_kept_as_text() -> None:  # fault 28
    def fail() -> None:
        raise Unloadable("first", "second")

    execution = execute(fail, make_job("fail"))
    assert execution.failure is not None
    assert execution.failure.type == "Unloadable"
    assert execution.failure.message == "first"


def test_an_exception_that_cannot_be_shown_is_one_failure() -> None:
    def fail() -> None:
        raise Unprintable

    execution = execute(fail, make_job("fail"))
    assert execution.failure is not None
    assert execution.failure.type == "Unprintable"


def test_a_traceback_starts_in_the_tasks_own_code() -> None:
    def fail() -> None:
        raise ValueError("no")

    execution = execute(fail, make_job("fail"))
    assert execution.failure is not None
    assert execution.failure.traceback.count("File ") == 1
    assert "in fail" in execution.failure.traceback


def test_a_traceback_of_a_coroutine_starts_in_it() -> None:
    async def fail() -> None:
        raise ValueError("no")

    execution = execute(fail, make_job("fail"))
    assert execution.failure is not None
    assert execution.failure.traceback.count("File ") == 1


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit(), BaseException("x")])
def test_what_is_not_an_exception_fails_one_attempt(error: BaseException) -> None:  # fault 34
    def leave() -> None:
        raise error

    execution = execute(leave, make_job("leave", policy=RetryPolicy(on=())))
    assert execution.failure is not None
    assert execution.failure.type == type(error).__name__
    assert execution.retryable


def test_overdue_passes_through() -> None:
    def stop() -> None:
        raise Overdue

    with pytest.raises(Overdue):
        execute(stop, make_job("stop"))


def test_the_policy_of_the_job_decides_before_that_of_the_task() -> None:
    def fail() -> None:
        raise KeyError("k")

    assert execute(fail, make_job("fail")).retryable
    assert not execute(fail, make_job("fail", policy=RetryPolicy(on=("builtins.OSError",)))).retryable
    assert execute(fail, make_job("fail", policy=RetryPolicy(on=("builtins.LookupError",)))).retryable


def test_retry_asks_for_its_own_delay() -> None:
    def again() -> None:
        raise Retry("later", delay=60)

    execution = execute(again, make_job("again", policy=RetryPolicy(on=())))
    assert execution.retryable
    assert execution.retry_delay == 60


def test_an_unknown_task_is_a_failed_attempt() -> None:
    execution = execute(add, make_job("subtract"))
    assert execution.failure is not None
    assert "knows no task 'subtract'" in execution.failure.message


def test_arguments_that_cannot_be_unpickled_are_a_failed_attempt() -> None:
    job = make_job("add")._replace(arguments=b"\x80\x05cno_such_module\nthing\n.")
    execution = execute(add, job)
    assert execution.failure is not None
    assert execution.failure.type == "PayloadError"
    assert "no_such_module" in execution.failure.message


def test_the_context_ends_with_the_job() -> None:
    from gigq.context import is_in_job

    execute(add, make_job("add", 1))
    assert not is_in_job()


def test_what_a_job_binds_in_its_context_is_not_seen_by_the_next() -> None:
    variable: ContextVar[str] = ContextVar("variable", default="unset")

    def bind() -> str:
        before = variable.get()
        variable.set("bound")
        return before

    assert [value_of(execute(bind, make_job("bind"))) for _ in range(2)] == ["unset", "unset"]


@dataclass(frozen=True)
class Frozen(Exception):
    """Does not let itself be changed."""

    code: int


class BareRetry(Retry):
    """Forgets to call its base."""

    def __init__(self) -> None:
        Exception.__init__(self, "bare")


class OddRetry(Retry):
    """Holds what is no number of seconds."""

    def __init__(self, delay: Any) -> None:
        super().__init__("odd")
        self.delay = delay


@pytest.mark.parametrize(
    ("error", "delay"),
    [
        (Frozen(3), None),
        (BareRetry(), None),
        (OddRetry("soon"), None),
        (OddRetry(float("nan")), None),
        (OddRetry(timedelta(seconds=5)), 5.0),
        (ValueError("bad file name \udcff\0"), None),
    ],
)
def test_whatever_is_raised_becomes_a_failure_that_can_be_stored(error: Exception, delay: float | None) -> None:
    def raise_it() -> None:
        raise error

    execution = execute(raise_it, make_job("raise_it"))
    assert execution.failure is not None
    assert execution.failure.type == type(error).__name__
    assert execution.failure.to_json().isascii()
    str(execution.failure).encode()  # a lone surrogate would not go through
    assert "\0" not in str(execution.failure)
    assert (execution.retryable, execution.retry_delay) == (True, delay)


def test_the_output_of_another_job_is_no_result() -> None:
    execution = execute(lambda: Output(Job("other", print)), make_job("<lambda>"))
    assert execution.failure is not None
    assert "a result must be a value, got <output of other" in execution.failure.message
    assert not execution.retryable
