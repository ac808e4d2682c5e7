"""What the listing commands print, over a real database with hostile content."""

from __future__ import annotations

import json
import sqlite3
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from conftest import Run
from rich.text import Text

from gigq import Job, JobQueue, JobState, Worker
from gigq.cli import main
from gigq.cli.text import age, duration


class Bomb:
    """Writes a file when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.write_text, (self.target, "unpickled")


def compute(n: int) -> float:
    return n / 0


def test_no_listing_unpickles_and_none_prints_control_characters(queue: JobQueue, run: Run, tmp_path: Path) -> None:
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
        result = run(*arguments)
        assert result.exit_code == 0, (arguments, result.output)
        assert "\x1b" not in result.output
        assert "\u202e" not in result.output
    assert not marker.exists()


def test_json_listings_are_documents_with_stable_keys(queue: JobQueue, run: Run) -> None:
    job = queue.submit(Job("plain", print, args=[1]))
    (row,) = json.loads(run("jobs", "list", "--json").stdout)
    assert (row["id"], row["state"], row["summary"]) == (job.id, "PENDING", "1")
    assert json.loads(run("stats", "--json").stdout) == {s: int(s is JobState.PENDING) for s in JobState}
    assert json.loads(run("workers", "--json").stdout) == []


def test_why_says_what_a_pending_job_waits_for(queue: JobQueue, run: Run) -> None:
    job = queue.submit(Job("lonely", print))
    assert "it waits for a worker: none is running" in run("why", job.id).stdout


def test_an_unknown_job_is_one_clear_line(queue: JobQueue, run: Run) -> None:
    queue.submit(Job("some", print))
    result = run("jobs", "show", "nothing")
    assert result.exit_code == 1
    assert "no job 'nothing' in this database" in result.output


def test_a_listing_never_makes_a_database(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["stats", "--db", str(tmp_path / "none.db")])
    assert result.exit_code == 1
    assert "does not exist" in result.output
    assert not (tmp_path / "none.db").exists()


def test_a_folder_and_a_file_of_something_else_are_one_clear_line(tmp_path: Path) -> None:
    other = tmp_path / "notes.db"
    other.write_text("not a database, but long enough to be taken for one: " + "x" * 1000)
    for path, message in ((tmp_path, "is not a file"), (other, "file is not a database")):
        result = CliRunner().invoke(main, ["stats", "--db", str(path)])
        assert (result.exit_code, result.output.count("\n")) == (1, 1), result.output
        assert message in result.output


def test_a_database_of_a_newer_gigq_is_one_clear_line(queue: JobQueue, run: Run, tmp_path: Path) -> None:
    queue.stats()
    db = sqlite3.connect(tmp_path / "jobs.db")
    db.execute("INSERT INTO gigq_migrations VALUES (99, 0)")
    db.commit()
    db.close()
    result = run("stats")
    assert (result.exit_code, result.output.count("\n")) == (1, 1)
    assert "upgrade gigq" in result.output


def test_empty_listings_say_so(queue: JobQueue, run: Run) -> None:
    queue.stats()
    assert run("jobs", "list").output == "no jobs match\n"
    assert run("workers").output == "no worker is running\n"


def test_a_table_fits_the_terminal_and_keeps_what_tells_jobs_apart(
    queue: JobQueue, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = queue.submit(Job("a name that is far too long for a terminal of eighty columns", print, args=["x" * 50]))
    monkeypatch.setattr("rich.console.Console.is_terminal", True)
    for columns in (80, 130):
        monkeypatch.setenv("COLUMNS", str(columns))
        header, row = Text.from_ansi(run("jobs", "list").output).plain.splitlines()
        assert len(row) <= columns
        assert job.id in row
        assert "a name" in row
        assert ("arguments" in header) is (columns == 130)


def test_a_listing_that_is_cut_off_says_so(queue: JobQueue, run: Run) -> None:
    queue.submit_many(Job(f"job {n}", print) for n in range(3))
    lines = run("jobs", "list", "--limit", "2").output.splitlines()
    assert [line.split()[2:4] for line in lines[1:3]] == [["job", "2"], ["job", "1"]]
    assert lines[3].startswith("and more: --limit")
    assert len(run("jobs", "list", "--limit", "3").output.splitlines()) == 4


def test_a_page_about_a_job_has_what_went_before_it_and_how_it_went(queue: JobQueue, run: Run) -> None:
    first = queue.submit(Job("first", compute, args=[1], max_attempts=1, description="Add it up.", timeout=30))
    second = first.then(print)
    Worker(queue, pool="inline", burst=True, soft_timeouts=True).run()
    page = run("jobs", "show", first.id).output
    for part in ("first  FAILED", "compute(1) (sent with the job)", "Add it up.", "1 of 1, timeout 30 s"):
        assert part in page
    assert f"{second.id}  CANCELLED  print, on success" in page
    assert "ZeroDivisionError: division by zero" in page.splitlines()[-1]
    assert f"{first.id}  FAILED  first, on success" in run("jobs", "show", second.id).output

    document = json.loads(run("jobs", "show", second.id, "--json").output)
    assert document["dependencies"] == [{"id": first.id, "when": "success"}]
    assert document["executions"] == []


def test_a_reason_to_cancel_is_kept(queue: JobQueue, run: Run) -> None:
    job = queue.submit(Job("some", print))
    assert run("jobs", "cancel", job.id, "--reason", "wrong file").output == f"{job.id} CANCELLED\n"
    assert job.error == "wrong file"


def test_the_database_of_an_app_is_found_without_importing_it_here(
    queue: JobQueue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue.stats()
    (tmp_path / "listed_app.py").write_text("from gigq import App\nprint('noise')\napp = App('jobs.db')\n")
    monkeypatch.chdir(tmp_path)
    assert CliRunner().invoke(main, ["jobs", "list", "--app", "listed_app:app"]).output == "no jobs match\n"
    assert "listed_app" not in sys.modules
    result = CliRunner().invoke(main, ["jobs", "list", "--app", "listed_app:nothing"])
    assert result.output == "Error: cannot load listed_app:nothing: module listed_app has no attribute 'nothing'\n"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.00031, "0.31 ms"),
        (0.25, "250 ms"),
        (1.5, "1.5 s"),
        (119, "119 s"),
        (120, "2 min"),
        (1e4, "3 h"),
        (1e6, "12 d"),
    ],
)
def test_lengths_of_time_are_short(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_ages_look_back_and_ahead() -> None:
    assert (age(100, 130), age(100, 100.5), age(400, 100)) == ("30 s ago", "just now", "in 5 min")
