"""How much of what is ideal gigq reaches with work that is worth a job."""

from __future__ import annotations

import time
from typing import Any

import stamps
from bare import burn
from bench import Bench, Measure, NotAvailable
from figures import Figure, Goal
from gigq_side import make_app
from systems import PROCESSES

from gigq import JobState, Worker
from gigq.errors import ConfigurationError

POLL_SECONDS = 0.002
BURN_SECONDS = 0.01
NAP_SECONDS = 0.05


def burns(bench: Bench) -> dict[str, float]:
    """Compare jobs of 10 ms of computing with the same work in as many bare processes, before and after."""
    rounds = _rounds_for(BURN_SECONDS)
    each = bench.scale.burns // PROCESSES
    app = make_app(bench.folder / "bench.db", "power")
    task: Any = app.tasks["burn"]
    bench.worker()
    task.map([rounds] * PROCESSES * 4).get(timeout=30)  # known by now
    before = _completed(app)
    ideal = _bare(bench, rounds, each)
    started = time.monotonic()
    task.map([rounds] * each * PROCESSES)
    _wait(app, before + each * PROCESSES)
    took = time.monotonic() - started
    app.queue.close()
    ideal = (ideal + _bare(bench, rounds, each)) / 2
    return {"burn_share": 100 * ideal / took}


def _rounds_for(seconds: float) -> int:
    """Return how many rounds `burn` does in that time, on a quiet processor."""
    rounds = 100_000
    fastest = min(_timed(rounds) for _ in range(5))
    return int(rounds * seconds / fastest)


def _timed(rounds: int) -> float:
    started = time.perf_counter()
    burn(rounds)
    return time.perf_counter() - started


def _bare(bench: Bench, rounds: int, times: int) -> float:
    """Return how long bare processes take for the same work, side by side."""
    command = [bench.python, "-c", "import bare; bare.main()", str(rounds), str(times)]
    running = [bench.start(command, "bare.log", piped=True) for _ in range(PROCESSES)]
    for process in running:
        assert process.stdout is not None
        process.stdout.readline()
    started = time.monotonic()
    for process in running:
        assert process.stdin is not None
        process.stdin.write(b"\n")
        process.stdin.close()
    for process in running:
        process.wait()
    seconds = time.monotonic() - started
    for process in running:
        assert process.stdout is not None
        process.stdout.close()
    return seconds


def naps(bench: Bench) -> dict[str, float]:
    """Compare sleeps of 50 ms in async slots with the time that they take at least."""
    try:
        Worker(bench.folder / "bench.db", pool="async", concurrency=bench.scale.slots)  # type: ignore[arg-type, unused-ignore]
    except ConfigurationError as error:
        raise NotAvailable("this gigq has no async pool") from error
    app = make_app(bench.folder / "bench.db", "power")
    task: Any = app.tasks["nap"]
    bench.worker(["-m", "gigq", "worker", "gigq_side:app", "--pool", "async", "-c", str(bench.scale.slots)])
    task.delay(0, NAP_SECONDS).get(timeout=30)
    app.submit_many([task.job(1, NAP_SECONDS) for _ in range(bench.scale.naps)])
    _wait(app, 1 + bench.scale.naps)
    ended = time.monotonic()
    app.queue.close()
    first = next(row[2] for row in stamps.read(bench.folder) if row[0] == 1)
    ideal = NAP_SECONDS * bench.scale.naps / bench.scale.slots
    return {"nap_share": 100 * ideal / (ended - first)}


def _completed(app: Any) -> int:
    return int(app.queue.stats()[JobState.COMPLETED])


def _wait(app: Any, count: int) -> None:
    while _completed(app) < count:
        time.sleep(POLL_SECONDS)


MEASURES = (
    Measure(
        "burns",
        (Figure("burn_share", "10 ms of computing on 2 children", "% of ideal", True, (Goal(95),)),),
        burns,
        60,
    ),
    Measure(
        "naps",
        (Figure("nap_share", "50 ms sleeps in 200 async slots", "% of ideal", True, (Goal(85),)),),
        naps,
        60,
    ),
)
