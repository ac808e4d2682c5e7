"""How fast workers run jobs that do nothing, until the last result is stored."""

from __future__ import annotations

import signal
import time

import process_tree
from bench import Bench, Measure
from figures import Figure, Goal


def drain(bench: Bench) -> dict[str, float]:
    """Time from before the first enqueue, by the fastest way, to the last commit. The worker is idle before."""
    count = bench.scale.bulk_jobs
    client = bench.client()
    bench.worker()
    client("warm_up", bench.scale.warm_up_jobs)
    return {"drain": count / client("drain", "in_one_call", count)["seconds"]}


def backlog(bench: Bench) -> dict[str, float]:
    """Time the worker alone: it is stopped while jobs are stored, and the clock runs from when it goes on."""
    count = bench.scale.bulk_jobs
    client = bench.client()
    worker = bench.worker()
    client("warm_up", bench.scale.warm_up_jobs)
    stopped = process_tree.tree(worker.pid)
    process_tree.send(stopped, signal.SIGSTOP)
    client("store", count)
    started = time.monotonic()
    process_tree.send(stopped, signal.SIGCONT)
    ended = client("wait", bench.scale.warm_up_jobs + count)["ended"]
    return {"backlog": count / (ended - started)}


MEASURES = (
    Measure(
        "drain",
        (
            Figure(
                "drain",
                "Drain, from the first enqueue to the last commit",
                "jobs/s",
                True,
                (Goal(30_000), Goal(10, against="sqlite"), Goal(5, against="any")),
            ),
        ),
        drain,
        60,
        with_peers=True,
    ),
    Measure(
        "backlog",
        (Figure("backlog", "Drain of stored jobs", "jobs/s", True),),
        backlog,
        60,
        with_peers=True,
    ),
)
