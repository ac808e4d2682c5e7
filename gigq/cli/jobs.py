"""`gigq jobs`: list, show, cancel and retry. None of them unpickles anything."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final

import click

from gigq.cli.database import with_queue
from gigq.cli.ids import whole_id
from gigq.cli.tables import Column, as_json, print_json, print_table, styled
from gigq.cli.text import age
from gigq.options import DEFAULT_QUEUE
from gigq.plain import plain
from gigq.queue import JobQueue
from gigq.states import JobState
from gigq.storage.rows import JobRow

_MOST_ROWS: Final = 1_000_000  # of one listing: they are all in memory at once
_COLUMNS: Final = (
    Column("id"),
    Column("state"),
    Column("name", cut=True),
    Column("arguments", cut=True, least_width=100),
    Column("tries", justify="right", least_width=120),
    Column("submitted", justify="right"),
    Column("queue", cut=True, least_width=140, usual=DEFAULT_QUEUE),
    Column("note", cut=True, least_width=120, usual=""),
)


@click.group()
def jobs() -> None:
    """Look at jobs, cancel and retry them."""


@jobs.command("list")
@click.option("--state", type=click.Choice([*JobState], case_sensitive=False))
@click.option("--queue", "lane", help="Only of this queue.")
@click.option("--task", help="Only of this task.")
@click.option("--workflow", help="Only of this workflow, by name or id.")
@click.option("--limit", type=click.IntRange(1, _MOST_ROWS), default=100, show_default=True)
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
             age(row.submitted_at, now), row.queue, styled(note(row, now), "dim"))
            for row in rows[:limit]
        ],
        empty="no jobs match" if wanted or lane or task or workflow else "no jobs are stored",
    )  # fmt: skip
    if len(rows) > limit:
        click.echo(f"and more: --limit shows more than {limit:,}, --state and the like fewer of them")


def note(row: JobRow, now: float) -> str:
    """Return what else is worth knowing in a few words: the error, how far it is, or what it waits for."""
    if row.error:
        return row.error
    if row.state is JobState.RUNNING:
        if row.cancel_requested_at is not None:
            return "is being cancelled"
        return "" if row.progress is None else f"{row.progress:.0%} {row.progress_message or ''}".rstrip()
    if row.state is JobState.PENDING and row.unmet:
        return f"after {row.unmet:,} other {'job' if row.unmet == 1 else 'jobs'}"
    if row.state is JobState.PENDING and row.due_at is not None:
        return "due" if row.due_at <= now else f"due {age(row.due_at, now)}"
    return ""


@jobs.command()
@click.argument("job_id", metavar="ID")
@as_json
@with_queue
def show(queue: JobQueue, job_id: str, as_json: bool) -> None:
    """Show one job, its attempts, and the jobs before and after it.

    ID may be the beginning of an id, or its last 8 or more characters.
    """
    storage = queue.storage
    row = storage.get(whole_id(storage, job_id))
    if as_json:
        print_json(
            {
                **row._asdict(),
                "dependencies": [{"id": parent.id, "when": when} for parent, when in storage.parents(row.id)],
                "dependants": [{"id": child.id, "when": when} for child, when in storage.dependants(row.id)],
                "executions": [execution._asdict() for execution in storage.executions(row.id)],
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
    """Cancel jobs; a running one is stopped by its worker.

    ID may be the beginning of an id, or its last 8 or more characters.
    """
    for job_id in _whole_ids(queue, job_ids):
        state = queue.cancel(job_id, reason)
        if state is JobState.RUNNING:
            click.echo(f"{plain(job_id)} {state}: its worker stops it")
        elif state is JobState.CANCELLED:
            click.echo(f"{plain(job_id)} {state}")
        else:
            click.echo(f"{plain(job_id)} {state}: it had ended already")


@jobs.command()
@click.argument("job_ids", metavar="ID...", nargs=-1, required=True)
@with_queue
def retry(queue: JobQueue, job_ids: Sequence[str]) -> None:
    """Run jobs again that ended badly, with what fell with them.

    ID may be the beginning of an id, or its last 8 or more characters.
    """
    for job_id in _whole_ids(queue, job_ids):
        click.echo(f"{plain(job_id)} {queue.storage.retry(job_id)}")


def _whole_ids(queue: JobQueue, parts: Sequence[str]) -> list[str]:
    """Return all ids before anything is done with the first: a slip in the last one should change nothing."""
    return [whole_id(queue.storage, part) for part in parts]
