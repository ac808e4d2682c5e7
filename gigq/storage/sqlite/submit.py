"""Storing new jobs."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from typing import Final

from gigq.errors import AlreadySubmitted, DependencyError
from gigq.states import JobState
from gigq.storage.rows import NewJob
from gigq.storage.sqlite.bulk import insert
from gigq.storage.sqlite.dependants import settle

_PENDING: Final = JobState.PENDING.value  # a plain str: sqlite3 asks Python how to store any subclass

_INTO_JOBS = """
INSERT INTO jobs (seq, id, name, task, function, queue, priority, state, unmet, due_at, max_attempts, timeout, policy,
                  summary, description, workflow, workflow_id, submitted_at)
"""


def submit(db: sqlite3.Connection, jobs: Sequence[NewJob], now: float) -> None:
    """Store `jobs`, numbered in their order, then let what has already happened to their parents happen to them."""
    (last,) = db.execute("SELECT coalesce(max(seq), 0) FROM jobs").fetchone()
    first = last + 1
    try:
        insert(db, _INTO_JOBS, [_row(seq, job, now) for seq, job in enumerate(jobs, first)])
    except sqlite3.IntegrityError as error:
        if error.sqlite_errorcode != sqlite3.SQLITE_CONSTRAINT_UNIQUE:
            raise
        raise AlreadySubmitted("a job with one of these ids is stored already; nothing was stored now") from error
    insert(db, "INSERT INTO job_arguments (job, data)", [(seq, job.arguments) for seq, job in enumerate(jobs, first)])
    if any(job.parents for job in jobs):
        _connect(db, jobs, first, now)


def _row(seq: int, job: NewJob, now: float) -> tuple[object, ...]:
    due_at = job.run_at
    if job.delay:
        due_at = now + job.delay
    return (
        seq,
        job.id,
        job.name,
        job.task,
        job.function,
        job.queue,
        job.priority,
        _PENDING,
        len(job.parents),
        due_at if due_at is not None and due_at > now else None,
        job.max_attempts,
        job.timeout,
        job.policy,
        job.summary,
        job.description,
        job.workflow,
        job.workflow_id,
        now,
    )


def _connect(db: sqlite3.Connection, jobs: Sequence[NewJob], first: int, now: float) -> None:
    """Store the edges of new jobs, and settle those whose parents have ended already."""
    seqs = {job.id: seq for seq, job in enumerate(jobs, first)}
    outside = {parent.job_id for job in jobs for parent in job.parents if parent.job_id not in seqs}
    ended: list[tuple[int, JobState]] = []
    if outside:
        for seq, job_id, state in db.execute(
            "SELECT seq, id, state FROM jobs WHERE id IN (SELECT value FROM json_each(?))", (json.dumps(list(outside)),)
        ):
            seqs[job_id] = seq
            if JobState(state).is_terminal:
                ended.append((seq, JobState(state)))
        unknown = sorted(outside - seqs.keys())
        if unknown:
            raise DependencyError(
                f"a dependency must be stored or submitted together with its dependant, got unknown id {unknown[0]}"
                + (f" and {len(unknown) - 1} more" if unknown[1:] else "")
                + "; nothing was stored"
            )
    insert(
        db,
        'INSERT INTO job_edges (parent, child, "when")',
        [(seqs[p.job_id], seq, p.when.value) for seq, job in enumerate(jobs, first) for p in job.parents],
    )
    # Only the new children: what these parents' end did to older ones has been done.
    settle(db, ended, now, first_child=first)
