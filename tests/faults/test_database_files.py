"""The files of the database: who opens them, and how long its log gets."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from workshop import Workshop, until

from gigq.storage.sqlite import SqliteStorage, journal
from gigq.testing.harness import new_job

AUDITED = Path(__file__).parent / "audited"

PROGRAM = """
import os, sys
from gigq import Worker
from shop import add, app, echo, fail

big = echo.delay(b"x" * 300_000)  # a child reads it from the database itself
after = big.then(len)
jobs = [*add.map(range(5)), fail.delay(1)]
assert after.get(30) == 300_000
for job in jobs:
    job.wait(30)
if os.fork() == 0:
    add.delay(6).get(30)
    os._exit(0)
assert os.waitstatus_to_exitcode(os.wait()[1]) == 0
app.queue.cancel(add.options(delay=100).delay(0).id)
local = Worker(app, pool="thread", concurrency=1, queues=["here"])
with local:
    assert add.options(queue="here").delay(7).get(30) == 7
print(jobs[-1].id)
app.queue.close()
"""


@pytest.mark.slow
def test_fault_19_nothing_but_sqlite_opens_the_files_of_the_database(workshop: Workshop) -> None:
    workshop.environment |= {"PYTHONPATH": str(AUDITED), "GIGQ_TEST_WATCHED": str(workshop.path)}
    worker = workshop.work("shop:app", "--queues", "default", concurrency=2)
    (workshop.folder / "program.py").write_text(PROGRAM)
    failed = workshop.run("program.py").strip()
    gigq = ("-m", "gigq")
    for command in (("stats",), ("jobs", "show", failed), ("doctor", "--full"), ("workers",)):
        workshop.run(*gigq, *command)
    workshop.run(*gigq, "backup", "jobs.db", "copy.db")
    workshop.run(*gigq, "jobs", "retry", failed)
    workshop.run(*gigq, "prune", "--older-than", "1h")
    worker.terminate()
    assert worker.wait(20) == 0
    lines = (workshop.folder / "jobs.db.opened").read_text().splitlines()
    assert [line for line in lines if not line.startswith("sqlite3.connect ")] == []
    openers = {int(line.split()[1]) for line in lines}
    assert worker.pid in openers
    assert len(openers) >= 2 + 2 + 7  # the worker and a child at least, the program and its fork, the commands


def test_fault_19_an_opening_by_other_means_would_be_seen(workshop: Workshop) -> None:
    workshop.queue.stats()
    workshop.environment |= {"PYTHONPATH": str(AUDITED), "GIGQ_TEST_WATCHED": str(workshop.path)}
    workshop.run("-c", "open('jobs.db').close(); import os; os.close(os.open('jobs.db-shm', os.O_RDONLY))")
    lines = (workshop.folder / "jobs.db.opened").read_text().splitlines()
    assert [line.split()[0] for line in lines] == ["open", "open"]


@pytest.mark.slow
def test_fault_22_the_log_that_grew_for_a_long_reader_shrinks_when_it_ends(tmp_path: Path) -> None:
    path = tmp_path / "jobs.db"
    log = path.with_name("jobs.db-wal")
    storage = SqliteStorage(path, durability="process")
    storage.submit([new_job()])
    with closing(sqlite3.connect(path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM jobs").fetchone()
        for _ in range(24):
            storage.submit([new_job(arguments=b"x" * 1_000_000)])
        grown = log.stat().st_size
        assert grown > 24_000_000
        assert reader.execute("SELECT count(*) FROM jobs").fetchone() == (1,)  # as it was when the reader began
        reader.execute("COMMIT")
    for _ in range(3):  # a checkpoint, then a commit at the log's beginning
        storage.submit([new_job()])
    assert log.stat().st_size <= journal.LOG_LIMIT_BYTES < grown
    assert len(storage.find()) == 28
    storage.close()


@pytest.mark.slow
def test_fault_22_no_process_of_gigq_is_a_long_reader(workshop: Workshop) -> None:
    """With a worker, a waiting caller and a watched database, the log never outgrows its limit."""
    shop = workshop.load("shop")
    workshop.work(concurrency=1)
    held = shop.hold.delay("go")
    waiting = workshop.start("-c", f"from shop import app; print(app.get({held.id!r}).get(60))", log="waiting")
    workshop.pid_of("begin", "go")
    for _ in range(30):
        shop.echo.delay(b"x" * 1_000_000)
    log = workshop.path.with_name("jobs.db-wal")
    shop.add.delay(1)
    until(lambda: log.stat().st_size <= journal.LOG_LIMIT_BYTES, 5)
    workshop.let_go("go")
    assert waiting.wait(30) == 0, waiting.log
