"""RQ on Redis: what its workers import, and what the client does with it."""

import os

import redis
import stamps
from rq import Queue

connection = redis.Redis.from_url(os.environ["BENCH_REDIS"] + "/0")
queue = Queue("bench", connection=connection)


def noop(n):
    return n


def stamped(n, sent):
    stamps.started(n, sent)


def prepare():
    connection.ping()


def stored():
    return queue.count


def completed():
    return queue.finished_job_registry.get_job_count(cleanup=False)


def one_by_one(count):
    for n in range(count):
        queue.enqueue(noop, n)


def in_one_call(count):
    queue.enqueue_many([Queue.prepare_data(noop, (n,)) for n in range(count)])  # one pipeline


def call(n):
    return queue.enqueue(noop, n).latest_result(timeout=30).return_value


def stamp(n, sent):
    queue.enqueue(stamped, n, sent, result_ttl=0)
