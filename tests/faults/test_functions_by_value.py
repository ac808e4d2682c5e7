"""Functions that no worker can import: they travel from the program that submits to a worker that knows only a path."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from workshop import Workshop, attempts, until

from gigq import JobState

pytestmark = pytest.mark.slow  # each starts a worker, or shares one with its neighbours

SCRIPT = """
import asyncio, functools, json, math, sys
from dataclasses import dataclass
from gigq import Job, JobQueue

FACTOR = 10
submitted = {}
queue = JobQueue("jobs.db")

def submit(name, function, *args, **params):
    submitted[name] = queue.submit(Job(name=name, function=function, args=args, params=params)).id

def scale(number):
    return FACTOR * number

def scale_all(numbers):
    return [scale(number) for number in numbers]

def factorial(n):
    return 1 if n < 2 else n * factorial(n - 1)

def make_counter(start):
    count = start
    def counter(step):
        nonlocal count
        count += step
        return count
    return counter

async def later(number):
    await asyncio.sleep(0)
    return scale(number)

@dataclass
class Point:
    x: int
    y: int

    def shifted(self, by):
        return Point(self.x + by, self.y + by)

    @classmethod
    def origin(cls):
        return cls(0, 0)

    @staticmethod
    def distance(a, b):
        return math.dist((a.x, a.y), (b.x, b.y))

    def __call__(self, factor):
        return self.x * factor

class Odd(Exception):
    pass

def check_even(number):
    if number % 2:
        raise Odd(f"{number} is odd")

offset = 5
submit("lambda", lambda number: number + offset, 1)
submit("closure", make_counter(100), 5)
submit("partial", functools.partial(pow, 2), 10)
submit("partial of main", functools.partial(scale_all, numbers=[1, 2]))
submit("bound method", Point(1, 2).shifted, by=3)
submit("bound builtin method", "-".join, ["a", "b"])
submit("class method", Point.origin)
submit("static method", Point.distance, Point(0, 0), Point(3, 4))
submit("callable object", Point(7, 0), 6)
submit("class", Point, 1, y=2)
submit("main", scale_all, [1, 2, 3])
submit("recursion", factorial, 10)
submit("coroutine function", later, 4)
submit("imported", math.sqrt, 16)
submit("failing", check_even, 3)
print(json.dumps(submitted))
"""

RESULTS = {
    "lambda": 6,
    "closure": 105,
    "partial": 1024,
    "partial of main": [10, 20],
    "bound method": "Point(x=4, y=5)",
    "bound builtin method": "a-b",
    "class method": "Point(x=0, y=0)",
    "static method": 5.0,
    "callable object": 42,
    "class": "Point(x=1, y=2)",
    "main": [10, 20, 30],
    "recursion": 3628800,
    "coroutine function": 40,
    "imported": 4.0,
}


@pytest.fixture(scope="module")
def values(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workshop]:
    """A folder whose worker knows no app, only the database's path."""
    workshop = Workshop(tmp_path_factory.mktemp("values"))
    workshop.work("jobs.db", concurrency=2)
    yield workshop
    workshop.close()


@pytest.fixture(scope="module")
def submitted(values: Workshop) -> dict[str, str]:
    """The ids of the jobs that a script has submitted, which has ended."""
    (values.folder / "script.py").write_text(SCRIPT)
    found: dict[str, str] = json.loads(values.run("script.py"))
    (values.folder / "script.py").unlink()  # the worker must not need it
    return found


@pytest.mark.parametrize("kind", RESULTS)
def test_fault_51_a_function_of_a_script_runs_in_a_worker_that_cannot_import_it(
    values: Workshop, submitted: dict[str, str], kind: str
) -> None:
    job = values.queue.get(submitted[kind])
    result: Any = job.get(20)
    wanted = RESULTS[kind]
    assert (repr(result) if isinstance(wanted, str) and kind != "bound builtin method" else result) == wanted
    assert attempts(job) == [JobState.COMPLETED]


def test_fault_51_an_exception_type_of_a_script_is_named(values: Workshop, submitted: dict[str, str]) -> None:
    job = values.queue.get(submitted["failing"])
    until(lambda: job.error)
    assert job.error == "Odd: 3 is odd"


@pytest.mark.parametrize("how", ["-c", "-", "-m"])
def test_fault_51_functions_of_main_travel_however_the_program_was_started(values: Workshop, how: str) -> None:
    code = "from gigq import Job, JobQueue\ndef double(n): return 2 * n\n"
    code += "print(JobQueue('jobs.db').submit(Job(function=double, args=[21])).id)\n"
    package = values.folder / "package"
    package.mkdir(exist_ok=True)
    (package / "__init__.py").touch()
    (package / "program.py").write_text(code)
    arguments = {"-c": ["-c", code], "-": ["-"], "-m": ["-m", "package.program"]}[how]
    job_id = values.run(*arguments, stdin=code).strip()
    assert values.queue.get(job_id).get(20) == 42
