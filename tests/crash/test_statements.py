"""A process that dies at any SQL statement of a verb has done all of it or nothing: invariants I2, I4 and G4.

This needs no strace and no luck: each verb is run once for each of its statements, in a forked process that ends there.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Final, NamedTuple

import invariants
import pytest

from gigq.states import JobState
from gigq.storage.leases import ClaimedJob, ClaimRequest, End
from gigq.storage.rows import When
from gigq.storage.sqlite import SqliteStorage
from gigq.testing.clock import FakeClock
from gigq.testing.harness import TASK, Harness, new_job, outcome

DIED: Final = 7  # exit status at a statement; 0: the verb has returned
Verb = Callable[[SqliteStorage, "Scene"], object]


class Scene(NamedTuple):
    """A database in which each verb has much to do, and what the verbs need to know of it."""

    folder: Path
    held: list[ClaimedJob]  # by the worker "w1": four jobs, all of which others wait for
    pending: str  # others depend on it
    failed: str  # others have fallen with it

    def open(self, folder: Path) -> SqliteStorage:
        """Open a copy."""
        shutil.copytree(self.folder, folder)
        return SqliteStorage(folder / "jobs.db", now=FakeClock(1000.0).now)


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    folder = tmp_path / "scene"
    folder.mkdir()
    with closing(SqliteStorage(folder / "jobs.db", now=FakeClock(900.0).now)) as storage:
        harness = Harness(storage, FakeClock(900.0))
        failed = harness.submit("failed")
        harness.submit("fell", parents=[failed])
        harness.run(failed, End.FAILED)
        parents = [harness.submit(f"held {number}", max_attempts=1 + number % 2) for number in range(4)]
        held = harness.claim("w1", limit=4)
        assert [job.id for job in held] == parents
        both = harness.submit("both", parents=parents[:2])
        harness.submit("below", parents=[both])
        harness.submit("after failure", parents={parents[2]: When.FAILURE})
        harness.submit("after any end", parents=dict.fromkeys(parents, When.ALWAYS))
        pending = harness.submit("pending")
        harness.submit("after it", parents=[harness.submit("after pending", parents=[pending])])
        harness.submit("old")
    return Scene(folder, held, pending, failed)


def submit(storage: SqliteStorage, scene: Scene) -> None:
    """A chain, one job of which depends on one that has failed, and many more."""
    ids = [f"new {number}" for number in range(70)]
    jobs = [
        new_job(id=ids[0]),
        new_job(id=ids[1], parents=[ids[0]]),
        new_job(id=ids[2], parents=[scene.failed, ids[1]]),
    ]
    storage.submit([*jobs, *(new_job(id=job_id) for job_id in ids[3:])])


def finish(storage: SqliteStorage, scene: Scene) -> None:
    """Two successes, a failure and a job given back, and a claim of more."""
    ends = [End.COMPLETED, End.COMPLETED, End.FAILED, End.RELEASED]
    outcomes = [
        outcome(job, end, 1000.0, started=end is not End.RELEASED, result=b"result" if end is End.COMPLETED else None)
        for job, end in zip(scene.held, ends, strict=True)
    ]
    finished = storage.finish("w1", outcomes, ClaimRequest("w1", 10, (TASK,)))
    assert finished.fenced == []
    assert finished.claimed is not None
    assert len(finished.claimed.jobs) > 2


def rescue(storage: SqliteStorage, scene: Scene) -> None:
    assert len(storage.rescue("w1", "it is gone")) == 4


def cancel(storage: SqliteStorage, scene: Scene) -> None:
    assert storage.cancel(scene.pending, "not wanted") is JobState.CANCELLED


def retry(storage: SqliteStorage, scene: Scene) -> None:
    assert storage.retry(scene.failed) is JobState.PENDING


def unregister(storage: SqliteStorage, scene: Scene) -> None:
    storage.unregister("w1")


@pytest.mark.slow
@pytest.mark.parametrize("verb", [submit, finish, rescue, cancel, retry, unregister], ids=lambda verb: verb.__name__)
def test_a_verb_that_is_cut_off_at_any_statement_is_done_or_not_done(scene: Scene, tmp_path: Path, verb: Verb) -> None:
    before = _look(scene.folder)
    with closing(scene.open(tmp_path / "done")) as storage:
        verb(storage, scene)
    after = _look(tmp_path / "done")
    assert before != after
    seen = []
    for nth in range(1, 1000):
        folder = tmp_path / str(nth)
        status = _die_at(scene, folder, verb, nth)
        seen.append(_look(folder))
        if status == 0:
            break
        shutil.rmtree(folder)
    assert len(seen) > 3
    assert set(seen) <= {before, after}, (
        f"half done at statement {[look in (before, after) for look in seen].index(False)}"
    )
    # Statements are told before they run: the last of them was COMMIT, and then the verb returned.
    assert seen == [before] * (len(seen) - 1) + [after]


def _die_at(scene: Scene, folder: Path, verb: Verb, nth: int) -> int:
    """Run a verb in a process that ends before its `nth` statement, or when the verb returns; return its status."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            storage = scene.open(folder)
            left = nth

            def count(statement: str) -> None:
                nonlocal left
                left -= not statement.startswith("--")  # a comment: a statement inside a trigger or a savepoint
                if left == 0:
                    os._exit(DIED)

            storage._database._handle().connection.set_trace_callback(count)
            verb(storage, scene)
            status = 0
        finally:
            os._exit(status)
    _, waited = os.waitpid(pid, 0)
    status = os.waitstatus_to_exitcode(waited)
    assert status in (0, DIED)
    return status


def _look(folder: Path) -> str:
    """Return a digest of a database, of which each row is right beside the others."""
    with closing(sqlite3.connect(folder / "jobs.db")) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        found = invariants.Found(db)
        invariants.check_rows(found)
        invariants.check_graph(found)
        return hashlib.sha256(repr(list(db.iterdump())).encode()).hexdigest()
