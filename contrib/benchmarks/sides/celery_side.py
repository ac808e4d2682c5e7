"""Celery on Redis: the app that its worker imports, and what the client does with it."""

import os

import redis
import stamps
from celery import Celery

# Results in a database of their own: its size is the number of results.
app = Celery("bench", broker=os.environ["BENCH_REDIS"] + "/0", backend=os.environ["BENCH_REDIS"] + "/1")
app.conf.update(
    worker_prefetch_multiplier=64,
    broker_connection_retry_on_startup=True,
    worker_send_task_events=False,
    task_ignore_result=False,
)
_broker = redis.Redis.from_url(os.environ["BENCH_REDIS"] + "/0")
_results = redis.Redis.from_url(os.environ["BENCH_REDIS"] + "/1")


@app.task(name="noop")
def noop(n):
    return n


@app.task(name="stamped", ignore_result=True)
def stamped(n, sent):
    stamps.started(n, sent)


def prepare():
    _broker.ping()


def stored():
    return _broker.llen("celery")


def completed():
    return _results.dbsize()


def one_by_one(count):
    for n in range(count):
        noop.delay(n)


def in_one_call(count):
    one_by_one(count)  # a group of as many sends each by itself too, and took twice as long


def call(n):
    return noop.delay(n).get(timeout=30)


def stamp(n, sent):
    stamped.delay(n, sent)
