"""What goes wrong is one clear line with a status, never a traceback."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from cli_runner import Run
from click.testing import CliRunner

from gigq import Job, JobQueue
from gigq.cli import main

NOT_UTF8 = "\udcff"  # how Python shows a program the byte 0xff


def fail(*arguments: str, code: int, lines: int = 1) -> str:
    """Run a command that must fail; return its error, which is the last of its lines: usage may stand above."""
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == code, result.output
    assert isinstance(result.exception, SystemExit)
    assert result.output.count("\n") == lines, result.output
    return result.output.splitlines()[-1]


def test_a_listing_never_makes_a_database(tmp_path: Path) -> None:
    assert "does not exist" in fail("stats", "--db", str(tmp_path / "none.db"), code=1)
    assert not (tmp_path / "none.db").exists()


def test_a_folder_and_a_file_of_something_else_are_no_databases(tmp_path: Path) -> None:
    other = tmp_path / "notes.db"
    other.write_text("not a database, but long enough to be taken for one: " + "x" * 1000)
    assert "is not a file" in fail("stats", "--db", str(tmp_path), code=1)
    assert "file is not a database" in fail("stats", "--db", str(other), code=1)


def test_a_path_that_the_system_refuses_is_an_error(tmp_path: Path) -> None:
    path = str(tmp_path / ("x" * 300 + ".db"))
    assert "File name too long" in fail("stats", "--db", path, code=1)
    assert "cannot create the database" in fail("worker", path, "--burst", "-P", "inline", code=2)


def test_a_database_of_a_newer_gigq_is_left_alone(queue: JobQueue, tmp_path: Path) -> None:
    queue.stats()
    db = sqlite3.connect(tmp_path / "jobs.db")
    db.execute("INSERT INTO gigq_migrations VALUES (99, 99, 0)")
    db.commit()
    db.close()
    assert "upgrade gigq" in fail("stats", "--db", queue.url, code=1)
    assert "upgrade gigq" in fail("worker", queue.url, "--burst", "-P", "inline", code=2)


def test_without_a_database_the_error_says_how_to_name_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GIGQ_URL", raising=False)
    assert "expected --db, --app or $GIGQ_URL" in fail("stats", code=2, lines=4)


def test_a_url_of_something_else_is_an_error() -> None:
    assert "got scheme 'redis'" in fail("stats", "--db", "redis://localhost", code=1)


@pytest.mark.parametrize("age", ["5", "", "-1d", "1w", "d", "1 d", "1e3s"])
def test_an_age_needs_a_number_and_a_unit(queue: JobQueue, age: str) -> None:
    queue.stats()
    error = fail("prune", f"--older-than={age}", "--db", queue.url, code=2, lines=4)
    assert "--older-than must be a number and s, m, h or d" in error


def test_an_age_beyond_all_numbers_is_an_error(queue: JobQueue) -> None:
    queue.stats()
    assert "got inf" in fail("prune", "--older-than", "9" * 400 + "d", "--db", queue.url, code=1)


@pytest.mark.parametrize("limit", ["0", "-1", "many", "99999999999999999999"])
def test_a_limit_is_a_number_that_a_listing_can_have(queue: JobQueue, limit: str) -> None:
    assert "--limit" in fail("jobs", "list", f"--limit={limit}", "--db", queue.url, code=2, lines=4)


@pytest.mark.parametrize(
    "arguments", [["jobs", "show", NOT_UTF8], ["jobs", "list", "--queue", NOT_UTF8], ["worker", NOT_UTF8]]
)
def test_what_is_not_text_is_an_error(arguments: list[str]) -> None:
    assert fail(*arguments, code=2).endswith("expected text in UTF-8, got \\udcff")


def test_a_full_disk_is_an_error_and_a_closed_pipe_is_none(
    queue: JobQueue, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue.submit(Job("some", print))

    def no_space(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("gigq.cli.overview.print_table", no_space)
    assert run("stats").output == "Error: [Errno 28] No space left on device\n"

    def no_reader(*_: object, **__: object) -> None:
        raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr("gigq.cli.overview.print_table", no_reader)
    assert run("stats").output == ""


def test_the_bare_command_shows_help() -> None:
    output = CliRunner().invoke(main, []).output
    assert output.startswith("Usage:")
    assert all(f"\n  {name} " in output for name in ("demo", "jobs", "prune", "stats", "why", "worker", "workers"))
    assert "..." not in output.replace("[ARGS]...", "")
