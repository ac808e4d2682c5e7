"""Power cuts: what a database holds whose write-ahead log ends anywhere.

The model: what was written before the log's last sync is safe; what follows may be there, be missing, be zeros or
rubbish, or what stood there before. With `durability="power"` every commit ends with a sync, so only the commit under
way can be lost; with "process" all commits since the last checkpoint can. Either way a reader must find exactly the
state after one of the commits. The format is documented at https://www.sqlite.org/fileformat2.html#walformat.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import random
import shutil
import sqlite3
import struct
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final, NamedTuple

import invariants
from rig import APPS

from gigq import JobQueue

HEADER_BYTES: Final = 32
FRAME_HEADER_BYTES: Final = 24
STEPS: Final = 150  # of one workload: with each job that is stored all this takes longer
TAIL_BYTES: Final = 20_000  # a few frames: nobody reads on after what is no frame
TAILS: Final = ("missing", "zeros", "rubbish", "stale")
_MEMORY: Final = Path("/dev/shm")


class Snapshot(NamedTuple):
    """The files after a commit, copied by another process."""

    database: bytes
    wal: bytes
    salt: bytes  # tells generations of the log apart: it is used again after a checkpoint
    end: int  # of the last commit in the log
    digest: str  # of every page


class Cut(NamedTuple):
    """One power cut."""

    step: int
    kind: str  # of the step
    at: int
    tail: str


def cuts(folder: Path, *, seed: int, durability: str, each: int) -> Iterator[Cut]:
    """Run workloads for ever, cut the log `each` times after each of their commits, and check what is left."""
    for number in itertools.count():
        yield from _cuts(folder / str(number), seed + number, durability, each)


def _cuts(folder: Path, seed: int, durability: str, each: int) -> Iterator[Cut]:
    draw = random.Random(seed)
    with _teller(folder, seed, durability) as teller:
        before = after = _snapshot(folder, teller)
        known = {after.end: after.digest}  # the commits of this generation of the log
        base, older = "", b""  # the state when this generation began, and the log's bytes then
        safe = after.end
        for step in range(1, STEPS):
            kind = _ask(teller)
            before, after = after, _copy(folder)
            if after.salt != before.salt:
                base, older, known, safe = before.digest, before.wal, {}, 0
            if durability == "power":
                safe = max(safe, before.end if after.salt == before.salt else 0)
            known[after.end] = after.digest
            _check_promises(folder, after)
            for _ in range(each):
                at, tail = _draw_cut(draw, safe, after.end), draw.choice(TAILS)
                wal = after.wal[:at] + _tail(draw, tail, at, len(after.wal), older)
                at = _same(wal, after.wal, at)
                expected = next((known[end] for end in sorted(known, reverse=True) if end <= at), base)
                # A checkpoint follows the commit that it was made at, and that commit's sync.
                database = after.database if at >= after.end else before.database
                found = _read(database, wal)
                cut = Cut(step, kind, at, tail)
                if found != expected:
                    raise invariants.Broken(f"I5: seed {seed}, {durability}: no committed state after {cut}")
                yield cut
            if after.database != before.database:  # a checkpoint, which syncs the log first
                safe = after.end


def _draw_cut(draw: random.Random, safe: int, end: int) -> int:
    """Return where to cut: anywhere that is not safe, often beside the border of a frame."""
    at = draw.randint(safe, end)
    if draw.random() < 0.5:
        size = FRAME_HEADER_BYTES + 4096
        border = HEADER_BYTES + round((at - HEADER_BYTES) / size) * size
        at = border + draw.choice([-1, 0, 1, FRAME_HEADER_BYTES - 1, FRAME_HEADER_BYTES])
    return min(max(at, safe), end)


def _tail(draw: random.Random, tail: str, at: int, end: int, older: bytes) -> bytes:
    """Return what stands in the log after a cut."""
    size = min(max(end - at, 0), TAIL_BYTES)
    return {"missing": b"", "zeros": bytes(size), "rubbish": draw.randbytes(size), "stale": older[at:]}[tail]


def _same(one: bytes, other: bytes, at: int) -> int:
    """Return up to where both are the same: a page may end with the very zeros that a tail begins with."""
    while at < min(len(one), len(other)) and one[at] == other[at]:
        at += 1
    return at


# -- the files


@contextmanager
def _teller(folder: Path, seed: int, durability: str) -> Iterator[subprocess.Popen[str]]:
    folder.mkdir(parents=True, exist_ok=True)
    for source in APPS.glob("*.py"):
        shutil.copy(source, folder)
    environment = os.environ | {"CRASH_DURABILITY": durability, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with subprocess.Popen(
        [sys.executable, "teller.py", str(seed)], cwd=folder, env=environment, stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, text=True,
    ) as teller:  # fmt: skip
        yield teller
        assert teller.stdin is not None
        teller.stdin.close()
        assert teller.wait(10) == 0


def _ask(teller: subprocess.Popen[str]) -> str:
    assert teller.stdin is not None
    assert teller.stdout is not None
    teller.stdin.write("\n")
    teller.stdin.flush()
    return str(json.loads(teller.stdout.readline()))


def _snapshot(folder: Path, teller: subprocess.Popen[str]) -> Snapshot:
    _ask(teller)
    return _copy(folder)


def _copy(folder: Path) -> Snapshot:
    database, wal = (folder / "jobs.db").read_bytes(), (folder / "jobs.db-wal").read_bytes()
    return Snapshot(database, wal, wal[16:24], _end(wal), _read(database, wal))


def _end(wal: bytes) -> int:
    """Return where the last commit of a log ends, by its frames' salts and commit marks."""
    (page,) = struct.unpack_from(">I", wal, 8)
    end = at = HEADER_BYTES
    while at + FRAME_HEADER_BYTES + page <= len(wal) and wal[at + 8 : at + 16] == wal[16:24]:
        is_commit = wal[at + 4 : at + 8] != bytes(4)
        at += FRAME_HEADER_BYTES + page
        if is_commit:
            end = at
    return end


