"""One job as a page: what it is, how it went, what stands before and after it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial

from rich.text import Text

from gigq.cli.tables import make_console, styled
from gigq.cli.text import age, duration, moment, plain
from gigq.payload import Failure
from gigq.reasons import why_pending
from gigq.storage.base import BY_VALUE, ExecutionRow, JobRow, Storage


def print_job(storage: Storage, job: JobRow) -> None:
    """Print everything that is known about a job, without loading any of it."""
    show = partial(make_console().print, soft_wrap=True)  # the terminal wraps, so that a copied line stays whole
    show(Text.assemble(Text(plain(job.name), style="bold"), "  ", styled(job.state)))
    for title, text in _facts(storage, job, time.time()):
        show(Text.assemble(Text(f"  {title:<12}", style="dim"), Text(text)))
    for title, relatives in (("Depends on", storage.parents(job.id)), ("Needed by", storage.dependants(job.id))):
        if relatives:
            show(Text(f"\n{title}", style="bold"))
        for other, when in relatives:
            show(Text.assemble(f"  {other.id}  ", styled(other.state), f"  {plain(other.name)}, on {when}"))
    executions = storage.executions(job.id)
    if executions:
        show(Text("\nAttempts", style="bold"))
    for execution in executions:
        show(_attempt(execution))
        if execution.error:
            failure = Failure.from_json(execution.error)
            for line in (failure.traceback or str(failure)).splitlines():
                show(Text(f"     {plain(line)}", style="dim"))


def _facts(storage: Storage, job: JobRow, now: float) -> Iterator[tuple[str, str]]:
    yield "id", job.id
    by_value = " (sent with the job)" if job.task == BY_VALUE else ""
    yield "calls", plain(f"{job.function}({job.summary}){by_value}")
    if job.description:
        yield "description", plain(job.description)
    yield "queue", f"{plain(job.queue)}, priority {job.priority}"
    limit = "no timeout" if job.timeout is None else f"timeout {job.timeout:g} s"
    yield "attempts", f"{job.attempts} of {job.max_attempts}, {limit}"
    if job.workflow is not None:
        yield "workflow", plain(f"{job.workflow} ({job.workflow_id})")
    for title, instant in (
        ("submitted", job.submitted_at),
        ("due", job.due_at),
        ("claimed", job.claimed_at),
        ("cancel asked", job.cancel_requested_at),
        ("ended", job.finished_at),
    ):
        if instant is not None:
            yield title, f"{moment(instant)}, {age(instant, now)}"
    if job.progress is not None:
        yield "progress", plain(f"{job.progress:.0%} {job.progress_message or ''}")
    reason = why_pending(storage, job)
    if reason is not None:
        yield "waits for", plain(reason)
    if job.error:
        yield "error", plain(job.error)


def _attempt(execution: ExecutionRow) -> Text:
    took = "" if execution.started_at is None else f" after {duration(execution.finished_at - execution.started_at)}"
    process = "" if execution.pid is None else f", pid {execution.pid}"
    return Text.assemble(
        f"  {execution.attempt}  ",
        styled(execution.state),
        f"{took}, {moment(execution.finished_at)}{process}, worker {plain(execution.worker)[:8]}",
    )
