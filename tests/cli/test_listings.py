"""What the listing commands print, over a real database with hostile content."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from gigq import Job, JobQueue, JobState
from gigq.cli import main


class Bomb:
    """Writes a file when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.write_text, (self.target, "unpickled")


@pytest.fixture
def queue(tmp_path: Path) -> Any:
    queue = JobQueue(tmp_path / "jobs.db")
    yield queue
    queue.close()


def run(queue: JobQueue, *arguments: str) -> Result:
    return CliRunner().invoke(main, [*arguments, "--db", queue.url])


def test_no_listing_unpickles_and_none_prints_control_characters(queue: JobQueue, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    job = queue.submit(Job("evil \x1b[31m\u202e[bold]name", print, args=[Bomb(marker)]))
    for arguments in (
        ["jobs", "list"],
        ["jobs", "list", "--json"],
        ["jobs", "show", job.id],
        ["jobs", "show", job.id, "--json"],
        ["stats"],
        ["workers"],
        ["why", job.id],
        ["jobs", "cancel", job.id],
        ["jobs", "retry", job.id],
        ["prune", "--older-than", "1d"],
    ):
        result = run(queue, *arguments)
        assert result.exit_code == 0, (arguments, result.output)
        assert "\x1b" not in result.output
        assert "\u202e" not in result.output
    assert not marker.exists()


def test_json_listings_are_documents_with_stable_keys(queue: JobQueue) -> None:
    job = queue.submit(Job("plain", print, args=[1]))
    (row,) = json.loads(run(queue, "jobs", "list", "--json").stdout)
    assert (row["id"], row["state"], row["summary"]) == (job.id, "PENDING", "1")
    assert json.loads(run(queue, "stats", "--json").stdout) == {s: int(s is JobState.PENDING) for s in JobState}
    assert json.loads(run(queue, "workers", "--json").stdout) == []


def test_why_says_what_a_pending_job_waits_for(queue: JobQueue) -> None:
    job = queue.submit(Job("lonely", print))
    assert "it waits for a worker: none is running" in run(queue, "why", job.id).stdout


def test_an_unknown_job_is_one_clear_line(queue: JobQueue) -> None:
    queue.submit(Job("some", print))
    result = run(queue, "jobs", "show", "nothing")
    assert result.exit_code == 1
    assert "no job 'nothing' in this database" in result.output


def test_a_listing_never_makes_a_database(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["stats", "--db", str(tmp_path / "none.db")])
    assert result.exit_code == 1
    assert "there is no database" in result.output
    assert not (tmp_path / "none.db").exists()


@pytest.mark.parametrize("target", ["no.such:app", "os:path", "a b:c", "json:nothing"])
def test_a_wrong_target_is_one_clear_line(target: str) -> None:
    result = CliRunner().invoke(main, ["worker", target, "--burst", "-c", "1"])
    assert result.exit_code == 2
    assert result.output.count("\n") == 1
    assert result.output.startswith("gigq: ")
