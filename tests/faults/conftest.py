"""Workshops that end with their test, or with the tests of a file that share one worker."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from workshop import Workshop


@pytest.fixture
def workshop(tmp_path: Path) -> Iterator[Workshop]:
    """A folder with the apps and no worker yet."""
    workshop = Workshop(tmp_path)
    yield workshop
    workshop.close()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workshop]:
    """A folder whose one worker knows all tasks and serves all tests of a file."""
    workshop = Workshop(tmp_path_factory.mktemp("shared"))
    worker = workshop.work("hostile:app", concurrency=2)
    yield workshop
    assert worker.poll() is None, worker.log  # it lives on, whatever its tasks did
    workshop.close()
