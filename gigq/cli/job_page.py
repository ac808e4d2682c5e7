"""One job as a page: what it is, how it runs and when, what stands before and after it, and every attempt."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Final, TypeAlias

from rich.text import Text

from gigq.cli.tables import STATE_STYLES, make_console, styled
from gigq.cli.text import age, duration
from gigq.clock import utc_text
from gigq.payload import Failure
from gigq.reasons import why_pending
from gigq.states import JobState
from gigq.storage.base import Storage
from gigq.storage.rows import BY_VALUE, ExecutionRow, JobRow, When

_RELATIVES_AT_MOST: Final = 20  # of either side; --json has them all

Facts: TypeAlias = Iterator[tuple[str, object]]


def print_job(storage: Storage, job: JobRow) -> None:
    """Print everything that is known about a job, without loading any of it."""
    names = {worker.id: worker.name for worker in storage.workers()}
    show = partial(make_console().print, soft_wrap=True)  # the terminal wraps, so that a copied line stays whole
    show(Text.assemble(styled(job.name, "bold"), "  ", styled(job.state)))
    sections = (("What", _what(job)), ("How", _how(storage, job, names)), ("When", _when(job, time.time())))
    for title, facts in sections:
        show(_heading(title))
        for key, value in facts:
            show(Text.assemble(styled(f"  {key:<12} ", "dim"), value if isinstance(value, Text) else styled(value)))
    for title, relatives in (("Depends on", storage.parents(job.id)), ("Needed by", storage.dependants(job.id))):
        if relatives:
            show(_heading(title))
        for line in _relatives(relatives):
            show(line)
    executions = storage.executions(job.id)
    if executions:
        show(_heading("Attempts"))
    for execution in executions:
        for line in _attempt(execution, names):
            show(line)


def _heading(title: str) -> Text:
    return Text(f"\n{title}", style="bold")


def _what(job: JobRow) -> Facts:
    yield "id", job.id
    yield "call", f"{job.function}({job.summary})" + (" (sent with the job)" if job.task == BY_VALUE else "")
    if job.description:
        yield "description", job.description
    if job.workflow is not None:
        yield "workflow", f"{job.workflow} ({job.workflow_id})"


def _how(storage: Storage, job: JobRow, names: Mapping[str, str]) -> Facts:
    yield "queue", job.queue
    yield "priority", job.priority
    yield "attempts", f"{job.attempts} of {job.max_attempts}"
    yield "timeout", "none" if job.timeout is None else duration(job.timeout)
    if job.state is JobState.RUNNING and job.worker is not None:
        yield "worker", _named(job.worker, names)
    if job.progress is not None:
        yield "progress", f"{job.progress:.0%} {job.progress_message or ''}".rstrip()
    reason = why_pending(storage, job)
    if reason is not None:
        yield "waits for", styled(reason, "yellow")
    if job.error:
        yield "error", styled(job.error, "red")


def _when(job: JobRow, now: float) -> Facts:
    for title, instant in (
        ("submitted", job.submitted_at),
        ("due", job.due_at),
        ("claimed", job.claimed_at),
        ("cancel asked", job.cancel_requested_at),
        ("ended", job.finished_at),
    ):
        if instant is not None:
            yield title, Text.assemble(utc_text(instant), styled(f", {age(instant, now)}", "dim"))


def _relatives(relatives: Sequence[tuple[JobRow, When]]) -> Iterator[Text]:
    longest = max(map(len, JobState))
    for other, when in relatives[:_RELATIVES_AT_MOST]:
        state = styled(f"{other.state:<{longest}}", STATE_STYLES[other.state])
        yield Text("  ").join((Text(), styled(other.id), state, Text.assemble(styled(other.name), f", on {when}")))
    if len(relatives) > _RELATIVES_AT_MOST:
        yield styled(f"  and {len(relatives) - _RELATIVES_AT_MOST:,} more: --json has them all", "dim")


def _attempt(execution: ExecutionRow, names: Mapping[str, str]) -> Iterator[Text]:
    took = "not started"
    if execution.started_at is not None:
        took = f"after {duration(execution.finished_at - execution.started_at)}"
    process = "" if execution.pid is None else f", pid {execution.pid}"
    yield Text.assemble(
        f"  {execution.attempt}  ",
        styled(execution.state),
        styled(f" {took}, {utc_text(execution.finished_at)}{process}, {_named(execution.worker, names)}"),
    )
    if execution.error:
        for line in _error(execution.error).splitlines():
            yield styled(f"     {line}", "dim")


def _error(text: str) -> str:
    try:
        failure = Failure.from_json(text)
    except (ValueError, TypeError):  # the table may have been written by hand: the page shows what is there
        return text
    return failure.traceback or str(failure)


def _named(worker: str, names: Mapping[str, str]) -> str:
    """Return a worker's name while it lives, else the beginning of its id."""
    return names.get(worker, f"worker {worker[:8]}")
