"""Arguments and results of some size: each job returns what it was given."""

from __future__ import annotations

import os
import time
from typing import Any

from bench import Bench, Measure
from figures import Figure
from gigq_side import make_app

SIZES = {"1kb": ("1 kB", 1_000), "100kb": ("100 kB", 100_000), "10mb": ("10 MB", 10_000_000)}
MEGABYTE = 1_000_000
MOST_JOBS = 1_000
ROUND_TRIPS = 3


def payloads(bench: Bench) -> dict[str, float]:
    """For each size, echo one job and wait for it, then echo many at once."""
    app = make_app(bench.folder / "bench.db", "power")
    echo: Any = app.tasks["echo"]
    bench.worker()
    echo.delay(b"").get(timeout=30)
    figures = {}
    for key, (_, size) in SIZES.items():
        data = os.urandom(min(size, bench.scale.payload_bytes))
        trips = []
        for _ in range(ROUND_TRIPS):
            started = time.perf_counter()
            assert echo.delay(data).get(timeout=30) == data
            trips.append(time.perf_counter() - started)
        count = max(2, min(MOST_JOBS, bench.scale.payload_bytes * 2 // len(data)))
        started = time.perf_counter()
        group = echo.map([data] * count)
        assert all(result == data for result in group.get(timeout=60))
        seconds = time.perf_counter() - started
        figures[f"payload_{key}_trip"] = 1000 * min(trips)
        figures[f"payload_{key}_rate"] = count * len(data) / MEGABYTE / seconds
    app.queue.close()
    return figures


MEASURES = (
    Measure(
        "payloads",
        tuple(
            figure
            for key, (title, _) in SIZES.items()
            for figure in (
                Figure(f"payload_{key}_trip", f"{title} there and back, one job", "ms", False),
                Figure(f"payload_{key}_rate", f"{title} there and back, many jobs at once", "MB/s", True),
            )
        ),
        payloads,
        120,
        once=True,
    ),
)
