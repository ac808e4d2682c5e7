"""How long a caller waits: for a result, for the start of a job under load, for a worker to start."""

from __future__ import annotations

import time

from bench import Bench, Measure
from figures import Figure, Goal, percentiles

LOAD = 0.5  # of what the system can take
LEAST_RATE = 10.0  # jobs/s


def round_trip(bench: Bench) -> dict[str, float]:
    """Time enqueueing one job and waiting for its result, with an idle worker in another process."""
    count = bench.scale.round_trips
    client = bench.client()
    bench.worker()
    client("warm_up", bench.scale.warm_up_jobs)
    p50, p99 = percentiles(client("round_trips", count)["samples"], 50, 99, scale=1000)
    return {"round_trip_p50": p50, "round_trip_p99": p99}


def latency(bench: Bench) -> dict[str, float]:
    """Send jobs at half the rate that one caller and the worker manage together; time until each starts."""
    client = bench.client()
    bench.worker()
    client("warm_up", bench.scale.warm_up_jobs)
    count = max(10, bench.scale.jobs // 5)
    rate = max(LEAST_RATE, LOAD * count / client("drain", "one_by_one", count)["seconds"])
    p50, p99 = percentiles(client("paced", rate, bench.scale.load_seconds)["samples"], 50, 99, scale=1000)
    return {"latency_p50": p50, "latency_p99": p99, "latency_load": rate}


def startup(bench: Bench) -> dict[str, float]:
    """Time from starting the worker to the end of the one job that waits for it."""
    client = bench.client()
    client("enqueue", "one_by_one", 1)
    started = time.monotonic()
    bench.worker()
    return {"startup": client("wait", 1)["ended"] - started}


MEASURES = (
    Measure(
        "round_trip",
        (
            Figure("round_trip_p50", "Round trip, p50", "ms", False, (Goal(2.5),)),
            Figure("round_trip_p99", "Round trip, p99", "ms", False, (Goal(10),)),
        ),
        round_trip,
        60,
        with_peers=True,
    ),
    Measure(
        "latency",
        (
            Figure("latency_p50", "Start of a job under half load, p50", "ms", False),
            Figure("latency_p99", "Start of a job under half load, p99", "ms", False),
            Figure("latency_load", "The half load", "jobs/s", True),
        ),
        latency,
        60,
        with_peers=True,
    ),
    Measure(
        "startup",
        (Figure("startup", "Start of a worker to its first finished job", "s", False, (Goal(0.5),)),),
        startup,
        60,
        with_peers=True,
    ),
)
