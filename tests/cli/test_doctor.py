"""`gigq doctor`: what it finds, that it says what to do, and that it changes nothing."""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

from gigq import Job, JobQueue, Worker
from gigq.cli import main
from gigq.storage.findings import Level
from gigq.storage.leases import ClaimRequest
from gigq.storage.rows import BY_VALUE, WorkerRow
from gigq.storage.sqlite import inspection
from gigq.storage.sqlite.schema import MIGRATIONS
from gigq.worker import identity

Findings = dict[str, list[dict[str, Any]]]


def examine(*arguments: object, code: int = 0) -> Findings:
    """Run the command with --json; return its findings by what was looked at."""
    result = CliRunner().invoke(main, ["doctor", *map(str, arguments), "--json"])
    assert result.exit_code == code, result.output
    findings: Findings = {}
    for finding in json.loads(result.stdout):
        findings.setdefault(finding["check"], []).append(finding)
    return findings


def problems(findings: Findings) -> list[str]:
    return [finding["text"] for found in findings.values() for finding in found if finding["level"] == "problem"]


@pytest.fixture
def path(queue: JobQueue, tmp_path: Path) -> Path:
    """A closed database with jobs in every state but RUNNING."""
    first = queue.submit(Job("first", len, args=["abc"]))
    first.then(print)
    queue.submit(Job("bad", int, args=["x"], max_attempts=1)).then(print)
    queue.submit(Job("also", int, args=["x"], max_attempts=1, dependencies=[first]))
    Worker(queue, pool="inline", burst=True).run()
    queue.submit(Job("waits", print, dependencies=[queue.submit(Job("ready", print))]))
    queue.close()
    return tmp_path / "jobs.db"


def change(path: Path, statement: str, *values: object) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute(statement, values)


def worker_row(**changes: Any) -> WorkerRow:
    now = time.time()
    row = WorkerRow(
        id="w1", name="night", hostname="here", host=identity.host(), pid=os.getpid(),
        pid_started=identity.process_started(os.getpid()), pool="process", concurrency=2, queues=None,
        tasks=(BY_VALUE,), address=None, started_at=now, beat_at=now,
    )  # fmt: skip
    return row._replace(**changes)


def hold_a_job(queue: JobQueue, worker: WorkerRow) -> str:
    job = queue.submit(Job("held", print))
    queue.storage.register(worker)
    assert queue.storage.claim(ClaimRequest(worker.id, 9, [BY_VALUE])).jobs
    return job.id


# -- all is well


def test_a_good_database_has_no_problem_and_stays_as_it_is(path: Path) -> None:
    before = path.read_bytes()
    findings = examine(path, "--full")
    looked_at = "versions library filesystem disk permissions log integrity schema workers leases clock rows"
    assert set(looked_at.split()) <= findings.keys()
    assert findings["integrity"][0]["text"] == "SQLite's integrity check found nothing"
    assert examine(path)["integrity"][0]["text"] == "SQLite's quick check found nothing"
    assert path.read_bytes() == before
    assert [name.name for name in path.parent.iterdir()] == ["jobs.db"]


def test_a_database_in_use_is_read_as_it_is_now(queue: JobQueue, tmp_path: Path) -> None:
    queue.submit(Job("held", print))
    queue.storage.register(worker_row())
    queue.storage.claim(ClaimRequest("w1", 9, [BY_VALUE]))
    before = [(tmp_path / name).read_bytes() for name in ("jobs.db", "jobs.db-wal")]
    findings = examine(queue.url)
    assert findings["journal"][0]["text"] == "write-ahead log"
    assert findings["workers"][0]["text"] == "1 running"
    assert findings["leases"][0]["text"] == "1 RUNNING, all with workers that live"
    assert [(tmp_path / name).read_bytes() for name in ("jobs.db", "jobs.db-wal")] == before


