"""`gigq demo`: a workflow on a temporary database, run by two real workers."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

import click

from gigq.job import Job
from gigq.queue import JobQueue
from gigq.states import JobState
from gigq.storage.rows import WorkerRow
from gigq.workflow import Workflow

DEMO_SECONDS: Final = 60.0  # by then something is wrong
_WORKERS: Final = 2
_CHILDREN: Final = 2  # of each


@click.command(short_help="Run a small workflow with two workers, and show what happened.")
def demo() -> None:
    """Run a small workflow with two worker processes on a temporary database, and show what happened."""
    from gigq.cli.demo.picture import print_picture

    with tempfile.TemporaryDirectory(prefix="gigq-demo-") as folder:
        url = str(Path(folder, "demo.db"))
        queue = JobQueue(url)
        workers = [_start_worker(url, number + 1) for number in range(_WORKERS)]
        try:
            jobs = _submit(queue)
            click.echo(f"{len(jobs)} jobs that depend on each other, in one temporary SQLite file;")
            click.echo(f"{_WORKERS} workers with {_CHILDREN} child processes each. Starting them:\n")
            people = _watch(queue, jobs)
        finally:
            for process in workers:
                process.terminate()
            for process in workers:
                process.wait(timeout=30)
        print_picture(jobs, people)
        unfinished = [job for job in jobs if job.state is not JobState.COMPLETED]
        queue.close()
    if unfinished:
        raise click.ClickException(f"{len(unfinished)} jobs are not COMPLETED, the first is {unfinished[0]!r}")


def _start_worker(url: str, number: int) -> subprocess.Popen[bytes]:
    arguments = ["worker", "gigq.cli.demo.tasks:app", "-c", str(_CHILDREN), "-n", f"demo-{number}", "-l", "warning"]
    return subprocess.Popen([sys.executable, "-m", "gigq", *arguments], env={**os.environ, "GIGQ_URL": url})


def _submit(queue: JobQueue) -> list[Job[object]]:
    from gigq.cli.demo.tasks import archive, download, measure, notify, process, report

    workflow = Workflow("data_pipeline")
    first = workflow.add_job(Job("download", download))
    second = workflow.add_job(Job("process", process, args=[first.output]))
    third = workflow.add_job(Job("report", report, args=[second.output]))
    fourth = workflow.add_job(Job("notify", notify, args=[second.output]))
    parts = [workflow.add_job(Job(f"measure {n}", measure, args=[n]), depends_on=[second]) for n in range(12)]
    workflow.add_job(Job("archive", archive, args=[third.output]), depends_on=[fourth, *parts])
    return workflow.submit_all(queue)


def _watch(queue: JobQueue, jobs: list[Job[object]]) -> dict[str, WorkerRow]:
    """Show a progress bar until all jobs have ended; return the workers that were seen."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress

    people: dict[str, WorkerRow] = {}
    deadline = time.monotonic() + DEMO_SECONDS
    with Progress(BarColumn(bar_width=60), MofNCompleteColumn()) as bar:
        row = bar.add_task("", total=len(jobs))
        while True:
            people.update((worker.id, worker) for worker in queue.workers())
            states = queue.storage.states([job.id for job in jobs])
            ended = sum(state.is_terminal for state in states.values())
            bar.update(row, completed=ended)
            if ended == len(jobs):
                return people
            if time.monotonic() > deadline:
                raise click.ClickException(f"the demo is not done after {DEMO_SECONDS:g} s: {states}")
            time.sleep(0.05)
