"""Who holds the running jobs, and whether the times in the rows can be: for `gigq doctor`."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from typing import Final

from gigq.storage.findings import Finding, note, ok, problem
from gigq.storage.rows import WorkerRow
from gigq.storage.sqlite import workers

SILENT_SECONDS: Final = 30.0  # others take a worker for dead after 10 s: by now somebody should have
CLOCK_SLACK_SECONDS: Final = 5.0

_HELD: Final = "SELECT worker, count(*), min(id) FROM jobs WHERE state = 'RUNNING' GROUP BY worker"
_FROM_THE_FUTURE: Final = """
SELECT count(*), min(id) FROM jobs WHERE submitted_at > :latest OR claimed_at > :latest OR finished_at > :latest
"""


def check_workers(db: sqlite3.Connection, now: float, is_gone: Callable[[WorkerRow], bool]) -> Iterator[Finding]:
    """Look for workers that died, and for jobs that nobody runs although they are RUNNING."""
    live = {worker.id: worker for worker in workers.live(db)}
    dead: dict[str, str] = {}
    for worker in live.values():
        if is_gone(worker):
            dead[worker.id] = f"worker {worker.name}: its process {worker.pid} is gone"
        elif now - worker.beat_at > SILENT_SECONDS:
            dead[worker.id] = f"worker {worker.name} has given no sign of life for {now - worker.beat_at:,.0f} s"
    held = {worker: (count, example) for worker, count, example in db.execute(_HELD)}
    for worker_id, reason in dead.items():
        if worker_id not in held:
            yield note("workers", reason, "nothing: it holds no job, and the next worker notes that it has stopped")
    if len(dead) < len(live) or not live:
        alive = len(live) - len(dead)
        yield ok("workers", f"{alive:,} running" if alive else "none is running")
    yield from _check_leases(held, live, dead)


def _check_leases(
    held: dict[str, tuple[int, str]], live: dict[str, WorkerRow], dead: dict[str, str]
) -> Iterator[Finding]:
    stuck = False
    for worker_id, (count, example) in held.items():
        jobs = f"1 RUNNING job, {example}," if count == 1 else f"{count:,} RUNNING jobs, such as {example},"
        if worker_id in dead:
            stuck = True
            yield problem("leases", f"{jobs} held by a dead worker: {dead[worker_id]}",
                          "start a worker: it takes them back within 15 s")  # fmt: skip
        elif worker_id not in live:
            stuck = True
            yield problem("leases", f"{jobs} held by a worker that has stopped, or was never there: {worker_id}",
                          f"take them back with app.queue.storage.rescue({worker_id!r}, 'lost')")  # fmt: skip
    if not stuck:
        total = sum(count for count, _ in held.values())
        yield ok("leases", "no job is RUNNING" if not total else f"{total:,} RUNNING, all with workers that live")


def check_clock(db: sqlite3.Connection, now: float) -> Iterator[Finding]:
    """Look for times that have not come yet."""
    latest = now + CLOCK_SLACK_SECONDS
    count, example = db.execute(_FROM_THE_FUTURE, {"latest": latest}).fetchone()
    if count:
        yield note("clock", f"{count:,} jobs have times in the future, such as {example}",
                   "was the clock set back? Jobs that wait for a time wait by it")  # fmt: skip
    else:
        yield ok("clock", "no time in the database is in the future")
