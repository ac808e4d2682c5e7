"""Pools that are stopped after each test, whatever happened in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pool_driver import Driver, FakeApp, StartPool

from gigq.worker.pools import forked
from gigq.worker.pools.asyncio import AsyncPool
from gigq.worker.pools.forked import ForkedPool
from gigq.worker.pools.process import ProcessPool


def _starter(make: Callable[..., ForkedPool[Any]]) -> Iterator[StartPool]:
    pools: list[ForkedPool[Any]] = []

    def start(*functions: Callable[..., Any], url: str = "", **options: Any) -> Driver:
        pool = make(FakeApp(*functions, url=url), url=None, **options)
        pools.append(pool)
        pool.start()
        return Driver(pool)

    yield start
    for pool in pools:
        pool.stop()


@pytest.fixture
def start_pool() -> Iterator[StartPool]:
    """A function that starts a pool of processes with the given functions as tasks."""
    yield from _starter(lambda app, *, concurrency=1, **options: ProcessPool(app, concurrency=concurrency, **options))


@pytest.fixture
def start_async() -> Iterator[StartPool]:
    """The same for a pool of event loops; one child, unless more are asked for."""
    yield from _starter(
        lambda app, *, concurrency=20, children=1, **options: AsyncPool(
            app, concurrency=concurrency, children=children, **options
        )
    )


@pytest.fixture
def short_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two seconds between the exception and SIGKILL are long for a test."""
    monkeypatch.setattr(forked, "GRACE_SECONDS", 0.6)
