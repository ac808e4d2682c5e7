"""What must hold after every fault: I1 to I5 of the tests' list, from the database and from two ledgers outside it.

`promises` says what was acknowledged, `starts` what has run: see apps/shapes.py and apps/mill.py.
"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

from gigq import payload

TERMINAL: Final = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT")


class Broken(AssertionError):
    """An invariant does not hold."""


class Promise(NamedTuple):
    """Jobs that were acknowledged by one call, each with the result that it will have, None: it will fail."""

    tag: str
    jobs: dict[str, int | None]


@dataclass(slots=True)
class Tally:
    """What a check has counted. What is wrong raises Broken instead."""

    jobs: int = 0
    starts: int = 0  # seen from outside
    recorded: int = 0  # executions in the database
    unstarted: int = 0  # of those: claimed by a worker that died before it could start them
    pending: int = 0  # jobs that have not ended
    lost: list[str] = field(default_factory=list)
    twice: list[str] = field(default_factory=list)
    stuck: list[str] = field(default_factory=list)


class Ledgers(NamedTuple):
    """What is known from outside."""

    promises: list[Promise]
    started: Counter[tuple[str, int]]  # (job, attempt)
    ended: set[tuple[str, int]]
    started_line: dict[str, int]  # where in the file a job's first start stands
    ended_line: dict[str, int]  # and its first end

    @classmethod
    def read(cls, folder: Path) -> Ledgers:
        """Read them. A line that was cut by a kill promises nothing."""
        promises = []
        for line in _lines(folder / "promises"):
            if line.endswith("}}"):
                promises.append(Promise(**json.loads(line)))
        started: Counter[tuple[str, int]] = Counter()
        ended: set[tuple[str, int]] = set()
        started_line: dict[str, int] = {}
        ended_line: dict[str, int] = {}
        for number, line in enumerate(_lines(folder / "starts")):
            match line.split():
                case ["start", job, attempt]:
                    started[job, int(attempt)] += 1
                    started_line.setdefault(job, number)
                case ["end", job, attempt]:
                    ended.add((job, int(attempt)))
                    ended_line.setdefault(job, number)
        return cls(promises, started, ended, started_line, ended_line)


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def check(
    folder: Path, *, drained: bool, pruned: Iterable[str] = (), tampered: Iterable[str] = (), whole: bool = True
) -> Tally:
    """Check the database of a folder against its ledgers.

    Args:
        drained: nothing is left to run, so that every job must have ended.
        pruned: jobs that may have been deleted.
        tampered: jobs that somebody has cancelled or retried, whose ends and attempts are not known beforehand.
        whole: whether to read the file's every page, which takes longest.
    """
    ledgers = Ledgers.read(folder)  # before the database: what is promised now must be in it then
    with closing(sqlite3.connect(f"file:{folder / 'jobs.db'}?mode=ro", uri=True, timeout=10)) as db:
        db.execute("BEGIN")
        if whole and (answer := db.execute("PRAGMA integrity_check").fetchall()) != [("ok",)]:
            raise Broken(f"I5: integrity_check: {answer[:5]}")
        found = Found(db)
    meddled = _with_dependants(found, tampered)
    tally = Tally(len(found.jobs), ledgers.started.total(), found.executions.total())
    check_rows(found)
    check_graph(found)
    _check_promises(found, ledgers, tally, drained, set(pruned), meddled)
    if drained:
        _check_starts(found, ledgers, tally, meddled)
    _check_order(found, ledgers, meddled)
    return tally


def _with_dependants(found: Found, job_ids: Iterable[str]) -> set[str]:
    """Return jobs and all that depend on them, at whatever distance."""
    children: dict[str, list[str]] = {}
    for parent, child, _ in found.edges:
        if parent in found.jobs and child in found.jobs:
            children.setdefault(found.jobs[parent].id, []).append(found.jobs[child].id)
    reached, rest = set(job_ids), list(job_ids)
    while rest:
        for child in children.get(rest.pop(), ()):
            if child not in reached:
                reached.add(child)
                rest.append(child)
    return reached


class _Job(NamedTuple):
    id: str
    state: str
    attempts: int
    max_attempts: int
    claims: int
    unmet: int
    description: str
    finished_at: float | None


class Found:
    """The tables, as they were at one moment."""

    def __init__(self, db: sqlite3.Connection) -> None:
        rows = db.execute(f"SELECT seq, {', '.join(_Job._fields)} FROM jobs")
        self.jobs = {seq: _Job(*rest) for seq, *rest in rows}
        self.by_id = {job.id: job for job in self.jobs.values()}
        self.results: dict[str, bytes] = {
            self.jobs[seq].id: data for seq, data in db.execute("SELECT job, data FROM job_results") if seq in self.jobs
        }
        self.edges: list[tuple[int, int, str]] = db.execute('SELECT parent, child, "when" FROM job_edges').fetchall()
        self.executions: Counter[str] = Counter()
        self.given_back: Counter[str] = Counter()
        self.successes: Counter[str] = Counter()
        self.attempts: Counter[tuple[str, int]] = Counter()
        self.completed_attempts: set[tuple[str, int]] = set()
        for job, attempt, state in db.execute("SELECT job_id, attempt, state FROM job_executions"):
            self.executions[job] += 1
            self.attempts[job, attempt] += 1
            if state == "COMPLETED":
                self.successes[job] += 1
                self.completed_attempts.add((job, attempt))
            elif state == "CANCELLED":
                self.given_back[job] += 1


def check_rows(found: Found) -> None:
    for job in found.jobs.values():
        if job.attempts > job.max_attempts:
            raise Broken(f"I3: job {job.id} has {job.attempts} attempts of {job.max_attempts}")
        if found.successes[job.id] != (job.state == "COMPLETED"):
            raise Broken(f"I2: job {job.id} is {job.state} and has {found.successes[job.id]} successful executions")
        if (job.finished_at is not None) != (job.state in TERMINAL):
            raise Broken(f"I2: job {job.id} is {job.state} and ended at {job.finished_at}")
        if job.id in found.results and job.state != "COMPLETED":
            raise Broken(f"I2: job {job.id} is {job.state} and has a result")


def check_graph(found: Found) -> None:
    """Check I4 and that workflows are whole."""
    waits: Counter[int] = Counter()
    for parent, child, when in found.edges:
        if child not in found.jobs:
            raise Broken(f"I5: there is an edge to job number {child}, which does not exist")
        if parent not in found.jobs:
            raise Broken(f"I5: job {found.jobs[child].id} depends on job number {parent}, which does not exist")
        if found.jobs[parent].state not in TERMINAL:
            waits[child] += 1
        state = found.jobs[child].state
        if when == "success" and state in ("RUNNING", "COMPLETED") and found.jobs[parent].state != "COMPLETED":
            raise Broken(
                f"I4: job {found.jobs[child].id} is {state}, its parent {found.jobs[parent].id} "
                f"{found.jobs[parent].state}"
            )
    for seq, job in found.jobs.items():
        if job.state == "PENDING" and job.unmet != waits[seq]:
            raise Broken(f"I4: job {job.id} says that {job.unmet} parents have not ended, it is {waits[seq]}")


def _check_promises(
    found: Found, ledgers: Ledgers, tally: Tally, drained: bool, pruned: set[str], tampered: set[str]
) -> None:
    sizes = Counter(job.description for job in found.jobs.values())
    for promise in ledgers.promises:
        gone = promise.jobs.keys() & pruned
        if not gone and sizes[promise.tag] not in (len(promise.jobs), 0) and promise.tag:
            raise Broken(f"I5: of {promise.tag} {sizes[promise.tag]} jobs are stored, not {len(promise.jobs)}")
        for job_id, expected in promise.jobs.items():
            job = found.by_id.get(job_id)
            if job is None:
                if job_id not in pruned:
                    tally.lost.append(job_id)
                continue
            if drained and job_id not in tampered:
                _check_end(found, job, expected)
    if tally.lost:
        raise Broken(f"I1: {len(tally.lost)} acknowledged jobs are lost: {tally.lost[:3]}")
    for job in found.jobs.values():
        if job.state in TERMINAL:
            continue
        tally.pending += 1
        if drained:
            tally.stuck.append(job.id)
    if tally.stuck:
        job = found.by_id[tally.stuck[0]]
        raise Broken(f"I1: {len(tally.stuck)} jobs are stuck, the first is {job}")


def _check_end(found: Found, job: _Job, expected: int | None) -> None:
    if job.state not in TERMINAL:
        return  # counted as stuck
    if job.state != ("FAILED" if expected is None else "COMPLETED"):
        raise Broken(f"I1: job {job.id} ({job.description}) is {job.state}, expected {expected}")
    data = found.results.get(job.id)
    result = None if data is None else payload.loads(data, found.results.get)
    if result != expected:
        raise Broken(f"I1: the result of job {job.id} is {result}, expected {expected}")


def _check_starts(found: Found, ledgers: Ledgers, tally: Tally, tampered: set[str]) -> None:
    """Check that what ran is what is recorded: each start once, each success where it was seen."""
    for (job_id, attempt), times in ledgers.started.items():
        if job_id in found.by_id and times > found.attempts[job_id, attempt]:
            tally.twice.append(job_id)
            raise Broken(
                f"I2: attempt {attempt} of job {job_id} started {times} times, "
                f"{found.attempts[job_id, attempt]} executions are recorded"
            )
    noted = {job_id for job_id, _ in ledgers.started}
    for job_id, attempt in found.completed_attempts:
        if job_id in noted and (job_id, attempt) not in ledgers.ended:
            raise Broken(f"I2: attempt {attempt} of job {job_id} is recorded as a success, and did not end")
    for job in found.jobs.values():
        if job.id in tampered:
            continue
        rows = found.executions[job.id] - found.given_back[job.id]
        # One that was given back after its last attempt had started ends with it, and keeps the attempt.
        if job.attempts - rows not in ((0,) if job.state == "COMPLETED" else (0, 1)):
            raise Broken(f"I3: job {job.id} has {job.attempts} attempts and {rows} recorded executions")
    tally.unstarted = sum(times - ledgers.started[key] for key, times in found.attempts.items() if key[0] in noted)


def _check_order(found: Found, ledgers: Ledgers, tampered: set[str]) -> None:
    """Check from outside that no job started before what it depends on had ended."""
    for parent, child, when in found.edges:
        before, after = found.jobs[parent].id, found.jobs[child].id
        started = ledgers.started_line.get(after)
        if started is None or when != "success" or before in tampered or before not in ledgers.started_line:
            continue
        if not ledgers.ended_line.get(before, started) < started:
            raise Broken(f"I4: job {after} started before {before} had ended")
