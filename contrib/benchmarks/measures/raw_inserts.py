"""How much of the time of `.delay()` is SQLite's own."""

from __future__ import annotations

import os
import sqlite3
import time
from typing import Any

from bench import Bench, Measure
from figures import Figure, Goal
from gigq_side import make_app

CHUNK = 100  # calls before it is the other's turn, so that a slow moment hits both
SYNCHRONOUS = {"power": "FULL", "process": "NORMAL"}


def raw_inserts(bench: Bench) -> dict[str, float]:
    """Time `.delay()`, and INSERTs of the same rows into the same tables and indexes, one transaction for each job."""
    return {f"raw_{durability}": _share(bench, durability) for durability in SYNCHRONOUS}


def _share(bench: Bench, durability: str) -> float:
    """Return the time of the raw INSERTs over that of the calls."""
    ours, theirs = bench.folder / f"{durability}.db", bench.folder / f"{durability}-raw.db"
    for path in (ours, theirs):
        made = make_app(path, durability)
        made.queue.stats()  # makes the tables
        made.queue.close()
    app = make_app(ours, durability)
    noop: Any = app.tasks["noop"]
    reader = sqlite3.connect(ours, isolation_level=None)
    writer = sqlite3.connect(theirs, isolation_level=None, cached_statements=256)
    writer.execute(f"PRAGMA synchronous={SYNCHRONOUS[durability]}")
    calls = inserts = 0.0
    for turn in range(max(2, bench.scale.jobs // CHUNK)):
        started = time.perf_counter()
        for n in range(CHUNK):
            noop.delay(n)
        called = time.perf_counter() - started
        transactions = _copies(reader, CHUNK)
        started = time.perf_counter()
        for statements in transactions:
            writer.execute("BEGIN IMMEDIATE")
            for statement, row in statements:
                writer.execute(statement, row)
            writer.execute("COMMIT")
        inserted = time.perf_counter() - started
        if turn:  # the first one warms up
            calls, inserts = calls + called, inserts + inserted
    for connection in (reader, writer):
        connection.close()
    app.queue.close()
    for path in (ours, theirs):
        os.unlink(path)
    return inserts / calls


def _copies(db: sqlite3.Connection, count: int) -> list[list[tuple[str, tuple[Any, ...]]]]:
    """Return, for each of the last `count` jobs, the INSERTs that make its rows. NULLs are left out."""
    by_table = []
    tables = [name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    for table in tables:
        columns = [row[1] for row in db.execute(f'PRAGMA table_info("{table}")')]
        key = next((column for column in ("seq", "job") if column in columns), None)
        if key is None:
            continue
        rows = db.execute(f'SELECT * FROM "{table}" ORDER BY "{key}" DESC LIMIT ?', (count,)).fetchall()
        if len(rows) == count:  # a table that gets a row for each job
            by_table.append([_insert(table, columns, row) for row in reversed(rows)])
    assert by_table, tables
    return [list(statements) for statements in zip(*by_table, strict=True)]


def _insert(table: str, columns: list[str], row: tuple[Any, ...]) -> tuple[str, tuple[Any, ...]]:
    used = [(column, value) for column, value in zip(columns, row, strict=True) if value is not None]
    names = ", ".join(f'"{column}"' for column, _ in used)
    return f'INSERT INTO "{table}" ({names}) VALUES ({", ".join("?" * len(used))})', tuple(value for _, value in used)


MEASURES = (
    Measure(
        "raw_inserts",
        tuple(
            Figure(f"raw_{durability}", f"raw INSERTs / .delay(), {durability}", "of the time", True, (Goal(0.6),))
            for durability in SYNCHRONOUS
        ),
        raw_inserts,
        120,
    ),
)
