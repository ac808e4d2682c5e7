"""What travels as bytes, what cannot, and that nothing but a child or its owner ever loads it."""

from __future__ import annotations

import functools
import pickle
import threading
from pathlib import Path
from typing import Any

import pytest

from gigq import App, Job, JobState, PayloadError, payload
from gigq.payload import Failure
from gigq.states import JobState as State
from gigq.storage.leases import End


def echo(*args: Any, **params: Any) -> Any:
    return args, params


def no_results(job_id: str) -> bytes | None:
    raise AssertionError(f"no result was asked for, got {job_id}")


class Trap:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


class Unpicklable:
    def __reduce__(self) -> tuple[Any, ...]:
        raise RuntimeError("not today")


@pytest.mark.parametrize(
    "value",
    [
        None,
        ((1, "two", b"three", 4.0, None), {"key": [True, {"nested": ()}]}),
        [list(range(1000))],
        {1: {2: {3: {4: {5: "deep"}}}}},
        {frozenset({1}), Path("a")},
    ],
)
def test_values_come_back_as_they_were(value: Any) -> None:
    pickled = payload.dumps(value)
    assert payload.loads(pickled.data, no_results) == value
    assert not pickled.outputs


@pytest.mark.parametrize(
    "function",
    [lambda: 7, functools.partial(int, "7"), "sevenal".__len__, functools.partial(lambda *, number: number, number=7)],
)
def test_functions_of_any_kind_travel(function: Any) -> None:
    assert payload.loads(payload.dumps(function).data, no_results)() == 7


@pytest.mark.parametrize("value", [threading.Lock(), (x for x in ()), Unpicklable()])
@pytest.mark.parametrize("place", ["alone", "nested", "keyword"])
def test_arguments_that_cannot_be_pickled_are_an_error_at_delay_and_nothing_is_stored(
    app: App, hand: Any, value: Any, place: str
) -> None:
    task = app.task(echo)
    args = {"alone": (value,), "nested": ([1, {"deep": [value]}],), "keyword": ()}[place]
    with pytest.raises(PayloadError, match=type(value).__name__) as caught:
        task.delay(*args, **({"parcel": value} if place == "keyword" else {}))
    assert isinstance(caught.value, TypeError)
    assert caught.value.__cause__ is not None
    assert hand.stored() == 0


def test_the_error_names_the_argument_that_cannot_be_pickled(app: App) -> None:
    with pytest.raises(PayloadError, match="item 'parcel', a lock"):
        app.task(echo).delay(1, parcel=threading.Lock())


def test_arguments_that_contain_themselves_and_cannot_be_pickled_are_an_error_too(app: App, hand: Any) -> None:
    knot: list[Any] = []
    knot += [knot, threading.Lock()]
    with pytest.raises(PayloadError):
        app.task(echo).delay(knot)
    assert hand.stored() == 0


def test_a_function_that_cannot_be_pickled_stores_nothing(app: App, hand: Any) -> None:
    lock = threading.Lock()
    with pytest.raises(PayloadError):
        app.submit(Job(function=lambda: lock))
    assert hand.stored() == 0


def test_bytes_that_cannot_be_unpickled_are_one_typed_error() -> None:
    for data in (b"", b"rubbish", b"\x80\x05cno_such_module\nthing\n."):
        with pytest.raises(PayloadError, match="cannot be unpickled here"):
            payload.loads(data, no_results)


def test_an_output_cannot_be_read_where_no_worker_runs() -> None:
    data = payload.dumps([payload.Output(Job(function=echo))]).data
    with pytest.raises(PayloadError, match="only known where a worker runs"):
        pickle.loads(data)


def test_a_failure_with_hostile_methods_is_still_described() -> None:
    class Hostile(Exception):
        def __str__(self) -> str:
            raise RuntimeError

        __repr__ = __str__

    failure = Failure.of(Hostile())
    assert failure.type == "Hostile"
    assert "cannot be shown" in failure.message
    assert Failure.from_json(failure.to_json()) == failure


def test_a_failure_is_cut_to_its_end() -> None:
    failure = Failure.of(ValueError("x" * 30_000))
    assert (len(failure.message), len(failure.traceback)) == (payload.MESSAGE_CHARS, payload.TRACEBACK_CHARS)


# -- nothing is loaded in passing


def test_a_trap_springs_where_it_is_loaded(tmp_path: Path) -> None:
    data = payload.dumps(Trap(tmp_path / "sprung")).data
    payload.loads(data, no_results)
    assert (tmp_path / "sprung").exists()


@pytest.mark.parametrize("by_value", [True, False])
@pytest.mark.parametrize("end", [None, End.COMPLETED, End.FAILED])
def test_nothing_but_a_worker_loads_a_payload(
    app: App, hand: Any, tmp_path: Path, by_value: bool, end: End | None
) -> None:
    trap = Trap(tmp_path / "sprung")
    task = app.task(echo)
    job = Job(function=echo, args=[trap], params={"key": trap}) if by_value else task.job(trap, key=trap)
    app.submit(job)
    child = job.then(task, trap)
    if end is not None:
        hand.end(hand.claim(), end, result=payload.dumps(trap).data if end is End.COMPLETED else None)
    # As another program would that knows nothing of the task.
    queue = App(tmp_path / "jobs.db", name="stranger").queue
    for found in [*queue.list(), *queue.list(state="PENDING"), queue.get(job.id), queue.get(child.id)]:
        repr(found)
        _ = (found.state, found.attempts, found.error, found.progress, found.waiting_for, found.dependencies)
        _ = (found.name, found.description, found.workflow, found.executions, found.output, hash(found))
        pickle.dumps(found)
    queue.stats()
    queue.executions(job.id)
    queue.workers()
    queue.cancel(job.id)
    if queue.get(job.id).state in (State.FAILED, State.CANCELLED):
        queue.retry(job.id)
        queue.cancel(job.id)
    queue.prune(older_than=0)
    queue.close()
    assert not trap.path.exists()


def test_the_owner_of_a_result_loads_it(app: App, hand: Any, tmp_path: Path) -> None:
    trap = Trap(tmp_path / "sprung")
    job = app.task(echo).delay()
    hand.end(hand.claim(), End.COMPLETED, result=payload.dumps(trap).data)
    assert job.state is JobState.COMPLETED
    assert not trap.path.exists()
    job.get(timeout=5)
    assert trap.path.exists()
