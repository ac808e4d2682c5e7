"""Nothing that a job, a task or a row says moves a terminal's cursor, or reorders or forges a line."""

from __future__ import annotations

import json
import logging
import sqlite3
import sys
import unicodedata
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from gigq import App, Job, JobQueue, Worker
from gigq.cli import main
from gigq.cli.log_format import JsonFormatter, TextFormatter
from gigq.plain import plain
from gigq.summary import summarise

MARKS = ["\x1b[2J", "\x1b]0;title\x07", "\x9b31m", "\u202e", "\u2066", "\r", "\n", "\b", "\u2028", "\ufeff"]
# A list of its own: to draw from all of Unicode costs seconds.
ALPHABET = "ab \\'\"%{}[]äß漢🙂" + "".join(map(chr, [*range(0x20), *range(0x7F, 0xA0), 0xAD, 0xD800, 0xDFFF, 0x61C]))
ALPHABET += "\u200b\u200e\u202a\u202e\u2028\u2029\u2066\u2069\ufeff\U000e0001"
texts = st.lists(st.sampled_from(MARKS) | st.text(ALPHABET, max_size=5)).map("".join)


def unsafe_in(text: str) -> set[str]:
    return {character for character in text if unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp")}


@settings(max_examples=40)
@given(texts)
def test_what_is_plain_has_nothing_unsafe_and_stays_as_it_is(text: str) -> None:
    assert unsafe_in(plain(text)) == set()
    assert plain(plain(text)) == plain(text)
    if not unsafe_in(text):
        assert plain(text) == text


@pytest.mark.slow
def test_no_character_of_unicode_gets_through() -> None:
    assert unsafe_in(plain("".join(map(chr, range(sys.maxunicode + 1))))) == set()


@settings(max_examples=40)
@given(texts, texts, texts)
def test_a_record_is_one_line_of_plain_text(worker: str, message: str, level: str) -> None:
    record = logging.LogRecord("gigq.worker", logging.WARNING, "here", 1, "%s", (message,), None)
    record.levelname = level
    for formatter in (TextFormatter(worker, on_terminal=False), JsonFormatter(worker)):
        assert unsafe_in(formatter.format(record)) == set()
    on_terminal = TextFormatter(worker, on_terminal=True).format(record)
    assert unsafe_in(on_terminal.replace("\x1b[33m", "", 1).replace("\x1b[0m", "", 1)) == set()
    read = json.loads(JsonFormatter(worker).format(record))["message"]
    assert read.encode("utf-16", "surrogatepass") == message.encode("utf-16", "surrogatepass")


@settings(max_examples=40)
@given(texts)
def test_a_traceback_keeps_its_lines_and_nothing_else(text: str) -> None:
    try:
        raise ValueError(text)
    except ValueError:
        record = logging.LogRecord("gigq.worker", logging.ERROR, "here", 1, "failed", (), sys.exc_info())
    assert unsafe_in(TextFormatter("w", on_terminal=False).format(record)) <= {"\n"}
    assert unsafe_in(JsonFormatter("w").format(record)) == set()


class Named:
    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text


@settings(max_examples=40)
@given(texts)
def test_summaries_are_plain(text: str) -> None:
    assert unsafe_in(summarise((text, Named(text)), {"name": text, text: 1})) == set()


EVIL = "evil \x1b[31m\x9b2J\u202e\u2066\r\nforged  FAILED\u2028" + "".join(MARKS)
COLUMNS = {
    "jobs": ["name", "function", "summary", "description", "error", "progress_message", "workflow", "queue", "task"],
    "workers": ["name", "hostname", "pool", "host"],
    "job_executions": ["error"],
}


@pytest.mark.slow
def test_no_command_prints_what_a_row_says_as_it_is(queue: JobQueue, tmp_path: Path) -> None:
    parent = queue.submit(Job("parent", int, args=["x"], max_attempts=1))
    Worker(queue, pool="inline", burst=True).run()
    jobs = [queue.submit(Job("waits", print)), queue.submit(Job("after", print, dependencies=[parent]))]
    with closing(sqlite3.connect(tmp_path / "jobs.db", isolation_level=None)) as db:
        db.execute("UPDATE workers SET stopped_at = NULL, beat_at = 0, queues = ?", (json.dumps([EVIL]),))
        db.execute(
            "UPDATE jobs SET state = 'RUNNING', worker = (SELECT id FROM workers), progress = 0.5 WHERE name = 'waits'"
        )
        for table, columns in COLUMNS.items():
            for column in columns:
                db.execute(f"UPDATE {table} SET {column} = ?", (EVIL,))
    commands = [["jobs", "list"], ["stats"], ["workers"], ["doctor", queue.url], ["doctor", queue.url, "--full"]]
    for job in (parent, *jobs):
        commands += [["jobs", "show", job.id], ["why", job.id]]
    commands += [["jobs", "cancel", jobs[1].id], ["jobs", "retry", parent.id], ["jobs", "retry", jobs[1].id]]
    shown = 0
    for command in commands:
        for words in (command, [*command, "--json"]):
            if command[0] != "doctor":
                words = [*words, "--db", queue.url]
            result = CliRunner().invoke(main, words)
            assert unsafe_in(result.output) <= {"\n"}, words
            assert not any(line.startswith("forged") for line in result.output.splitlines()), words
            shown += result.output.count("evil")
    assert shown > 20


def test_the_log_of_a_program_with_its_own_handlers_is_plain(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    app = App(tmp_path / "jobs.db", name="own")

    def fail() -> None:
        raise ValueError(EVIL)

    app.submit(Job(EVIL.replace("\n", ""), fail, max_attempts=1))
    app.worker(pool="inline", burst=True, name=EVIL)
    (line,) = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert "failed: ValueError: evil" in line
    assert unsafe_in(line) == set()


def test_errors_of_commands_are_plain(queue: JobQueue) -> None:
    queue.stats()
    invoke: Callable[..., str] = lambda *words: CliRunner().invoke(main, words).output  # noqa: E731
    outputs = [
        invoke("jobs", "show", "nothing\x1b[2Jlike it", "--db", queue.url),
        invoke("stats", "--db", "none\x1b[2J.db"),
        invoke("doctor", "none\x1b[2J.db"),
        invoke("doctor", "no\x1b[2J:app"),
        invoke("backup", "none\x1b[2J.db", "x\x1b[2J"),
        invoke("worker", "sqlite:///x\x1b[2J?y"),
    ]
    assert all(outputs)
    assert [text for text in outputs if unsafe_in(text) - {"\n"}] == []
