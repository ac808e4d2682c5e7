"""Tables of a later version, and old and new programs side by side while a new version is rolled out."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest
from workshop import Workshop, attempts

from gigq import JobState, SchemaTooNew
from gigq.storage.sqlite import schema

pytestmark = pytest.mark.slow  # each starts workers

COMPLETED = JobState.COMPLETED


@pytest.mark.parametrize("command", [("worker", "shop:app"), ("worker",), ("stats",), ("jobs", "list"), ("prune",)])
def test_fault_33_tables_that_this_code_cannot_use_are_one_clear_line_and_stay_as_they_are(
    workshop: Workshop, command: tuple[str, ...]
) -> None:
    job = workshop.load("shop").add.delay(1)
    for queue in workshop._opened:
        queue.close()
    later = len(schema.MIGRATIONS) + 1
    with closing(sqlite3.connect(workshop.path, isolation_level=None)) as other:
        other.execute("INSERT INTO gigq_migrations VALUES (?, ?, 0)", (later, later))
    before = workshop.path.read_bytes()
    arguments = (*command, "--older-than", "1s") if command == ("prune",) else command
    done = workshop.try_to_run("-m", "gigq", *arguments)
    assert done.returncode in (1, 2)
    (line,) = [line for line in done.stderr.splitlines() if "schema version" in line]
    assert f"{workshop.path} has schema version {later}" in line
    assert "upgrade gigq to use it" in line
    assert "Traceback" not in done.stderr
    with pytest.raises(SchemaTooNew):
        workshop.load("shop").add.delay(2)
    assert workshop.path.read_bytes() == before
    with closing(sqlite3.connect(workshop.path, isolation_level=None)) as other:
        other.execute("DELETE FROM gigq_migrations WHERE version = ?", (later,))
    assert job.state is JobState.PENDING


def test_fault_33_old_and_new_programs_share_a_database_while_a_compatible_version_is_rolled_out(
    workshop: Workshop,
) -> None:
    shop = workshop.load("shop")
    old = workshop.work(concurrency=1)
    held = shop.hold.delay("go")
    workshop.pid_of("begin", "go")
    new = workshop.work(concurrency=1, program=("newer.py",))  # brings the tables to its version, under the old one
    with closing(sqlite3.connect(workshop.path)) as other:
        columns = {row[1] for row in other.execute("PRAGMA table_info(jobs)")}
        (version,) = other.execute("SELECT max(version) FROM gigq_migrations").fetchone()
    assert "shard" in columns
    assert version == len(schema.MIGRATIONS) + 1
    open_since_before = shop.add.map(range(20))
    by_an_old_program = workshop.run("-c", "from shop import add; print(add.delay(30, 12).get(20))")
    assert by_an_old_program.strip() == "42"
    assert open_since_before.get(20) == list(range(20))
    late = workshop.work(concurrency=1)  # an old worker that starts now, as one does that a supervisor restarts
    workshop.let_go("go")
    assert held.get(20) == "first"
    for worker in (old, new):
        worker.terminate()
        assert worker.wait(20) == 0, worker.log
    assert shop.add.delay(1).get(20) == 1
    assert {tuple(attempts(job)) for job in workshop.queue.list()} == {(COMPLETED,)}
    for worker in (old, new, late):
        assert "refuses" not in worker.log
