"""Where the time of a job goes: processor time of each layer, beside the least that the work could cost.

python contrib/benchmarks/budget.py [--rounds N] [--markdown]

Runs in the environment in which gigq is installed; nothing else is needed. Times are microseconds of processor time for
one job, the median of the rounds. The raw figures do the same work with the standard library alone.
"""

from __future__ import annotations

import argparse
import os
import pickle
import select
import socket
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gigq import App
from gigq.job import Job
from gigq.payload import dumps
from gigq.storage.leases import ClaimedJob, ClaimRequest, End, Outcome
from gigq.storage.rows import NewJob, WorkerRow
from gigq.storage.sqlite import SqliteStorage
from gigq.storage.sqlite.submit import _row
from gigq.submission import _Draft
from gigq.worker.pools.base import Ended
from gigq.worker.pools.process import ProcessPool

BULK = 10_000  # jobs submitted in one call
GROUP = 512  # jobs of one transaction of a busy worker with two children
POOL_JOBS = 40_000
RAW = 20_000  # repetitions of what takes a microsecond
WORKER = "budget"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--markdown", action="store_true")
    options = parser.parse_args()
    rounds = [one_round() for _ in range(options.rounds)]
    line = "| {} | {:.1f} |" if options.markdown else "{:62} {:7.1f}"
    if options.markdown:
        print("| layer | µs a job |\n|---|---|")
    for name in rounds[0]:
        print(line.format(name, statistics.median(costs[name] for costs in rounds)))


def one_round() -> dict[str, float]:
    """Return the cost of each layer, by name, in the order of a job's way."""
    with app_in_a_folder() as (app, noop):
        costs = submitting(app, noop)
        costs |= claiming(app)
    return costs | piping() | running()


@contextmanager
def app_in_a_folder() -> Iterator[tuple[App, Any]]:
    with tempfile.TemporaryDirectory(prefix="gigq-budget-") as folder:
        app = App(Path(folder) / "budget.db")
        noop = app.task(name="noop", max_attempts=1)(identity)
        app.queue.stats()  # makes the tables
        yield app, noop
        app.queue.close()


def identity(n: int) -> int:
    return n


def spent(act: Callable[[], object], count: int) -> float:
    """Return the microseconds of this thread's processor time for each of `count` things that `act` does."""
    started = time.thread_time()
    act()
    return (time.thread_time() - started) / count * 1e6


# -- submitting


def submitting(app: App, noop: Any) -> dict[str, float]:
    binding = app.queue.binding
    jobs: list[Job[int]] = []
    drafts: list[_Draft] = []
    rows: list[NewJob] = []
    costs = {
        "submit: Job.__init__ (id, checks)": spent(lambda: jobs.extend(noop.job(n) for n in range(BULK)), BULK),
        "submit: pickled arguments": spent(lambda: drafts.extend(_Draft(job, binding, []) for job in jobs), BULK),
        "submit: the row (summary, checks)": spent(lambda: rows.extend(d.row(app.url) for d in drafts), BULK),
        "submit: SQLite, in one call": spent(lambda: app.queue.storage.submit(rows), BULK),
        "whole submission, task.map": spent(lambda: noop.map(range(BULK)), BULK),
    }
    value = ((1,), {})
    costs["raw: pickle.dumps"] = spent(lambda: [pickle.dumps(value, 5) for _ in range(RAW)], RAW)
    costs["gigq: payload.dumps"] = spent(lambda: [dumps(value) for _ in range(RAW)], RAW)
    costs["raw: executemany of the same rows, same tables"] = raw_insertion(app, rows)
    return costs


def raw_insertion(app: App, rows: list[NewJob]) -> float:
    """Insert rows of these shapes with two statements, into the tables and indexes of gigq."""
    db = sqlite3.connect(app.queue.storage.url.removeprefix("sqlite:///"), isolation_level=None)
    (last,) = db.execute("SELECT max(seq) FROM jobs").fetchone()
    values = [_row(last + n, row._replace(id=f"raw {row.id}"), 1.0) for n, row in enumerate(rows, 1)]
    marks = ", ".join("?" * len(values[0]))
    columns = (
        "seq, id, name, task, function, queue, priority, state, unmet, due_at, max_attempts, timeout, policy, "
        "summary, description, workflow, workflow_id, submitted_at"
    )

    def insert() -> None:
        db.execute("BEGIN IMMEDIATE")
        db.executemany(f"INSERT INTO jobs ({columns}) VALUES ({marks})", values)
        db.executemany("INSERT INTO job_arguments VALUES (?, ?)", [(value[0], b"0123456789") for value in values])
        db.execute("COMMIT")

    cost = spent(insert, len(rows))
    db.execute("DELETE FROM jobs WHERE id LIKE 'raw %'")
    db.close()
    return cost


# -- claiming and finishing


