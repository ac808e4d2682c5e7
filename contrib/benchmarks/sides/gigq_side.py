"""What gigq does in the benchmarks, and the app that its worker imports. Prints one JSON object.

python gigq_side.py MEASURE COUNT [WORKER_PID]
"""

import json
import os
import sys

from measures import backlog, drain, each, round_trips, wait_for

from gigq import App, JobState

app = App("bench.db", durability=os.environ["BENCH_DURABILITY"])


@app.task(max_attempts=1)
def noop(n):
    return n


def completed():
    return app.queue.stats()[JobState.COMPLETED]


def one_by_one(count):
    for n in range(count):
        noop.delay(n)


def in_one_call(count):
    noop.map(range(count))


def prepare():
    """Make the tables: that is no part of enqueueing."""
    app.queue.stats()


def main():
    measure, count = sys.argv[1], int(sys.argv[2])
    prepare()
    if measure == "enqueue":
        result = each(one_by_one, count)
    elif measure == "enqueue_many":
        result = each(in_one_call, count)
    elif measure == "drain":
        noop.map(range(200)).get(timeout=30)
        result = drain(in_one_call, completed, count)
    elif measure == "backlog":
        noop.map(range(200)).get(timeout=30)
        result = backlog(in_one_call, completed, count, int(sys.argv[3]))
    elif measure == "round_trip":
        noop.map(range(200)).get(timeout=30)
        wait_for(completed, 200)
        result = round_trips(lambda n: noop.delay(n).get(timeout=30), count)
    else:
        raise SystemExit(f"unknown measure {measure!r}")
    if measure.startswith("enqueue"):
        stored = sum(app.queue.stats().values())
        assert stored == count, (stored, count)
    print(json.dumps(result))
