"""`gigq demo`: a workflow on a temporary database, run by two real workers."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click

from gigq.job import Job
from gigq.queue import JobQueue
from gigq.states import JobState
from gigq.storage.base import WorkerRow
from gigq.workflow import Workflow

DEMO_SECONDS = 60.0  # by then something is wrong


@click.command()
def demo() -> None:
    """Run a small workflow with two worker processes on a temporary database, and show what happened."""
    with tempfile.TemporaryDirectory(prefix="gigq-demo-") as folder:
        url = str(Path(folder, "demo.db"))
        queue = JobQueue(url)
        workers = [_start_worker(url, number) for number in (1, 2)]
        try:
            jobs = _submit(queue)
            people = _watch(queue, jobs)
        finally:
            for process in workers:
                process.terminate()
            for process in workers:
                process.wait(timeout=30)
        _show(jobs, people)
        unfinished = [job for job in jobs if job.state is not JobState.COMPLETED]
        queue.close()
    if unfinished:
        raise click.ClickException(f"{len(unfinished)} jobs are not COMPLETED, the first is {unfinished[0]!r}")


def _start_worker(url: str, number: int) -> subprocess.Popen[bytes]:
    arguments = ["worker", "gigq.cli.demo.tasks:app", "-c", "2", "-n", f"demo-{number}", "-l", "warning"]
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
    from rich.progress import Progress

    people: dict[str, WorkerRow] = {}
    deadline = time.monotonic() + DEMO_SECONDS
    with Progress() as bar:
        row = bar.add_task("two workers, four children", total=len(jobs))
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


def _show(jobs: list[Job[object]], people: dict[str, WorkerRow]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(title="What happened", box=box.SIMPLE, title_style="bold")
    for column in ("job", "attempt", "ended", "took", "worker", "its pid", "child's pid"):
        table.add_column(column, justify="right" if column in ("attempt", "took", "its pid", "child's pid") else "left")
    for job in jobs:
        for execution in job.executions:
            worker = people.get(execution.worker)
            took = execution.finished_at - (execution.started_at or execution.finished_at)
            style = "green" if execution.state is JobState.COMPLETED else "yellow"
            table.add_row(
                job.name,
                f"{execution.attempt} of {job.max_attempts}",
                f"[{style}]{execution.state}[/]",
                f"{took * 1000:.1f} ms",
                worker.name if worker else execution.worker[:8],
                str(worker.pid) if worker else "",
                str(execution.pid or ""),
            )
    Console().print(table)
