"""Pools that are stopped after each test, whatever happened in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pool_driver import Driver, FakeApp, StartPool

from gigq.worker.pools.process import ProcessPool


@pytest.fixture
def start_pool() -> Iterator[StartPool]:
    """A function that starts a pool of processes with the given functions as tasks."""
    pools: list[ProcessPool] = []

    def start(*functions: Callable[..., Any], concurrency: int = 1, url: str = "", **options: Any) -> Driver:
        pool = ProcessPool(FakeApp(*functions, url=url), url=None, concurrency=concurrency, **options)
        pools.append(pool)
        pool.start()
        return Driver(pool)

    yield start
    for pool in pools:
        pool.stop()
