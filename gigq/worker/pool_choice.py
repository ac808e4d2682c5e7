"""Which pool a worker has, and how big: what the caller said, checked, and defaults for the rest."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal

from gigq.errors import ConfigurationError
from gigq.signing import Signer
from gigq.worker.cpus import usable_cpus
from gigq.worker.pools.asyncio import AsyncPool
from gigq.worker.pools.base import Pool
from gigq.worker.pools.inline import InlinePool
from gigq.worker.pools.limits import NO_LIMITS, Limits
from gigq.worker.pools.process import ProcessPool
from gigq.worker.pools.thread import ThreadPool
from gigq.worker.source import ModuleTarget, Preparation, TaskSource

PoolName = Literal["process", "async", "thread", "inline"]
POOLS: Final = ("process", "async", "thread", "inline")
SLOTS_EACH: Final = 100  # jobs at once in each child of the async pool, where nothing else is said

_UNITS: Final = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_SIZE: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?", re.IGNORECASE | re.ASCII)


@dataclass(frozen=True, slots=True)
class PoolChoice:
    """A pool to be made.

    Attributes:
        pool: its name.
        concurrency: how many jobs run at once.
        children: how many child processes; 0 for pools that have none.
        limits: when a child is replaced.
        soft_timeouts, result_limit_bytes: see `Worker`.
    """

    pool: PoolName
    concurrency: int
    children: int
    limits: Limits
    soft_timeouts: bool
    result_limit_bytes: int

    def make(
        self,
        source: TaskSource | ModuleTarget | None,
        url: str | None,
        signer: Signer | None,
        preparation: Preparation | None,
    ) -> Pool:
        """Return the pool, not started. `preparation` is called where an app is imported for the children."""
        soft, limits, concurrency, largest = self.soft_timeouts, self.limits, self.concurrency, self.result_limit_bytes
        if self.pool == "thread":
            return ThreadPool(
                source, url=url, concurrency=concurrency, soft_timeouts=soft, signer=signer, result_limit_bytes=largest
            )
        if self.pool == "inline":
            return InlinePool(source, url=url, soft_timeouts=soft, signer=signer, result_limit_bytes=largest)
        if self.pool == "async":
            return AsyncPool(
                source, url=url, concurrency=concurrency, children=self.children, limits=limits, signer=signer,
                result_limit_bytes=largest, preparation=preparation,
            )  # fmt: skip
        return ProcessPool(
            source, url=url, concurrency=concurrency, limits=limits, signer=signer,
            result_limit_bytes=largest, preparation=preparation,
        )  # fmt: skip


def choose_pool(
    pool: PoolName,
    concurrency: int | None,
    children: int | None,
    max_jobs_per_child: int | None,
    max_memory_per_child: int | str | None,
    *,
    soft_timeouts: bool,
    result_limit_bytes: int,
) -> PoolChoice:
    """Return the pool that these arguments of `Worker` mean.

    Raises:
        ConfigurationError: one of them has a wrong value, or means nothing to that pool.
    """
    if pool not in POOLS:
        raise ConfigurationError(f"pool must be one of {', '.join(POOLS)}, got {pool!r}")
    if children is not None and pool != "async":
        what = "concurrency says how many children it has" if pool == "process" else "it has no child processes"
        raise ConfigurationError(f"children is for the async pool, got {children!r} for the {pool} pool: {what}")
    for name, value in (("max_jobs_per_child", max_jobs_per_child), ("max_memory_per_child", max_memory_per_child)):
        if value is not None and pool not in ("process", "async"):
            raise ConfigurationError(
                f'{name} needs child processes, which the {pool} pool does not have: use pool="process" or "async"'
            )
    if pool == "async":
        processes = _count("children", children, usable_cpus())
        jobs = _count("concurrency", concurrency, SLOTS_EACH * processes)
        processes = min(processes, jobs)
    else:
        jobs = _count("concurrency", concurrency, usable_cpus())
        processes = jobs if pool == "process" else 0
    limits = NO_LIMITS
    if max_jobs_per_child is not None or max_memory_per_child is not None:
        limits = Limits(
            None if max_jobs_per_child is None else _count("max_jobs_per_child", max_jobs_per_child, 0),
            None if max_memory_per_child is None else as_bytes("max_memory_per_child", max_memory_per_child),
        )
    largest = _count("result_limit_bytes", result_limit_bytes, 0)
    return PoolChoice(pool, jobs, processes, limits, soft_timeouts, largest)


def _count(name: str, value: int | None, default: int) -> int:
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int):
        raise ConfigurationError(f"{name} must be an int, got {value!r}")
    if value < 1:
        raise ConfigurationError(f"{name} must be at least 1, got {value!r}")
    return value


def as_bytes(name: str, value: int | str) -> int:
    """Return a size in bytes: a number of them, or a text such as `200M` or `1.5 GiB` (units of 1024).

    Raises:
        ConfigurationError: it is neither, or less than 1 byte.
    """
    count = value
    if isinstance(value, str):
        match = _SIZE.fullmatch(value.strip())
        count = 0 if match is None else int(float(match[1]) * _UNITS[match[2].lower()])
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise ConfigurationError(f"{name} must be a number of bytes or a size such as 200M, got {value!r}")
    return count
