"""The program that uses a system: it takes orders as lines of JSON and answers each with one line.

    python -c "import client; client.main()" SIDE

Plain Python: it runs in each system's own environment, in the folder of one measure. SIDE is a module of this folder:

    one_by_one(count)   enqueue noop(0), noop(1), … with one call each
    in_one_call(count)  the same by the fastest way that the system has
    stored()            how many jobs wait in the queue
    completed()         how many noops have completed, their results stored
    call(n)             enqueue noop(n), wait for its result and return it
    stamp(n, sent)      enqueue a job that does stamps.started(n, sent)
    prepare()           connect, make tables: what is no part of enqueueing
"""

import importlib
import json
import os
import sys
import time

import stamps

POLL_SECONDS = 0.005  # each look costs the system under test a little, and each pause is uncertainty of the result


def wait(side, count):
    """Return when `completed()` said `count`; more would be a job counted twice. Whoever gave the order has a limit."""
    while (done := side.completed()) < count:
        time.sleep(POLL_SECONDS)
    ended = time.monotonic()
    assert done == count, (done, count)
    return {"ended": ended}


def warm_up(side, count):
    """Have `count` jobs run that nobody measures."""
    before = side.completed()
    side.in_one_call(count)
    return wait(side, before + count)


def store(side, count):
    """Enqueue for a worker that is stopped; it may have asked for jobs before."""
    side.in_one_call(count)
    return {}


def enqueue(side, how, count):
    """Time enqueueing alone, with no worker: `how` is one_by_one or in_one_call."""
    before = side.stored()
    started = time.perf_counter()
    getattr(side, how)(count)
    seconds = time.perf_counter() - started
    assert side.stored() - before == count, (side.stored(), before, count)
    return {"seconds": seconds}


def drain(side, how, count):
    """Time from before the first enqueue to the last commit."""
    before = side.completed()
    started = time.monotonic()
    getattr(side, how)(count)
    return {"seconds": wait(side, before + count)["ended"] - started}


def round_trips(side, count):
    """Time submitting a job and waiting for its result, `count` times."""
    samples = []
    for n in range(count):
        started = time.perf_counter()
        value = side.call(n)
        samples.append(time.perf_counter() - started)
        assert value == n, (value, n)
    return {"samples": samples}


def paced(side, rate, seconds):
    """Send jobs at a steady rate; return how long after its planned moment each one started.

    From the planned moment, not from the call: a call that blocks delays the ones behind it, and that counts.
    """
    count = max(10, int(rate * seconds))
    before = stamps.count()
    first = time.monotonic() + 0.01
    for n in range(count):
        planned = first + n / rate
        pause = planned - time.monotonic()
        if pause > 0:
            time.sleep(pause)
        side.stamp(n, planned)
    while stamps.count() < before + count:
        time.sleep(POLL_SECONDS)
    rows = stamps.read()
    assert len(rows) == before + count, (len(rows), count)
    return {"samples": [row[2] - row[1] for row in rows[before:]]}


def keep_sending(side, seconds):
    """Enqueue jobs one by one for some time; return how many, and the longest time that one took."""
    count, longest = 0, 0.0
    now = time.perf_counter()
    end = now + seconds
    while now < end:
        side.one_by_one(1)
        before, now = now, time.perf_counter()
        count, longest = count + 1, max(longest, now - before)
    return {"count": count, "longest": longest}


ORDERS = {order.__name__: order for order in (wait, warm_up, store, enqueue, drain, round_trips, paced, keep_sending)}


def main():
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    # Imported, not run as a script: the names of its tasks must be those that the worker sees.
    side = importlib.import_module(sys.argv[1])
    side.prepare()
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        name, *arguments = json.loads(line)
        print(json.dumps(ORDERS[name](side, *arguments)), flush=True)