def _read(database: bytes, wal: bytes) -> str:
    """Return a digest of all pages that a reader finds in these files after gigq; raise Broken if they are damaged."""
    with tempfile.TemporaryDirectory(dir=_MEMORY if _MEMORY.is_dir() else None) as folder:
        path = Path(folder) / "jobs.db"
        path.write_bytes(database)
        path.with_name("jobs.db-wal").write_bytes(wal)
        queue = JobQueue(path)
        stats = queue.stats()
        with closing(sqlite3.connect(path)) as db:
            if (answer := db.execute("PRAGMA integrity_check").fetchall()) != [("ok",)]:
                raise invariants.Broken(f"I5: integrity_check: {answer[:5]}")
            pages = db.serialize()
            (count,) = db.execute("SELECT count(*) FROM jobs").fetchone()
        queue.close()
        if sum(stats.values()) != count:
            raise invariants.Broken(f"I5: gigq counts {stats}, there are {count} jobs")
        return hashlib.sha256(pages).hexdigest()


def _check_promises(folder: Path, snapshot: Snapshot) -> None:
    """Check that a snapshot holds all that was acknowledged before it, each call's jobs whole."""
    promised = invariants.Ledgers.read(folder).promises
    with closing(sqlite3.connect(f"file:{folder / 'jobs.db'}?mode=ro", uri=True)) as db:
        found = invariants.Found(db)
    invariants.check_rows(found)
    invariants.check_graph(found)
    sizes = Counter(job.description for job in found.jobs.values())
    for promise in promised:
        if sizes[promise.tag] != len(promise.jobs) or not promise.jobs.keys() <= found.by_id.keys():
            raise invariants.Broken(f"I1: {promise.tag} was acknowledged, {sizes[promise.tag]} of its jobs are stored")
