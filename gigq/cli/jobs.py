"""`gigq jobs`: list, show, cancel and retry. None of them unpickles anything."""

from __future__ import annotations

import time
from collections.abc import Sequence

import click

from gigq.cli.database import with_queue
from gigq.cli.tables import Column, as_json, print_json, print_table
from gigq.cli.text import age, plain
from gigq.queue import JobQueue
from gigq.states import JobState

_COLUMNS = (
    Column("id"),
    Column("state"),
    Column("name", cut=True),
    Column("arguments", only_wide=True, cut=True),
    Column("tries", justify="right"),
    Column("submitted", justify="right"),
    Column("queue", only_wide=True, cut=True),
    Column("error", only_wide=True, cut=True),
)


@click.group()
def jobs() -> None:
    """Look at jobs, cancel and retry them."""


@jobs.command("list")
@click.option("--state", type=click.Choice([*JobState], case_sensitive=False))
@click.option("--queue", "lane", help="Only of this queue.")
@click.option("--task", help="Only of this task.")
@click.option("--workflow", help="Only of this workflow, by name or id.")
@click.option("--limit", type=click.IntRange(min=1), default=100, show_default=True)
@as_json
@with_queue
def list_jobs(
    queue: JobQueue, state: str | None, lane: str | None, task: str | None, workflow: str | None, limit: int,
    as_json: bool,
) -> None:  # fmt: skip
    """List jobs, the newest first."""
    wanted = None if state is None else JobState(state.upper())
    # One more than is shown, to know whether there are more.
    rows = queue.storage.find(state=wanted, queue=lane, task=task, workflow=workflow, limit=limit + 1)
    if as_json:
        print_json([row._asdict() for row in rows[:limit]])
        return
    now = time.time()
    print_table(
        _COLUMNS,
        [
            (row.id, row.state, row.name, row.summary, f"{row.attempts}/{row.max_attempts}",
             age(row.submitted_at, now), row.queue, row.error or "")
            for row in rows[:limit]
        ],
        empty="no jobs match",
    )  # fmt: skip
    if len(rows) > limit:
        click.echo(f"and more: --limit shows more than {limit}, --state and the like fewer of them")


@jobs.command()
@click.argument("job_id", metavar="ID")
@as_json
@with_queue
def show(queue: JobQueue, job_id: str, as_json: bool) -> None:
    """Show one job, its attempts, and the jobs before and after it."""
    storage = queue.storage
    row = storage.get(job_id)
    if as_json:
        print_json(
            {
                **row._asdict(),
                "dependencies": [{"id": parent.id, "when": when} for parent, when in storage.parents(job_id)],
                "dependants": [{"id": child.id, "when": when} for child, when in storage.dependants(job_id)],
                "executions": [execution._asdict() for execution in storage.executions(job_id)],
            }
        )
        return
    from gigq.cli.job_page import print_job  # rich takes 50 ms

    print_job(storage, row)


@jobs.command()
@click.argument("job_ids", metavar="ID...", nargs=-1, required=True)
@click.option("--reason", default="cancelled by a person", show_default=True, help="Kept with the job.")
@with_queue
def cancel(queue: JobQueue, job_ids: Sequence[str], reason: str) -> None:
    """Cancel jobs; a running one is stopped by its worker."""
    for job_id in job_ids:
        click.echo(f"{plain(job_id)} {queue.cancel(job_id, reason)}")


@jobs.command()
@click.argument("job_ids", metavar="ID...", nargs=-1, required=True)
@with_queue
def retry(queue: JobQueue, job_ids: Sequence[str]) -> None:
    """Run jobs again that ended badly, with what fell with them."""
    for job_id in job_ids:
        click.echo(f"{plain(job_id)} {queue.storage.retry(job_id)}")
