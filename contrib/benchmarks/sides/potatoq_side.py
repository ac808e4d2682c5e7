"""potatoq on SQLite: the app that its worker imports, and what the client does with it."""

import os

import stamps
from potatoq import Potatoq, group

# Its default is PRAGMA synchronous=NORMAL; durable is FULL.
app = Potatoq(
    "bench",
    broker="sqlite:///bench.db",
    broker_transport_options={"durable": bool(os.environ["BENCH_DURABLE"])},
    worker_max_tasks_per_child=None,  # its default is to replace a process after 1,000 tasks
)


@app.task(name="noop")
def noop(n):
    return n


@app.task(name="stamped", ignore_result=True)
def stamped(n, sent):
    stamps.started(n, sent)


def _count(what):
    return app.broker.conn.execute(f"SELECT count(*) FROM {what}").fetchone()[0]


def prepare():
    app.broker.setup()


def stored():
    return _count("potatoq_jobs")


def completed():
    return _count("potatoq_results WHERE id < 'g'")  # ids are hexadecimal; a worker adds a row of another kind


def one_by_one(count):
    for n in range(count):
        noop.delay(n)


def in_one_call(count):
    group(noop.s(n) for n in range(count)).apply_async()  # one transaction


def call(n):
    return noop.delay(n).get(timeout=30)


def stamp(n, sent):
    stamped.delay(n, sent)
