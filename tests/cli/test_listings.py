"""What the listing commands print, over a real database with hostile content."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from cli_runner import Run
from click.testing import CliRunner
from rich.text import Text

from gigq import Job, JobQueue, JobState
from gigq.cli import main
from gigq.cli.tables import STATE_STYLES
from gigq.cli.text import age, duration
from gigq.testing.harness import new_job


class Bomb:
    """Writes a file when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.write_text, (self.target, "unpickled")


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


def test_empty_listings_say_so(queue: JobQueue, run: Run) -> None:
    queue.stats()
    assert run("jobs", "list").output == "no jobs are stored\n"
    assert run("jobs", "list", "--state", "failed").output == "no jobs match\n"
    assert run("stats").output == "no jobs are stored\n"
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


def test_a_terminal_goes_without_columns_that_say_nothing_and_a_pipe_has_all(
    queue: JobQueue, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue.submit(Job("first", print))
    piped = run("jobs", "list").output.splitlines()[0]
    assert piped.split() == ["id", "state", "name", "arguments", "tries", "submitted", "queue", "note"]
    monkeypatch.setattr("rich.console.Console.is_terminal", True)
    monkeypatch.setenv("COLUMNS", "160")
    header = Text.from_ansi(run("jobs", "list").output).plain.splitlines()[0]
    assert header.split() == ["id", "state", "name", "arguments", "tries", "submitted"]
    queue.storage.submit([new_job("second", queue="bulk", delay=7200)])
    header, second, _ = Text.from_ansi(run("jobs", "list").output).plain.splitlines()
    assert header.split()[-2:] == ["queue", "note"]
    assert second.endswith("bulk     due in 2 h")


def test_a_terminal_gets_each_state_in_its_colour_and_a_pipe_gets_none(
    queue: JobQueue, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue.submit(Job("some", print))
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    assert "\x1b" not in run("stats").output
    monkeypatch.setattr("rich.console.Console.is_terminal", True)
    output = run("stats").output
    for state, colour in STATE_STYLES.items():
        code = {"yellow": 33, "cyan": 36, "green": 32, "bold red": "1;31", "dim": 2, "magenta": 35}[colour]
        assert f"\x1b[{code}m{state}" in output


def test_counts_have_thousands_separators_and_shares(queue: JobQueue, run: Run) -> None:
    queue.submit_many(Job("some", print) for _ in range(1200))
    queue.cancel(queue.submit(Job("another", print)).id)
    lines = run("stats").output.splitlines()
    assert lines[1].split() == ["PENDING", "1,200", ">99", "%"]
    assert lines[5].split() == ["CANCELLED", "1", "<1", "%"]
    assert lines[7].split() == ["in", "all", "1,201"]
    assert len({len(line) for line in lines[:2]}) == 1


def test_a_listing_that_is_cut_off_says_so(queue: JobQueue, run: Run) -> None:
    queue.submit_many(Job(f"job {n}", print) for n in range(3))
    lines = run("jobs", "list", "--limit", "2").output.splitlines()
    assert [line.split()[2:4] for line in lines[1:3]] == [["job", "2"], ["job", "1"]]
    assert lines[3].startswith("and more: --limit")
    assert len(run("jobs", "list", "--limit", "3").output.splitlines()) == 4


def test_the_database_of_an_app_is_found_without_importing_it_here(
    queue: JobQueue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue.stats()
    (tmp_path / "listed_app.py").write_text("from gigq import App\nprint('noise')\napp = App('jobs.db')\n")
    monkeypatch.chdir(tmp_path)
    assert CliRunner().invoke(main, ["jobs", "list", "--app", "listed_app:app"]).output == "no jobs are stored\n"
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
