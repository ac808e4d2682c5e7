"""taskiq on Redis: the broker that its workers import, and what the client does with it."""

import asyncio
import os

import redis
import stamps
from taskiq_redis import ListQueueBroker, RedisAsyncResultBackend

RESULT_POLL_SECONDS = 0.001

# Results in a database of their own: its size is the number of results.
broker = ListQueueBroker(os.environ["BENCH_REDIS"] + "/0").with_result_backend(
    RedisAsyncResultBackend(os.environ["BENCH_REDIS"] + "/1")
)
_broker = redis.Redis.from_url(os.environ["BENCH_REDIS"] + "/0")
_results = redis.Redis.from_url(os.environ["BENCH_REDIS"] + "/1")
_loop = None


@broker.task("noop")
async def noop(n):
    return n


@broker.task("stamped")
async def stamped(n, sent):
    stamps.started(n, sent)


def prepare():
    global _loop
    import uvloop

    _loop = uvloop.new_event_loop()
    asyncio.set_event_loop(_loop)
    _loop.run_until_complete(broker.startup())


def stored():
    return _broker.llen("taskiq")


def completed():
    return _results.dbsize()


def one_by_one(count):
    async def send():
        for n in range(count):
            await noop.kiq(n)

    _loop.run_until_complete(send())


def in_one_call(count, at_once=64):
    """Send several at a time: there is no call for many."""

    async def send(first):
        for n in range(first, count, at_once):
            await noop.kiq(n)

    async def send_all():
        await asyncio.gather(*(send(first) for first in range(at_once)))

    _loop.run_until_complete(send_all())


def call(n):
    async def trip():
        task = await noop.kiq(n)
        return await task.wait_result(check_interval=RESULT_POLL_SECONDS, timeout=30)

    return _loop.run_until_complete(trip()).return_value


def stamp(n, sent):
    _loop.run_until_complete(stamped.kiq(n, sent))
