"""Enqueueing alone: no worker runs."""

from __future__ import annotations

from bench import Bench, Measure
from figures import Figure, Goal

BOTH = ("gigq-power", "gigq-process")


def enqueue(bench: Bench) -> dict[str, float]:
    """Time one call for each job."""
    count = bench.scale.jobs
    return {"enqueue": count / bench.client()("enqueue", "one_by_one", count)["seconds"]}


def enqueue_many(bench: Bench) -> dict[str, float]:
    """Time the system's fastest way to enqueue many jobs."""
    count = bench.scale.bulk_jobs
    return {"enqueue_many": count / bench.client()("enqueue", "in_one_call", count)["seconds"]}


MEASURES = (
    Measure("enqueue", (Figure("enqueue", "Enqueue, one by one", "jobs/s", True),), enqueue, 90, with_peers=True),
    Measure(
        "enqueue_many",
        (Figure("enqueue_many", "Enqueue, many in one call", "jobs/s", True, (Goal(50_000, systems=BOTH),)),),
        enqueue_many,
        90,
        with_peers=True,
    ),
)
