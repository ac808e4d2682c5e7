"""What happened in the demo: every attempt as a bar on one axis of time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import click
from rich.text import Text

from gigq.cli.tables import STATE_STYLES, Column, print_table, styled
from gigq.cli.text import duration
from gigq.job import Job
from gigq.states import JobState
from gigq.storage.rows import WorkerRow

_BAR_COLUMNS: Final = 20  # characters: what 80 columns leave


def print_picture(jobs: Sequence[Job[object]], workers: Mapping[str, WorkerRow]) -> None:
    """Print all attempts of some ended jobs in the order in which they started, and a line about them."""
    attempts = sorted(
        (
            (execution.started_at or execution.finished_at, job, execution)
            for job in jobs
            for execution in job.executions
        ),
        key=lambda attempt: attempt[0],
    )
    if not attempts:
        return
    first, last = attempts[0][0], max(execution.finished_at for _, _, execution in attempts)
    click.echo()
    print_table(
        (
            Column("job"),
            Column("attempt", justify="right"),
            Column("ended"),
            Column("took", justify="right"),
            Column("child of worker"),
            Column(f"0 to {duration(last - first)}"),
        ),
        [
            (job.name, f"{execution.attempt} of {job.max_attempts}", execution.state,
             duration(execution.finished_at - started),
             f"{execution.pid or ''} {_name(execution.worker, workers)}",
             _bar(started - first, execution.finished_at - first, last - first, execution.state))
            for started, job, execution in attempts
        ],
        empty="",
    )  # fmt: skip
    failed = sum(execution.state is not JobState.COMPLETED for _, _, execution in attempts)
    processes = ", ".join(
        f"{worker.name} is process {worker.pid}" for worker in sorted(workers.values(), key=lambda row: row.name)
    )
    click.echo(f"\n{processes}.")
    click.echo(f"{len(jobs)} jobs, {len(attempts)} attempts, {failed} failed: notify does so once on purpose.")
    click.echo("Now write your own: the README begins with one file of ten lines.")


def _name(worker_id: str, workers: Mapping[str, WorkerRow]) -> str:
    worker = workers.get(worker_id)
    return worker_id[:8] if worker is None else worker.name


def _bar(start: float, end: float, whole: float, state: JobState) -> Text:
    """Return a bar from `start` to `end` on an axis of `whole` seconds; the shortest is one character."""
    scale = _BAR_COLUMNS / max(whole, 1e-9)
    left = min(int(start * scale), _BAR_COLUMNS - 1)
    width = max(1, min(round(end * scale), _BAR_COLUMNS) - left)
    return Text.assemble(" " * left, styled("━" * width, STATE_STYLES[state]))
