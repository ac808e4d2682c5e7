"""gigq: the app that its worker imports, and what the client does with it.

All tasks are made by `make_app`, so that a measure can submit to the database of its worker from its own process.
"""

import asyncio
import os
import time

import stamps
from bare import burn

from gigq import App, JobState


def noop(n):
    return n


def stamped(n, sent):
    stamps.started(n, sent)


def pause(n, seconds):
    """Sleep, and say when."""
    started = time.monotonic()
    time.sleep(seconds)
    stamps.write(n, 0, started, time.monotonic())


def spin(n, seconds):
    """Keep a processor busy for that long by the clock, and say when."""
    started = time.monotonic()
    while time.monotonic() - started < seconds:
        pass
    stamps.write(n, 0, started, time.monotonic())


def announced_pause(n, seconds):
    """Say when it starts, then sleep."""
    stamps.started(n, 0)
    time.sleep(seconds)


async def nap(n, seconds):
    stamps.started(n, 0)
    await asyncio.sleep(seconds)


def echo(data):
    return data


TASKS = (noop, stamped, pause, spin, announced_pause, burn, nap, echo)


def make_app(path, durability):
    made = App(path, durability=durability)
    for function in TASKS:
        made.task(max_attempts=1, name=function.__name__)(function)
    return made


app = make_app("bench.db", os.environ.get("BENCH_DURABILITY", "power"))
_noop, _stamped = app.tasks["noop"], app.tasks["stamped"]


def prepare():
    app.queue.stats()


def stored():
    return app.queue.stats()[JobState.PENDING]


def completed():
    return app.queue.stats()[JobState.COMPLETED]


def one_by_one(count):
    for n in range(count):
        _noop.delay(n)


def in_one_call(count):
    _noop.map(range(count))


def call(n):
    return _noop.delay(n).get(timeout=30)


def stamp(n, sent):
    _stamped.delay(n, sent)
