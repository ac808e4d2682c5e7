"""`gigq stats`, `workers`, `why` and `prune`: the whole of a database, and what it waits for."""

from __future__ import annotations

import re
import time
from typing import Final

import click

from gigq.cli.database import with_queue
from gigq.cli.tables import Column, as_json, print_json, print_table
from gigq.cli.text import age, plain
from gigq.queue import JobQueue
from gigq.reasons import why_pending

_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}


@click.command()
@as_json
@with_queue
def stats(queue: JobQueue, as_json: bool) -> None:
    """Count the jobs in each state."""
    counts = queue.stats()
    if as_json:
        print_json(counts)
        return
    print_table(
        (Column("state"), Column("jobs", justify="right")),
        [*((state, f"{count:,}") for state, count in counts.items()), ("in all", f"{sum(counts.values()):,}")],
        empty="",
    )


@click.command()
@as_json
@with_queue
def workers(queue: JobQueue, as_json: bool) -> None:
    """List the workers that have not stopped."""
    rows = queue.workers()
    if as_json:
        print_json([row._asdict() for row in rows])
        return
    now = time.time()
    print_table(
        (
            Column("name", cut=True),
            Column("pid", justify="right"),
            Column("pool"),
            Column("queues", cut=True),
            Column("started", justify="right"),
            Column("last seen", justify="right"),
            Column("host", cut=True, only_wide=True),
            Column("id", only_wide=True),
        ),
        [
            (row.name, row.pid, f"{row.pool}, {row.concurrency} slots", ", ".join(row.queues or ()) or "all",
             age(row.started_at, now), age(row.beat_at, now), row.hostname, row.id)
            for row in rows
        ],
        empty="no worker is running",
    )  # fmt: skip


@click.command()
@click.argument("job_id", metavar="ID")
@with_queue
def why(queue: JobQueue, job_id: str) -> None:
    """Say what a pending job waits for, or how another one is."""
    row = queue.storage.get(job_id)
    reason = why_pending(queue.storage, row)
    text = f"{row.name} is {row.state}"
    if reason is not None:
        text += f": it waits for {reason}"
    elif row.error:
        text += f": {row.error}"
    click.echo(plain(text))


@click.command()
@click.option("--older-than", required=True, metavar="AGE", help="Such as 30s, 5m, 2h or 7d.")
@with_queue
def prune(queue: JobQueue, older_than: str) -> None:
    """Delete jobs that ended long ago."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", older_than)
    if match is None:
        raise click.UsageError(f"--older-than must be a number and s, m, h or d, such as 7d; got {older_than!r}")
    count = queue.prune(older_than=float(match[1]) * _UNITS[match[2]])
    click.echo(f"{count:,} jobs deleted")
