"""What a worker costs that has nothing to do."""

from __future__ import annotations

import time

import process_tree
from bench import Bench, Measure
from figures import Figure, Goal


def idle(bench: Bench) -> dict[str, float]:
    """Measure the processor time of all processes of a worker that has nothing to do."""
    client = bench.client()
    worker = bench.worker()
    client("warm_up", bench.scale.warm_up_jobs)
    time.sleep(bench.scale.settle_seconds)
    before = {one: process_tree.cpu_seconds([one]) for one in process_tree.tree(worker.pid)}
    started = time.monotonic()
    time.sleep(bench.scale.idle_seconds)
    spent = sum(process_tree.cpu_seconds([one]) - before.get(one, 0) for one in process_tree.tree(worker.pid))
    return {"idle": 100 * spent / (time.monotonic() - started)}


MEASURES = (
    Measure(
        "idle",
        (Figure("idle", "Processor time of an idle worker", "% of a core", False, (Goal(0.5),)),),
        idle,
        60,
        with_peers=True,
        once=True,
    ),
)
