"""`gigq workers`: who is there, since when, and what each one holds."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Final

import click

from gigq.cli.database import with_queue
from gigq.cli.tables import Column, as_json, print_json, print_table, styled
from gigq.cli.text import age
from gigq.queue import JobQueue
from gigq.states import JobState
from gigq.storage.rows import JobRow
from gigq.worker.peers import LEASE_SECONDS

_HELD_AT_MOST: Final = 10_000  # jobs looked at; a worker holds a few hundred, those that are next included

_COLUMNS: Final = (
    Column("name", cut=True),
    Column("pid", justify="right"),
    Column("pool"),
    Column("slots", justify="right"),
    Column("queues", cut=True),
    Column("doing", cut=True),
    Column("last beat", justify="right"),
    Column("started", justify="right", least_width=100),
    Column("host", cut=True, least_width=120),
    Column("id", cut=True, least_width=140),
)


@click.command()
@as_json
@with_queue
def workers(queue: JobQueue, as_json: bool) -> None:
    """List the workers that have not stopped, and what they do."""
    held: defaultdict[str | None, list[JobRow]] = defaultdict(list)
    for job in reversed(queue.storage.find(state=JobState.RUNNING, limit=_HELD_AT_MOST)):
        held[job.worker].append(job)
    rows = queue.workers()
    if as_json:
        print_json(
            [
                {**row._asdict(), "jobs": [{"id": job.id, "name": job.name} for job in held[row.id]]}  # oldest first
                for row in rows
            ]
        )
        return
    now = time.time()
    print_table(
        _COLUMNS,
        [
            (styled(row.name, "bold"), row.pid, row.pool, f"{row.concurrency:,}", ", ".join(row.queues or ()) or "all",
             _doing(held[row.id]), styled(age(row.beat_at, now), "red" if now - row.beat_at > LEASE_SECONDS else ""),
             age(row.started_at, now), row.hostname, row.id)
            for row in rows
        ],
        empty="no worker is running",
    )  # fmt: skip


def _doing(jobs: Sequence[JobRow]) -> object:
    """Return what a worker has claimed: a job's name and, if several are called so, how many."""
    if not jobs:
        return styled("nothing", "dim")
    counts = Counter(job.name for job in jobs).most_common()
    return styled(", ".join(name if count == 1 else f"{name} ({count:,})" for name, count in counts), "cyan")