def test_for_people_it_is_lines_with_what_to_do(path: Path) -> None:
    path.chmod(0o602)
    result = CliRunner().invoke(main, ["doctor", str(path)])
    assert result.exit_code == 1
    lines = result.output.splitlines()
    at = next(at for at, line in enumerate(lines) if line.startswith("problem  permissions"))
    assert "can be written by everybody" in lines[at]
    assert lines[at + 1].strip().startswith("→ take that right away")
    assert lines[-1].startswith("1 problem, ")


@pytest.mark.slow
def test_the_app_says_its_database_and_durability(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (path.parent / "clinic.py").write_text(f"from gigq import App\napp = App({str(path)!r}, durability='process')\n")
    monkeypatch.chdir(path.parent)
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    findings = examine("clinic:app")
    assert findings["database"][0]["text"] == str(path)
    assert findings["durability"][0]["level"] == "note"


def test_what_is_no_database_is_a_line(tmp_path: Path) -> None:
    missing = CliRunner().invoke(main, ["doctor", str(tmp_path / "none.db")])
    assert (missing.exit_code, missing.output.count("\n")) == (1, 1)
    assert not (tmp_path / "none.db").exists()
    (tmp_path / "list.db").write_text("a shopping list\n" * 100)
    (tmp_path / "list.db").chmod(0o600)
    assert problems(examine(tmp_path / "list.db", code=1)) == ["reading the database failed: file is not a database"]


# -- each fault


@pytest.mark.parametrize(
    ("version", "level"),
    [
        ((3, 36, 0), Level.PROBLEM),
        ((3, 40, 1), Level.NOTE),
        ((3, 44, 5), Level.NOTE),
        ((3, 44, 6), Level.OK),
        ((3, 45, 0), Level.NOTE),
        ((3, 50, 6), Level.NOTE),
        ((3, 50, 7), Level.OK),
        ((3, 51, 2), Level.NOTE),
        ((3, 51, 3), Level.OK),
        ((3, 53, 0), Level.OK),
    ],
)
def test_libraries_with_the_fault_of_the_log_are_named(version: tuple[int, int, int], level: Level) -> None:
    assert [finding.level for finding in inspection.check_library(version)] == [level]


def test_a_network_filesystem_is_a_note_and_a_log_there_is_a_problem(
    path: Path, queue: JobQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inspection, "filesystem_of", lambda path: "nfs4")
    found = examine(path)["filesystem"][0]
    assert (found["level"], "nfs4" in found["text"]) == ("note", True)
    queue.submit(Job("opens it", print))
    (text,) = problems(examine(path, code=1))
    assert "with a write-ahead log" in text


@pytest.mark.parametrize(("free", "level"), [(10**6, "problem"), (10**9, "note"), (50 * 10**9, "ok")])
def test_free_space_is_measured(path: Path, monkeypatch: pytest.MonkeyPatch, free: int, level: str) -> None:
    usage = SimpleNamespace(total=100 * 10**9, used=100 * 10**9 - free, free=free)
    monkeypatch.setattr(inspection.shutil, "disk_usage", lambda path: usage)
    assert examine(path, code=int(level == "problem"))["disk"][0]["level"] == level


def test_readable_by_others_is_a_note_and_a_shared_one_too(path: Path) -> None:
    path.chmod(0o644)
    assert "others can read" in examine(path)["permissions"][0]["text"]
    path.chmod(0o606)
    found = examine(f"sqlite:///{path}?shared=yes")["permissions"]
    assert [finding["level"] for finding in found] == ["note", "note"]


def test_a_worker_that_died_with_a_job_is_a_problem(queue: JobQueue) -> None:
    job_id = hold_a_job(queue, worker_row(pid_started=1))
    (text,) = problems(examine(queue.url, code=1))
    assert text == f"1 RUNNING job, {job_id}, held by a dead worker: worker night: its process {os.getpid()} is gone"


def test_a_worker_on_another_machine_that_is_silent_is_dead(queue: JobQueue) -> None:
    hold_a_job(queue, worker_row(host="elsewhere", beat_at=time.time() - 100))
    (text,) = problems(examine(queue.url, code=1))
    assert "no sign of life for 100 s" in text


def test_a_dead_worker_that_holds_nothing_is_a_note(queue: JobQueue) -> None:
    queue.storage.register(worker_row(pid_started=1))
    assert examine(queue.url)["workers"][0]["level"] == "note"


def test_a_job_held_by_nobody_is_a_problem_and_the_advice_frees_it(queue: JobQueue, tmp_path: Path) -> None:
    job_id = hold_a_job(queue, worker_row())
    change(tmp_path / "jobs.db", "UPDATE workers SET stopped_at = 1")
    findings = examine(queue.url, code=1)
    assert job_id in problems(findings)[0]
    assert "storage.rescue('w1', 'lost')" in findings["leases"][0]["advice"]
    queue.storage.rescue("w1", "lost")
    examine(queue.url)


def test_times_in_the_future_are_noted(path: Path) -> None:
    change(path, "UPDATE jobs SET submitted_at = ? WHERE name = 'ready'", time.time() + 3600)
    assert examine(path)["clock"][0]["level"] == "note"


def test_a_schema_of_another_version_is_said_and_not_touched(path: Path) -> None:
    change(path, "INSERT INTO gigq_migrations VALUES (98, 1, 0)")
    found = examine(path, code=0)
    assert found["schema"][0]["level"] == "note"
    assert "this one, which knows 1, can work with it" in found["schema"][0]["text"]
    assert "clock" in found  # the rows are looked at as usual
    change(path, "INSERT INTO gigq_migrations VALUES (99, 99, 0)")
    assert problems(examine(path, code=1)) == [f"version 99 is of a newer gigq, this one knows {len(MIGRATIONS)}"]
    change(path, "DROP TABLE gigq_migrations")
    assert examine(path)["schema"][0]["level"] == "note"


# -- rows that contradict each other


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("UPDATE jobs SET unmet = 2 WHERE name = 'waits'", "count other unmet dependencies"),
        ("UPDATE jobs SET unmet = 0 WHERE name = 'waits'", "count other unmet dependencies"),
        ("UPDATE jobs SET state = 'FAILED', finished_at = 1 WHERE name = 'ready'", "has not come and cannot come"),
        ("DELETE FROM job_arguments WHERE job = 1", "have no arguments"),
        ("UPDATE job_results SET job = 99", "without their job"),
        ("DELETE FROM jobs WHERE name = 'ready'", "lead to or from a job that does not exist"),
        ("UPDATE jobs SET state = 'FAILED' WHERE name = 'first'", "have a result and are not COMPLETED"),
        ("DELETE FROM job_executions WHERE state = 'COMPLETED'", "COMPLETED without one attempt that is"),
        ("UPDATE job_executions SET state = 'COMPLETED'", "have an attempt that is COMPLETED and are not"),
        ("UPDATE job_executions SET job_id = 'x' || job_id", "attempts are of jobs that do not exist"),
        ("UPDATE job_executions SET claims = 9 WHERE attempt = 1 AND state = 'FAILED'", "has not been made"),
        ("UPDATE jobs SET attempts = 4", "more attempts than they may"),
        ("UPDATE jobs SET finished_at = NULL WHERE name = 'first'", "ended without a time"),
        ("UPDATE jobs SET state = 'RUNNING' WHERE name = 'ready'", "RUNNING without a worker"),
        (
            "UPDATE jobs SET summary = CAST(x'41FF' AS TEXT) WHERE name = 'ready'",
            "jobs have texts that are none: 1, such as ",
        ),
    ],
)
def test_rows_that_contradict_each_other_are_found(path: Path, statement: str, said: str) -> None:
    change(path, statement)
    assert any(said in text for text in problems(examine(path, "--full", code=1)))