def claiming(app: App) -> dict[str, float]:
    storage = SqliteStorage(app.url.removeprefix("sqlite:///"))
    storage.register(worker_row())
    request = ClaimRequest(WORKER, GROUP, ("noop",))
    claims: list[float] = []
    ends: list[float] = []
    while True:
        claimed: list[ClaimedJob] = []
        cost = spent(lambda: claimed.extend(storage.claim(request).jobs), GROUP)  # noqa: B023  # called at once
        if len(claimed) < GROUP:
            break
        claims.append(cost)
        now = time.time()
        outcomes = [Outcome(j.seq, j.id, j.claims, j.attempt, End.COMPLETED, now, now, 1, b"result") for j in claimed]
        ends.append(spent(lambda: storage.finish(WORKER, outcomes), GROUP))  # noqa: B023
    storage.close()
    return {
        f"worker: claim, {GROUP} in a transaction": statistics.median(claims),
        f"worker: finish, {GROUP} in a transaction": statistics.median(ends),
        "raw: two UPDATEs and two INSERTs by rowid, no leases": raw_updates(),
    }


def worker_row() -> WorkerRow:
    now = time.time()
    return WorkerRow(WORKER, WORKER, "here", "here", os.getpid(), None, "process", 2, None, ("noop",), None, now)


def raw_updates() -> float:
    """Do what a job cannot do without, on bare tables: RUNNING, COMPLETED, an execution and a result."""
    with tempfile.TemporaryDirectory(prefix="gigq-budget-") as folder:
        db = sqlite3.connect(Path(folder) / "raw.db", isolation_level=None)
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=FULL")
        db.execute("CREATE TABLE jobs (seq INTEGER PRIMARY KEY, id TEXT, state TEXT, at REAL)")
        db.execute("CREATE TABLE executions (seq INTEGER PRIMARY KEY, id TEXT, state TEXT, started REAL, ended REAL)")
        db.execute("CREATE TABLE results (seq INTEGER PRIMARY KEY, data BLOB)")
        db.execute("BEGIN")
        db.executemany("INSERT INTO jobs VALUES (?, ?, 'PENDING', 1.0)", [(n, f"{n:036}") for n in range(BULK)])
        db.execute("COMMIT")

        def work() -> None:
            for start in range(0, BULK, GROUP):
                seqs = range(start, min(start + GROUP, BULK))
                db.execute("BEGIN IMMEDIATE")
                db.executemany("UPDATE jobs SET state = 'RUNNING', at = ? WHERE seq = ?", [(1.0, n) for n in seqs])
                db.execute("COMMIT")
                db.execute("BEGIN IMMEDIATE")
                db.executemany("UPDATE jobs SET state = 'COMPLETED', at = ? WHERE seq = ?", [(2.0, n) for n in seqs])
                rows = [(n, f"{n:036}", "COMPLETED", 1.0, 2.0) for n in seqs]
                db.executemany("INSERT INTO executions VALUES (?, ?, ?, ?, ?)", rows)
                db.executemany("INSERT INTO results VALUES (?, ?)", [(n, b"result") for n in seqs])
                db.execute("COMMIT")

        cost = spent(work, BULK)
        db.close()
        return cost


# -- pipes


def piping() -> dict[str, float]:
    reader, writer = os.pipe()
    one, other = socket.socketpair()
    frame = b"x" * 64

    def outcomes() -> None:
        for _ in range(RAW):
            os.write(writer, frame)
            os.read(reader, 65536)

    def tokens() -> None:
        for _ in range(RAW):
            one.send(frame[:8])
            other.recv(8)

    costs = {
        "raw: one write to a pipe, one read": spent(outcomes, RAW),
        "raw: 8 bytes through a socket pair": spent(tokens, RAW),
    }
    for descriptor in (reader, writer):
        os.close(descriptor)
    one.close()
    other.close()
    return costs


# -- the pool without a database


def running() -> dict[str, float]:
    """Return what a job costs in the supervisor and in its child, with nothing stored."""
    with tempfile.TemporaryDirectory(prefix="gigq-budget-") as folder:
        app = App(Path(folder) / "unused.db")
        app.task(name="noop")(identity)
        pool = ProcessPool(app, url=None, concurrency=2)
        pool.start()
        try:
            warm_up = drive(pool, 2000, first=1)
            pids = {ended.pid for ended in warm_up if ended.pid is not None}
            before = {pid: processor_seconds(pid) for pid in pids}
            started, began = time.thread_time(), time.monotonic()
            drive(pool, POOL_JOBS, first=10_000)
            seconds = time.monotonic() - began
            supervisor = time.thread_time() - started
            children = sum(processor_seconds(pid) - before[pid] for pid in pids)
        finally:
            pool.stop()
    return {
        "worker: hand out and collect (supervisor)": supervisor / POOL_JOBS * 1e6,
        "worker: run (children)": children / POOL_JOBS * 1e6,
        "pool alone, by the clock (2 children)": seconds / POOL_JOBS * 1e6,
    }


def drive(pool: ProcessPool, count: int, *, first: int) -> list[Ended]:
    arguments = dumps(((1,), {})).data
    waiting = [
        ClaimedJob(n, f"{n:036}", "noop", "noop", "default", 0, 1, 1, 1, None, None, arguments)
        for n in range(first, first + count)
    ]
    ended: list[Ended] = []
    poll = select.poll()
    for descriptor in pool.filenos():
        poll.register(descriptor, select.POLLIN)
    while len(ended) < count:
        wanted = pool.wanted()
        waiting[:wanted] = pool.give(waiting[:wanted])
        poll.poll(10)
        ended += [event for event in pool.events() if isinstance(event, Ended)]
        pool.tend()
    return ended


def processor_seconds(pid: int) -> float:
    """Return the processor time of a process; proc_pid_stat(5) counts it in ticks."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
