"""Dramatiq on Redis: the broker that its workers import, and what the client does with it."""

import os

import dramatiq
import redis
import stamps
from dramatiq.brokers.redis import RedisBroker
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend

# Results in a database of their own: its size is the number of results.
broker = RedisBroker(url=os.environ["BENCH_REDIS"] + "/0")
broker.add_middleware(Results(backend=RedisBackend(url=os.environ["BENCH_REDIS"] + "/1")))
dramatiq.set_broker(broker)
_results = redis.Redis.from_url(os.environ["BENCH_REDIS"] + "/1")


@dramatiq.actor(store_results=True)
def noop(n):
    return n


@dramatiq.actor
def stamped(n, sent):
    stamps.started(n, sent)


def prepare():
    _results.ping()


def stored():
    return broker.client.llen("dramatiq:default")


def completed():
    return _results.dbsize()


def one_by_one(count):
    for n in range(count):
        noop.send(n)


def in_one_call(count):
    dramatiq.group(noop.message(n) for n in range(count)).run()  # sends each by itself


def call(n):
    return noop.send(n).get_result(block=True, timeout=30_000)


def stamp(n, sent):
    stamped.send(n, sent)
