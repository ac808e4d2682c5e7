"""Drive a pool as the worker's loop does, and make the jobs for it."""

from __future__ import annotations

import itertools
import os
import select
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from gigq.payload import Failure, dumps, loads
from gigq.retry import RetryPolicy
from gigq.storage.leases import ClaimedJob, End
from gigq.storage.rows import BY_VALUE
from gigq.worker.pools.base import Ended, Pool, Progress

_seqs = itertools.count(1)


@dataclass(frozen=True)
class FakeTask:
    name: str
    function: Callable[..., Any]
    policy: RetryPolicy = field(default_factory=RetryPolicy)
    timeout: float | None = None


class FakeApp:
    """What a pool needs of an app."""

    durability = "process"
    default_policy = RetryPolicy()

    def __init__(self, *functions: Callable[..., Any], url: str = "") -> None:
        self.url = url
        self.tasks = {function.__name__: FakeTask(function.__name__, function) for function in functions}


def make_job(
    task: str | Callable[..., Any],
    *args: Any,
    timeout: float | None = None,
    policy: RetryPolicy | None = None,
    by_value: bool = False,
    inline: bool = True,
    **kwargs: Any,
) -> ClaimedJob:
    """Return a job as a claim gives it."""
    seq = next(_seqs)
    name = task if isinstance(task, str) else getattr(task, "__name__", type(task).__name__)
    arguments = dumps((task, args, kwargs) if by_value else (args, kwargs)).data
    return ClaimedJob(
        seq=seq,
        id=f"id-{seq}",
        name=name,
        task=BY_VALUE if by_value else name,
        queue="default",
        priority=0,
        claims=1,
        attempt=1,
        max_attempts=3,
        timeout=timeout,
        policy=None if policy is None else policy.to_json(),
        arguments=arguments if inline else None,
    )


class Driver:
    """A loop around a pool: collects its events and calls `tend` in time."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.ended: list[Ended] = []
        self.progress: list[Progress] = []
        self.waiting: list[ClaimedJob] = []

    def give(self, *jobs: ClaimedJob) -> None:
        """Hand out jobs, now or as soon as there is room."""
        self.waiting += jobs
        self.waiting = self.pool.give(self.waiting)

    def turn(self, longest: float = 0.05) -> None:
        """Go round once: wait for something to happen, at most `longest` seconds."""
        delay = self.pool.tend()
        poll = select.poll()
        for fd in self.pool.filenos():
            poll.register(fd, select.POLLIN)
        poll.poll(1000 * (longest if delay is None else min(delay, longest)))
        for event in self.pool.events():
            if isinstance(event, Ended):
                self.ended.append(event)
            else:
                self.progress.append(event)
        if self.waiting:
            self.waiting = self.pool.give(self.waiting)

    def until(self, condition: Callable[[], object], timeout: float = 20.0) -> None:
        """Go round until `condition` holds."""
        deadline = time.monotonic() + timeout
        while not condition():
            assert time.monotonic() < deadline, f"not within {timeout} s; ended: {self.ended[-5:]}"
            self.turn()

    def run(self, *jobs: ClaimedJob, timeout: float = 20.0) -> list[Ended]:
        """Run jobs to their ends; return those in the order of `jobs`."""
        self.give(*jobs)
        return self.wait(*jobs, timeout=timeout)

    def wait(self, *jobs: ClaimedJob, timeout: float = 20.0) -> list[Ended]:
        """Wait for the ends of jobs that were given before; return those in the order of `jobs`."""
        wanted = {job.seq for job in jobs}
        self.until(lambda: wanted <= {ended.job.seq for ended in self.ended}, timeout)
        by_seq = {ended.job.seq: ended for ended in self.ended}
        return [by_seq[job.seq] for job in jobs]

    def run_one(self, job: ClaimedJob, timeout: float = 20.0) -> Ended:
        return self.run(job, timeout=timeout)[0]


StartPool = Callable[..., Driver]
"""The fixture `start_pool`: functions in, a driven pool out."""


def value_of(ended: Ended) -> Any:
    """Return the result of a job, which must have completed."""
    assert ended.end is End.COMPLETED, ended
    return None if ended.result is None else loads(ended.result, lambda job_id: None)


def failure_of(ended: Ended) -> Failure:
    """Return the failure that an attempt ended with."""
    assert ended.error is not None
    return Failure.from_json(ended.error)


def is_running(pid: int) -> bool:
    """Return whether a process still executes: a zombie does not."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def poll_until(condition: Callable[[], object], timeout: float = 10.0) -> float:
    """Wait until `condition` holds; return the seconds that it took."""
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < timeout, f"not within {timeout} s"
        time.sleep(0.001)
    return time.monotonic() - started


def descriptors() -> set[str]:
    """Return this process's open descriptors."""
    return set(os.listdir("/proc/self/fd"))


def children_of(pid: int) -> set[int]:
    """Return the direct children of a process."""
    found = set()
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/stat") as file:
                    if int(file.read().rpartition(")")[2].split()[1]) == pid:
                        found.add(int(entry))
            except (FileNotFoundError, ProcessLookupError):
                continue
    return found


def ends(all_ended: Sequence[Ended]) -> list[str]:
    return [ended.end.value for ended in all_ended]
