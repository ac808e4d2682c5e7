"""A retry policy in a row is read as what it is, and rubbish in its place stops no worker."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from gigq import App, ConfigurationError, JobState
from gigq.retry import RetryPolicy

RUBBISH = [
    "",
    "null",
    "[]",
    "{}",
    "{",
    '{"on": 1}',
    '{"on": [1]}',
    '{"on": [], "delay": "x"}',
    '{"on": [], "delay": -1}',
    '{"on": [], "backoff": 0}',
    '{"on": [], "jitter": 2}',
    '{"on": [], "on_timeout": 1}',
    '{"on": [], "evil": 1}',
    '{"on": [], "max_delay": NaN}',
]


def test_a_policy_comes_back_as_it_was() -> None:
    policy = RetryPolicy(on=("a.B",), delay=0.5, backoff=3.0, max_delay=9.0, jitter=0.0, on_timeout=True)
    assert RetryPolicy.from_json(policy.to_json()) == policy == RetryPolicy.stored(policy.to_json(), RetryPolicy())


@pytest.mark.parametrize("text", RUBBISH)
def test_rubbish_is_refused_or_replaced(text: str) -> None:
    with pytest.raises(ConfigurationError, match="makes no sense"):
        RetryPolicy.from_json(text)
    own = RetryPolicy(delay=7.0)
    assert RetryPolicy.stored(text, own) is own


def test_a_worker_outlives_rubbish_in_a_row(tmp_path: Path) -> None:
    app = App(tmp_path / "jobs.db", name="rows")

    def fail() -> None:
        raise ValueError("no")

    task = app.task(name="rows.fail", max_attempts=2, retry_delay=0)(fail)
    jobs = [task.options(retry_delay=60).delay() for _ in RUBBISH]
    with closing(sqlite3.connect(tmp_path / "jobs.db", isolation_level=None)) as db:
        for job, text in zip(jobs, RUBBISH, strict=True):
            db.execute("UPDATE jobs SET policy = ? WHERE id = ?", (text, job.id))
    app.worker(pool="inline", burst=True)
    assert [(job.state, len(job.executions)) for job in jobs] == [(JobState.FAILED, 2)] * len(RUBBISH)