# -- bits that flipped


def flip(path: Path, at: int, bit: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1 << bit
    path.write_bytes(data)


def test_the_head_of_every_page_is_guarded(path: Path, tmp_path: Path) -> None:
    """Its kind and the number of its cells; with them a table, or a part of it, would be something else."""
    good = path.read_bytes()
    unseen = []
    for page in range(0, len(good), 4096):
        for at in (0, 3, 4):  # https://www.sqlite.org/fileformat2.html, section 1.6
            place = page + at + (100 if page == 0 else 0)
            flip(path, place, bit=1)
            findings = inspection.check_contents(path, full=False, now=time.time(), is_gone=lambda worker: False)
            if not any(finding.level is Level.PROBLEM for finding in findings):
                unseen.append((page // 4096, at))
            path.write_bytes(good)
    assert unseen == []


def test_an_id_that_differs_from_its_index_is_found_by_a_full_look(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db:
        (job_id,) = db.execute("SELECT id FROM jobs WHERE name = 'ready'").fetchone()
    flip(path, path.read_bytes().index(job_id.encode()), bit=0)
    examine(path)
    assert problems(examine(path, "--full", code=1))


def test_a_damaged_log_is_found_before_sqlite_drops_it(queue: JobQueue, tmp_path: Path) -> None:
    for number in range(5):
        queue.submit(Job(str(number), print))
    copy = tmp_path / "copy"
    copy.mkdir()
    for suffix in ("", "-wal"):
        (copy / f"jobs.db{suffix}").write_bytes((tmp_path / f"jobs.db{suffix}").read_bytes())
        (copy / f"jobs.db{suffix}").chmod(0o600)
    log = copy / "jobs.db-wal"
    flip(log, log.stat().st_size // 2, bit=3)
    before = log.read_bytes()
    for _ in range(2):  # it finds it again
        assert "jobs.db-wal is damaged after" in problems(examine(copy / "jobs.db", code=1))[0]
    assert log.read_bytes() == before
    flip(log, 9, bit=0)
    assert "the beginning of jobs.db-wal is damaged" in problems(examine(copy / "jobs.db", code=1))[0]


def test_a_log_that_cannot_be_emptied_is_noted(queue: JobQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    queue.submit(Job("one", print))
    monkeypatch.setattr(inspection, "LARGE_LOG_BYTES", 1000)
    assert "something reads for so long" in examine(queue.url)["log"][0]["text"]


def test_nobody_is_read_in_the_middle_of_a_write(path: Path, queue: JobQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that opens a quiet database while it is read is seen, and the reading begins again."""
    ways: list[str] = []
    read: Callable[..., Any] = inspection._reading

    def reading(path: Path, how: str) -> Any:
        ways.append(how)
        queue.submit(Job("late", print))
        return read(path, how)

    monkeypatch.setattr(inspection, "_reading", reading)
    findings = inspection.check_contents(path, full=True, now=time.time(), is_gone=lambda worker: False)
    assert ways == ["immutable=1", "mode=ro"]
    assert not any(finding.level is Level.PROBLEM for finding in findings)


# -- signatures


def test_with_the_key_any_flipped_bit_of_a_payload_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key, path = "k" * 40, tmp_path / "jobs.db"
    signed = JobQueue(path, secret_key=key)
    signed.submit(Job("marked", len, args=["<<<payload>>>"]))
    Worker(signed, pool="inline", burst=True).run()
    signed.close()
    assert examine(path, "--full")["signatures"][0]["level"] == "note"
    assert "signatures" not in examine(path)
    monkeypatch.setenv("GIGQ_SECRET_KEY", key)
    assert examine(path, "--full")["signatures"][0]["text"] == "those of all 2 payloads fit"
    flip(path, path.read_bytes().rindex(b"<<<payload>>>") + 4, bit=0)  # the first is in the summary
    (text,) = problems(examine(path, "--full", code=1))
    assert text.startswith("1 of 2 payloads will be refused: the signature does not fit the arguments of job")
    monkeypatch.delenv("GIGQ_SECRET_KEY")
    assert not problems(examine(path, "--full"))  # without it, nothing can see that
