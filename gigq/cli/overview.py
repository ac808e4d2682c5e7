"""`gigq stats`, `why` and `prune`: the whole of a database, and what a job waits for."""

from __future__ import annotations

import re
from typing import Final

import click

from gigq.cli.database import with_queue
from gigq.cli.ids import whole_id
from gigq.cli.tables import Column, as_json, print_json, print_table, styled
from gigq.plain import plain
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
    total = sum(counts.values())
    if not total:
        click.echo("no jobs are stored")
        return
    print_table(
        (Column("state"), Column("jobs", justify="right"), Column("share", justify="right")),
        [
            *(
                (state, styled(f"{count:,}", "" if count else "dim"), _share(count, total))
                for state, count in counts.items()
            ),
            (styled("in all", "bold"), styled(f"{total:,}", "bold"), ""),
        ],
        empty="",
    )


def _share(count: int, total: int) -> str:
    """Return a part of a whole in per cent; neither few are called none, nor nearly all all."""
    percent = 100 * count / total
    if 0 < percent < 1:
        return "<1 %"
    if 99 < percent < 100:
        return ">99 %"
    return f"{percent:.0f} %" if count else ""


@click.command()
@click.argument("job_id", metavar="ID")
@with_queue
def why(queue: JobQueue, job_id: str) -> None:
    """Say what a pending job waits for, or how another one is."""
    row = queue.storage.get(whole_id(queue.storage, job_id))
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
    click.echo("1 job deleted" if count == 1 else f"{count:,} jobs deleted")
