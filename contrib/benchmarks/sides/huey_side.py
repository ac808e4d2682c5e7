"""Huey: the instance that its consumer imports, and what the client does with it."""

import os

import stamps
from huey import RedisHuey, SqliteHuey

RESULT_POLL_SECONDS = 0.001

if os.environ["BENCH_STORE"] == "redis":
    huey = RedisHuey("bench", url=os.environ["BENCH_REDIS"])  # blocking=True is its default: no polling
else:
    # WAL is its default. fsync=True is PRAGMA synchronous=FULL, False is OFF.
    huey = SqliteHuey("bench", filename="bench.db", fsync=bool(os.environ["BENCH_FSYNC"]))


@huey.task()
def noop(n):
    return n


@huey.task()
def stamped(n, sent):
    stamps.started(n, sent)  # returns None, for which Huey stores no result


def prepare():
    huey.storage.queue_size()


def stored():
    return huey.storage.queue_size()


def completed():
    return huey.storage.result_store_size()


def one_by_one(count):
    for n in range(count):
        noop(n)


def in_one_call(count):
    noop.map(range(count))  # stores each by itself


def call(n):
    return noop(n).get(blocking=True, timeout=30, max_delay=RESULT_POLL_SECONDS, preserve=True)


def stamp(n, sent):
    stamped(n, sent)
