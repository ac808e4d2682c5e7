"""The command that starts a worker, and what it writes while it works."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import pytest
from click.testing import CliRunner

from gigq import Job, JobQueue
from gigq.cli import main
from gigq.cli.log_format import TextFormatter, start_logging


@pytest.mark.parametrize("target", ["no.such:app", "os:path", "a b:c", "json:nothing"])
def test_a_wrong_target_is_one_clear_line(target: str) -> None:
    result = CliRunner().invoke(main, ["worker", target, "--burst", "-c", "1"])
    assert result.exit_code == 2
    assert result.output.count("\n") == 1
    assert result.output.startswith("gigq: ")


@pytest.mark.parametrize("target", ["myapp", "myapp.app", "folder/myapp"])
def test_a_module_without_its_app_is_not_taken_for_a_new_database(
    target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, ["worker", target, "--burst"])
    assert result.exit_code == 2
    assert "for the app of a module write module:app" in result.output
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_worker_that_makes_its_database_says_so(queue: JobQueue) -> None:
    warning, *_ = work(queue)
    assert f"made a new database at {queue.url}" in warning


@pytest.mark.slow
def test_what_fails_is_logged_and_what_completes_is_not(queue: JobQueue) -> None:
    bad = queue.submit(Job("divide", lambda: 1 / 0, max_attempts=1))
    queue.submit(Job("fine", print))
    _, warning, stopped = work(queue)
    assert warning.endswith(
        f"divide ({bad.id}) attempt 1 of 1 failed: ZeroDivisionError: division by zero; not tried again"
    )
    assert stopped.endswith("stopped: 2 attempts finished")


@pytest.mark.parametrize("option", ["--concurrency=0", "--pool=fiber", "--log-level=loud", "--queues=a b"])
def test_a_wrong_option_is_refused_before_anything_starts(queue: JobQueue, option: str) -> None:
    result = CliRunner().invoke(main, ["worker", queue.url, option, "--burst"])
    assert result.exit_code == 2
    assert "Traceback" not in result.output


def test_without_a_target_the_error_says_what_is_expected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GIGQ_URL", raising=False)
    result = CliRunner().invoke(main, ["worker"])
    assert result.exit_code == 2
    assert "expected a target such as myapp:app or jobs.db, or $GIGQ_URL" in result.output


def work(queue: JobQueue, *options: str, code: int = 0) -> list[str]:
    """Run a worker until nothing is left to do; return the lines of its log."""
    command = [sys.executable, "-m", "gigq", "worker", queue.url, "--burst", "-c", "1", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env={**os.environ, "COLUMNS": "80"})
    assert done.returncode == code, done.stderr
    return done.stderr.splitlines()


@pytest.mark.slow
def test_a_log_for_people_has_the_workers_name_in_each_line(queue: JobQueue) -> None:
    job = queue.submit(Job("some", print))
    started, stopped = work(queue, "--name", "night shift")
    day, time, level, rest = started.split(maxsplit=3)
    assert datetime.fromisoformat(f"{day} {time}")
    assert (level, rest) == ("INFO", f"night shift  started on {queue.url}: 1 slot of the process pool, 0 tasks")
    assert stopped.endswith("night shift  stopped: 1 attempt finished")
    assert job.get(timeout=0) is None


@pytest.mark.slow
def test_a_log_for_machines_is_one_document_a_line(queue: JobQueue) -> None:
    queue.stats()
    records = [json.loads(line) for line in work(queue, "--name", "w\x1b1", "--log-format", "json")]
    assert [record["message"].partition(" ")[0] for record in records] == ["started", "stopped:"]
    assert {record["worker"] for record in records} == {"w\x1b1"}
    assert {record["level"] for record in records} == {"info"}
    assert {record["logger"] for record in records} == {"gigq.worker"}
    assert all(datetime.fromisoformat(record["time"]).tzinfo is not None for record in records)


@pytest.mark.parametrize("style", ["text", "json"])
def test_exceptions_are_logged_and_nothing_moves_the_cursor(
    style: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [])
    monkeypatch.setattr(root, "level", root.level)
    start_logging("w1", "info", style)  # type: ignore[arg-type]
    try:
        raise ValueError("red \x1b[31m text")
    except ValueError:
        logging.getLogger("gigq.worker").exception("evil \x1b[2J\nline")
    written = capsys.readouterr().err
    assert "\x1b" not in written
    assert "ValueError: red" in written
    if style == "text":
        assert written.splitlines()[0].endswith("w1  evil \\x1b[2J\\nline")
    else:
        assert json.loads(written)["exception"].startswith("Traceback")


def record(level: int) -> logging.LogRecord:
    made = logging.LogRecord("gigq.worker", level, __file__, 1, "slow %s", ("disk",), None)
    made.created = datetime(2026, 5, 4, 12, 3, 4, 567_000).timestamp()
    return made


def test_on_a_terminal_lines_are_short_and_a_warning_stands_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    text = TextFormatter("w1", on_terminal=True)
    assert text.format(record(logging.INFO)).replace("\x1b[0m", "") == "12:03:04 INFO    w1  slow disk"
    assert text.format(record(logging.WARNING)) == "12:03:04 \x1b[33mWARNING\x1b[0m w1  slow disk"
    monkeypatch.setenv("NO_COLOR", "1")
    plain = TextFormatter("w1", on_terminal=True)
    assert plain.format(record(logging.WARNING)) == "12:03:04 WARNING w1  slow disk"


def test_a_file_gets_the_date_and_no_colours() -> None:
    text = TextFormatter("w1", on_terminal=False)
    assert text.format(record(logging.ERROR)) == "2026-05-04 12:03:04.567 ERROR   w1  slow disk"
