"""Whether a claim stays as fast beside a million jobs that wait, or that have ended."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from bench import Bench, Measure
from figures import Figure, Goal
from gigq_side import make_app

from gigq.states import JobState
from gigq.storage.leases import Claimed, ClaimRequest, End, Outcome
from gigq.storage.rows import WorkerRow

BATCH = 256  # jobs that are claimed, finished and replaced at once
KINDS = ("pending", "delayed", "blocked", "ended")
ENDS = (End.COMPLETED, End.FAILED, End.TIMED_OUT, End.CANCELLED)
ROWS_AT_ONCE = 100_000
DAY = 86_400.0


def backlogs(bench: Bench) -> dict[str, float]:
    """Time claiming and finishing a batch beside a big and a small backlog of each kind, in turns."""
    figures = {}
    small = 0.0
    for kind in KINDS:
        stores = [
            _Store(_build(bench.folder / f"{kind}-{size}.db", kind, size, (bench.scale.claim_batches + 2) * BATCH))
            for size in (bench.scale.small_backlog, bench.scale.backlog)
        ]
        samples: list[list[float]] = [[], []]
        for _ in range(bench.scale.claim_batches):
            for store, times in zip(stores, samples, strict=True):
                times.append(store.turn())
        small, big = (median(times) for times in samples)
        figures[f"backlog_{kind}"] = big / small
        for store in stores:
            store.close()
    figures["backlog_batch"] = 1000 * small
    return figures


class _Store:
    """A worker's storage: each turn finishes what the one before claimed, and claims a batch."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._storage: Any = make_app(path, "process").queue.storage
        now = time.time()
        row = WorkerRow("w", "w", "h", "h", 1, None, "process", 1, None, ("noop",), None, now, beat_at=now)
        self._storage.register(row)
        self._request = ClaimRequest("w", BATCH, ("noop",))
        self._claimed: Claimed = self._storage.claim(self._request)

    def turn(self) -> float:
        now = time.time()
        outcomes = [
            Outcome(job.seq, job.id, job.claims, job.attempt, End.COMPLETED, now, now, 1, b"1")
            for job in self._claimed.jobs
        ]
        assert len(outcomes) == BATCH, len(outcomes)
        started = time.perf_counter()
        finished = self._storage.finish("w", outcomes, self._request)
        seconds = time.perf_counter() - started
        assert not finished.fenced
        self._claimed = finished.claimed
        return seconds

    def close(self) -> None:
        self._storage.close()
        for file in self._path.parent.glob(f"{self._path.name}*"):
            file.unlink()


def _build(path: Path, kind: str, size: int, ready: int) -> Path:
    """Make a database with `size` jobs of a kind, and at least `ready` ready ones behind them."""
    app = make_app(path, "process")
    noop: Any = app.tasks["noop"]
    if kind == "pending":
        templates = [noop.delay(0).id]
    elif kind == "delayed":
        templates = [noop.options(delay=DAY).delay(0).id]
    elif kind == "blocked":
        templates = [noop.options(delay=DAY).delay(0).then(noop).id]
    else:
        templates = [noop.delay(n).id for n in range(len(ENDS))]
        _end(app.queue.storage)
    app.queue.close()
    _copy(path, templates, size)
    noop.map(range(ready))
    stats = app.queue.stats()
    ended = sum(count for state, count in stats.items() if state.is_terminal)
    assert (ended if kind == "ended" else stats[JobState.PENDING] - ready) >= size, (kind, stats)
    app.queue.close()
    return path


def _end(storage: Any) -> None:
    """Let the stored jobs end in every way."""
    now = time.time()
    storage.register(WorkerRow("t", "t", "h", "h", 1, None, "process", 1, None, ("noop",), None, now, beat_at=now))
    jobs = storage.claim(ClaimRequest("t", len(ENDS), ("noop",))).jobs
    storage.finish(
        "t",
        [
            Outcome(job.seq, job.id, job.claims, job.attempt, end, now, now, 1, b"1" if end is End.COMPLETED else None)
            for job, end in zip(jobs, ENDS, strict=True)
        ],
    )
    storage.unregister("t")


@dataclass(frozen=True, slots=True)
class _Table:
    name: str
    columns: tuple[str, ...]
    key: str  # the column that names the job
    by_seq: bool  # by its number, not by its id


def _copy(path: Path, templates: list[str], size: int) -> None:
    """Copy the rows of stored jobs until there are `size` of them, whatever columns the tables have."""
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode=OFF")  # nobody else has it open, and a crash here costs nothing
        db.execute("PRAGMA synchronous=OFF")
        db.execute("PRAGMA cache_size=-200000")  # kB
        seqs = [db.execute("SELECT seq FROM jobs WHERE id = ?", (template,)).fetchone()[0] for template in templates]
        (last,) = db.execute("SELECT max(seq) FROM jobs").fetchone()
        db.execute("CREATE TEMP TABLE copies (seq INTEGER PRIMARY KEY, template INTEGER, id TEXT)")
        db.execute("BEGIN")
        for first in range(0, size, ROWS_AT_ONCE):
            count = min(ROWS_AT_ONCE, size - first)
            rows = (
                (seq, seqs[seq % len(seqs)], f"{seq:08x}-0000-7000-8000-{seq * 2654435761 % 2**48:012x}")
                for seq in range(last + 1 + first, last + 1 + first + count)
            )
            db.execute("DELETE FROM copies")
            db.executemany("INSERT INTO copies VALUES (?, ?, ?)", rows)
            for table in _tables(db):
                db.execute(_copying(table))
        db.execute("COMMIT")
        db.execute("PRAGMA journal_mode=WAL")


def _tables(db: sqlite3.Connection) -> Iterator[_Table]:
    for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
        columns = tuple(row[1] for row in db.execute(f'PRAGMA table_info("{name}")'))
        for key, by_seq in (("seq", True), ("job", True), ("child", True), ("job_id", False)):
            if key in columns:
                yield _Table(name, columns, key, by_seq)
                break


def _copying(table: _Table) -> str:
    """Return the statement that copies the rows of a table for all templates."""
    new = {table.key: "copies.seq" if table.by_seq else "copies.id"}
    if table.name == "jobs":
        new["id"] = "copies.id"
    names = ", ".join(f'"{column}"' for column in table.columns)
    values = ", ".join(new.get(column, f't."{column}"') for column in table.columns)
    old = "copies.template" if table.by_seq else "(SELECT id FROM jobs WHERE seq = copies.template)"
    rows = f'FROM copies JOIN "{table.name}" t ON t."{table.key}" = {old}'
    return f'INSERT INTO "{table.name}" ({names}) SELECT {values} {rows}'


MEASURES = (
    Measure(
        "backlogs",
        (
            *(
                Figure(
                    f"backlog_{kind}",
                    f"Claim and finish beside 1,000,000 {kind} / 1,000",
                    "×",
                    False,
                    (Goal(1.3),),
                )
                for kind in KINDS
            ),
            Figure("backlog_batch", f"A batch of {BATCH} beside 1,000", "ms", False),
        ),
        backlogs,
        300,
        once=True,
    ),
)
