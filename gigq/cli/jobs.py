"""`gigq jobs`, `stats`, `workers`, `prune` and `why`: none of them unpickles anything."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import click

from gigq.cli.database import with_queue
from gigq.cli.text import plain
from gigq.payload import Failure
from gigq.queue import JobQueue
from gigq.reasons import why_pending
from gigq.states import JobState

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group()
def jobs() -> None:
    """Look at jobs, cancel and retry them."""


@jobs.command("list")
@click.option("--state", type=click.Choice([*JobState], case_sensitive=False))
@click.option("--queue", "lane", help="Only of this queue.")
@click.option("--task", help="Only of this task.")
@click.option("--workflow", help="Only of this workflow, by name or id.")
@click.option("--limit", type=click.IntRange(min=1), default=100, show_default=True)
@_as_json
@with_queue
def list_jobs(
    queue: JobQueue, state: str | None, lane: str | None, task: str | None, workflow: str | None, limit: int,
    as_json: bool,
) -> None:  # fmt: skip
    """List jobs, the newest first."""
    wanted = None if state is None else JobState(state.upper())
    rows = queue.storage.find(state=wanted, queue=lane, task=task, workflow=workflow, limit=limit)
    if as_json:
        _print_json([row._asdict() for row in rows])
        return
    _print_table(
        ("id", "name", "state", "queue", "attempts", "submitted", "error"),
        [
            (row.id, row.name, row.state, row.queue, f"{row.attempts} of {row.max_attempts}", _time(row.submitted_at),
             row.error or "")
            for row in rows
        ],
    )  # fmt: skip


@jobs.command()
@click.argument("job_id", metavar="ID")
@_as_json
@with_queue
def show(queue: JobQueue, job_id: str, as_json: bool) -> None:
    """Show one job and its attempts."""
    row = queue.storage.get(job_id)
    executions = queue.storage.executions(job_id)
    if as_json:
        _print_json({**row._asdict(), "executions": [execution._asdict() for execution in executions]})
        return
    for field, value in row._asdict().items():
        if value not in (None, ""):
            click.echo(f"{field:20} {_time(value) if field.endswith('_at') else plain(value)}")
    for execution in executions:
        click.echo(f"attempt {execution.attempt:<12} {execution.state} at {_time(execution.finished_at)}")
        if execution.error:
            for line in Failure.from_json(execution.error).traceback.splitlines():
                click.echo("    " + plain(line))


@jobs.command()
@click.argument("job_ids", metavar="ID...", nargs=-1, required=True)
@with_queue
def cancel(queue: JobQueue, job_ids: Sequence[str]) -> None:
    """Cancel jobs; a running one is stopped by its worker."""
    for job_id in job_ids:
        click.echo(f"{plain(job_id)} {queue.cancel(job_id)}")


@jobs.command()
@click.argument("job_ids", metavar="ID...", nargs=-1, required=True)
@with_queue
def retry(queue: JobQueue, job_ids: Sequence[str]) -> None:
    """Run jobs again that ended badly, with what fell with them."""
    for job_id in job_ids:
        click.echo(f"{plain(job_id)} {queue.storage.retry(job_id)}")


@click.command()
@_as_json
@with_queue
def stats(queue: JobQueue, as_json: bool) -> None:
    """Count the jobs in each state."""
    counts = queue.stats()
    if as_json:
        _print_json(counts)
    else:
        _print_table(("state", "jobs"), [(state, count) for state, count in counts.items()])


@click.command()
@_as_json
@with_queue
def workers(queue: JobQueue, as_json: bool) -> None:
    """List the workers that have not stopped."""
    rows = queue.workers()
    if as_json:
        _print_json([row._asdict() for row in rows])
        return
    _print_table(
        ("name", "host", "pid", "pool", "slots", "queues", "started"),
        [
            (row.name, row.hostname, row.pid, row.pool, row.concurrency, ",".join(row.queues or ()) or "all",
             _time(row.started_at))
            for row in rows
        ],
    )  # fmt: skip


@click.command()
@click.option("--older-than", required=True, metavar="AGE", help="Such as 30s, 5m, 2h or 7d.")
@with_queue
def prune(queue: JobQueue, older_than: str) -> None:
    """Delete jobs that ended long ago."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", older_than)
    if match is None:
        raise click.UsageError(f"--older-than must be a number and s, m, h or d, such as 7d; got {older_than!r}")
    click.echo(f"{queue.prune(older_than=float(match[1]) * _UNITS[match[2]])} jobs deleted")


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


def _time(value: Any) -> str:
    return datetime.fromtimestamp(value, UTC).strftime("%Y-%m-%d %H:%M:%S")


def _print_json(value: object) -> None:
    click.echo(json.dumps(value, indent=2))


def _print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE)
    for column in columns:
        table.add_column(column, overflow="fold", no_wrap=column in ("id", "state"))
    for row in rows:
        table.add_row(*(Text(plain(value)) for value in row))  # Text: nothing from the database is markup
    console = Console()
    if not console.is_terminal:
        console.width = 250  # a pipe has no edge to wrap at
    console.print(table)
