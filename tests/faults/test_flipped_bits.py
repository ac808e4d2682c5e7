"""Single bits that flip on the disk: what the doctor does not see is one value at most, never a lost row or state."""

from __future__ import annotations

import json
import random
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner

from gigq import App, Job, JobQueue
from gigq.cli import main

pytestmark = pytest.mark.slow

FLIPS = 40
Tables = dict[str, list[tuple[object, ...]]]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A closed database of a few dozen pages, with jobs in several states."""
    app = App(tmp_path / "jobs.db", name="flips")
    jobs = [Job(f"job {number}", divmod, args=[number, number % 7], max_attempts=1) for number in range(120)]
    app.submit(*jobs)
    for job in jobs[:30]:
        job.then(print)
    app.worker(pool="inline", burst=True)
    app.submit(*(Job("later", print, args=[number], queue="other") for number in range(30)))
    app.queue.close()
    return tmp_path / "jobs.db"


def diagnosis(path: Path) -> tuple[int, str]:
    result = CliRunner().invoke(main, ["doctor", str(path), "--full", "--json"])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    json.loads(result.stdout)
    return result.exit_code, result.stdout


def dump(path: Path) -> Tables:
    with closing(sqlite3.connect(path)) as db:
        names = [name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")]
        return {name: db.execute(f"SELECT * FROM {name}").fetchall() for name in names}


def differences(before: Tables, after: Tables) -> list[tuple[str, object, object]]:
    """Return the values that differ. Fails if tables or numbers of rows do."""
    assert before.keys() == after.keys()
    found = []
    for name, rows in before.items():
        assert len(rows) == len(after[name]), name
        for old, new in zip(rows, after[name], strict=True):
            found += [(name, one, other) for one, other in zip(old, new, strict=True) if one != other]
    return found


def test_what_the_doctor_does_not_see_is_one_value_at_most(path: Path, tmp_path: Path) -> None:
    good, before = path.read_bytes(), dump(path)
    assert diagnosis(path)[0] == 0
    seed = random.randrange(2**32)
    draw = random.Random(seed)
    damaged = tmp_path / "damaged.db"
    seen = 0
    for _ in range(FLIPS):
        at, bit = draw.randrange(len(good)), draw.randrange(8)
        data = bytearray(good)
        data[at] ^= 1 << bit
        damaged.write_bytes(data)
        damaged.chmod(0o600)
        code, text = diagnosis(damaged)
        seen += code
        if code == 0:
            where = f"seed {seed}, byte {at}, bit {bit}"
            assert len(differences(before, dump(damaged))) <= 1, where
        else:
            assert '"problem"' in text
    assert 0 < seen < FLIPS, f"seed {seed}"


def test_a_flip_in_the_log_is_named_although_sqlite_opens_it_without_a_word(tmp_path: Path) -> None:
    queue = JobQueue(tmp_path / "jobs.db")
    for number in range(20):
        queue.submit(Job(str(number), print))
    copy = tmp_path / "copy.db"
    for suffix in ("", "-wal"):
        (tmp_path / f"copy.db{suffix}").write_bytes((tmp_path / f"jobs.db{suffix}").read_bytes())
        (tmp_path / f"copy.db{suffix}").chmod(0o600)
    queue.close()
    log = tmp_path / "copy.db-wal"
    data = bytearray(log.read_bytes())
    data[len(data) * 3 // 4] ^= 16
    log.write_bytes(data)
    code, text = diagnosis(copy)
    assert code == 1
    assert "copy.db-wal is damaged after" in text
    lost = JobQueue(copy)
    assert 0 < sum(lost.stats().values()) < 20  # SQLite: all is well
    lost.close()
