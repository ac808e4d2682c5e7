"""What Huey does in the benchmarks, and the instance that its consumer imports. Prints one JSON object.

python huey_side.py MEASURE COUNT [WORKER_PID]
"""

import json
import os
import sys

from huey import SqliteHuey
from measures import backlog, drain, each, round_trips, wait_for

# WAL is its default. fsync=True is PRAGMA synchronous=FULL, False is OFF.
huey = SqliteHuey("bench", filename="bench.db", fsync=bool(os.environ["BENCH_FSYNC"]))

RESULT_POLL_SECONDS = 0.001


@huey.task()
def noop(n):
    return n


def completed():
    return huey.storage.result_store_size()


def one_by_one(count):
    for n in range(count):
        noop(n)


def in_one_call(count):
    noop.map(range(count))


def warm_up():
    before = completed()
    one_by_one(200)
    wait_for(lambda: completed() - before, 200)


def main():
    measure, count = sys.argv[1], int(sys.argv[2])
    if measure == "enqueue":
        result = each(one_by_one, count)
    elif measure == "enqueue_many":
        result = each(in_one_call, count)
    elif measure == "drain":
        warm_up()
        result = drain(one_by_one, completed, count)
    elif measure == "backlog":
        warm_up()
        result = backlog(one_by_one, completed, count, int(sys.argv[3]))
    elif measure == "round_trip":
        warm_up()
        result = round_trips(lambda n: noop(n).get(blocking=True, timeout=30, max_delay=RESULT_POLL_SECONDS), count)
    else:
        raise SystemExit(f"unknown measure {measure!r}")
    if measure.startswith("enqueue"):
        assert huey.storage.queue_size() == count, (huey.storage.queue_size(), count)
    print(json.dumps(result))
