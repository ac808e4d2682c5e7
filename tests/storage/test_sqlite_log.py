"""The write-ahead log: what is whole in it, and what SQLite would drop."""

from __future__ import annotations

import random
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from gigq.storage.sqlite.log import read_log

FRAME = 24 + 512


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Path]:
    """A log of 20 commits, of a database with small pages."""
    db = sqlite3.connect(tmp_path / "a.db", isolation_level=None)
    db.execute("PRAGMA page_size=512")
    db.execute("PRAGMA journal_mode=WAL")
    db.execute("CREATE TABLE t (x)")
    for number in range(19):
        db.execute("INSERT INTO t VALUES (?)", (str(number) * 400,))
    yield tmp_path / "a.db-wal"
    db.close()


def rows_found(folder: Path, log: bytes) -> int:
    """Return how many rows SQLite finds with this log, when no other process has the database open."""
    copy = folder / "copy"
    copy.mkdir()
    shutil.copy(folder / "a.db", copy / "a.db")
    (copy / "a.db-wal").write_bytes(log)
    with closing(sqlite3.connect(copy / "a.db")) as db:
        (has_table,) = db.execute("SELECT count(*) FROM sqlite_master").fetchone()
        (found,) = db.execute("SELECT count(*) FROM t").fetchone() if has_table else (0,)
    shutil.rmtree(copy)
    return int(found)


def test_a_whole_log_is_whole(log: Path) -> None:
    state = read_log(log)
    assert (state.commits, state.is_damaged, state.is_complete) == (20, False, True)
    assert state.size_bytes == log.stat().st_size == 32 + state.frames * FRAME


@pytest.mark.slow
def test_any_flipped_bit_is_seen_and_what_it_costs(log: Path, tmp_path: Path) -> None:
    good = log.read_bytes()
    seed = random.randrange(2**32)
    draw = random.Random(seed)
    damaged = tmp_path / "b.db-wal"
    for _ in range(60):
        at, bit = draw.randrange(len(good)), draw.randrange(8)
        data = bytearray(good)
        data[at] ^= 1 << bit
        damaged.write_bytes(data)
        state = read_log(damaged, sleep=lambda seconds: None)
        frame = (at - 32) // FRAME
        where = f"seed {seed}, byte {at}, bit {bit}: {state}"
        # In its last frame's salts, or in the mark that makes it a commit, the last commit looks like none at all.
        is_last = at >= len(good) - FRAME
        assert state.is_damaged or is_last, where
        if at < 32:
            assert state.is_header_damaged, where
        else:
            assert state.frames == frame or not state.is_damaged, where
            assert rows_found(tmp_path, bytes(data)) == max(0, state.commits - 1), where  # the first made the table


def test_what_an_earlier_round_left_behind_is_no_damage(log: Path) -> None:
    with closing(sqlite3.connect(log.with_name("a.db"), isolation_level=None)) as db:
        assert db.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()[0] == 0
        db.execute("INSERT INTO t VALUES ('the first of the next round')")
        state = read_log(log)
    assert state.commits == 1
    assert state.size_bytes > 10 * FRAME  # the old frames are there
    assert not state.is_damaged


def test_a_commit_that_is_being_written_is_no_damage(log: Path, tmp_path: Path) -> None:
    good = log.read_bytes()
    growing = tmp_path / "b.db-wal"
    growing.write_bytes(good[: -FRAME + 24] + bytes(FRAME - 24))  # its header stands, its page does not

    def writer_goes_on(seconds: float) -> None:
        growing.write_bytes(good)

    assert read_log(growing, sleep=lambda seconds: None).lost == 1
    assert not read_log(growing, sleep=writer_goes_on).is_damaged


def test_no_log_and_an_emptied_one_are_fine(tmp_path: Path) -> None:
    path = tmp_path / "none.db-wal"
    assert read_log(path) == (0, 0, 0, 0, False, True)
    path.write_bytes(bytes(100))
    assert not read_log(path).is_damaged


def test_the_work_has_a_limit(log: Path) -> None:
    state = read_log(log, limit_bytes=5 * 512)
    assert (state.frames, state.is_complete, state.is_damaged) == (5, False, False)
