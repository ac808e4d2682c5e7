"""Which job starts when: short ones beside long ones, a task that turns slow, a priority that arrives late."""

from __future__ import annotations

import time
from itertools import pairwise
from typing import Any

import stamps
from bench import Bench, Measure, MeasureError
from figures import Figure, Goal, percentiles
from gigq_side import make_app
from systems import PROCESSES

from gigq import App

POLL_SECONDS = 0.002
SHORT_SECONDS = 0.001
SHORT_JOBS = 400
LONG_JOBS = 4
LONG_SHARE = 0.05  # of the scale's long job
QUICK_SECONDS = 0.00001
QUICK_RUNS = 1_000
BEHIND = 200
URGENT = 20


def mixed(bench: Bench) -> dict[str, float]:
    """Run short and long jobs in one queue; find the longest time that a child was idle while a short one waited."""
    app, short, long = _app_with_worker(bench, "spin", "pause")
    long_seconds = LONG_SHARE * bench.scale.long_seconds
    app.submit_many([short.job(0, SHORT_SECONDS) for _ in range(100)] + [long.job(0, long_seconds)])  # known by now
    _wait_for_rows(bench, 101)
    every = SHORT_JOBS // LONG_JOBS
    jobs = []
    for n in range(SHORT_JOBS):
        if n % every == every // 4:
            jobs.append(long.job(2, long_seconds))
        jobs.append(short.job(1, SHORT_SECONDS))
    app.submit_many(jobs)
    rows = _wait_for_rows(bench, 101 + len(jobs))
    app.queue.close()
    rows = [row for row in rows if row[0] > 0]
    last_short = max(row[2] for row in rows if row[0] == 1)
    gaps = []
    for pid in {row[4] for row in rows}:
        of_child = [row for row in rows if row[4] == pid]
        gaps += [following[2] - row[3] for row, following in pairwise(of_child) if following[2] <= last_short]
        gaps.append(last_short - of_child[-1][3])  # it had no more to do, while another one's work waited
    return {"mixed_idle": 1000 * max(gaps)}


def turned_slow(bench: Bench) -> dict[str, float]:
    """Run a task 1,000 times in 10 µs, then one that sleeps, with 200 quick ones behind it; time until they start."""
    app, task = _app_with_worker(bench, "announced_pause")
    app.submit_many([task.job(0, QUICK_SECONDS) for _ in range(QUICK_RUNS)])
    _wait_for_rows(bench, QUICK_RUNS)
    app.submit_many([task.job(1, bench.scale.long_seconds), *(task.job(2 + n, QUICK_SECONDS) for n in range(BEHIND))])
    rows = _wait_for_rows(bench, QUICK_RUNS + 1 + BEHIND)
    slow = next(row[2] for row in rows if row[0] == 1)
    behind = [row for row in rows if row[0] > 1]
    time.sleep(bench.scale.long_seconds / 20)  # one that is started a second time would show up now
    runs = len([row for row in stamps.read(bench.folder) if row[0] > 1])
    app.queue.close()
    return {"turned_slow": 1000 * max(row[2] - slow for row in behind), "turned_slow_runs": runs / BEHIND}


def late_priority(bench: Bench) -> dict[str, float]:
    """Submit urgent jobs one by one while a backlog of 1 ms jobs drains; time until each starts."""
    app, spin, stamped = _app_with_worker(bench, "spin", "stamped")
    backlog = max(100, bench.scale.jobs // 2)
    app.submit_many([spin.job(0, SHORT_SECONDS) for _ in range(backlog)])
    _wait_for_rows(bench, 20)
    urgent = stamped.options(priority=100)
    pause = 0.8 * backlog * SHORT_SECONDS / PROCESSES / URGENT
    sent = 0
    while sent < URGENT and stamps.count(bench.folder) < 0.9 * backlog:
        sent += 1
        urgent.delay(sent, time.monotonic())
        time.sleep(pause)
    rows = _wait_for_rows(bench, backlog + sent)
    app.queue.close()
    waits = [row[2] - row[1] for row in rows if row[0] > 0]
    if len(waits) < 2:
        raise MeasureError(f"the backlog of {backlog} jobs drained before {len(waits) + 1} urgent ones were sent")
    (p50,) = percentiles(waits, 50, scale=1000)
    return {"late_priority_p50": p50, "late_priority_worst": 1000 * max(waits)}


def _app_with_worker(bench: Bench, *names: str) -> tuple[Any, ...]:
    """Return an app on the measure's database and some of its tasks, once its worker runs."""
    app: App = make_app(bench.folder / "bench.db", "power")
    bench.worker()
    noop: Any = app.tasks["noop"]
    noop.delay(0).get(timeout=30)
    return (app, *(app.tasks[name] for name in names))


def _wait_for_rows(bench: Bench, count: int) -> list[Any]:
    while stamps.count(bench.folder) < count:
        time.sleep(POLL_SECONDS)
    rows: list[Any] = stamps.read(bench.folder)
    return rows


MEASURES = (
    Measure(
        "mixed",
        (Figure("mixed_idle", "Short and long jobs mixed: a child idle while short wait", "ms", False, (Goal(50),)),),
        mixed,
        60,
    ),
    Measure(
        "turned_slow",
        (
            Figure(
                "turned_slow", "A quick task that turns slow: the jobs behind start within", "ms", False, (Goal(50),)
            ),
            Figure("turned_slow_runs", "Runs of each job behind it", "", False, (Goal(1),)),
        ),
        turned_slow,
        60,
    ),
    Measure(
        "late_priority",
        (
            Figure("late_priority_p50", "A priority that arrives late starts, p50", "ms", False),
            Figure("late_priority_worst", "A priority that arrives late starts, worst", "ms", False),
        ),
        late_priority,
        60,
    ),
)
