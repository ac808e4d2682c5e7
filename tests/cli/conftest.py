"""A database for the commands to look at, and a way to call them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_runner import Run
from click.testing import CliRunner

from gigq import JobQueue
from gigq.cli import main


@pytest.fixture
def queue(tmp_path: Path) -> Iterator[JobQueue]:
    queue = JobQueue(tmp_path / "jobs.db")
    yield queue
    queue.close()


@pytest.fixture
def run(queue: JobQueue) -> Run:
    """Run a command on the database."""
    return lambda *arguments: CliRunner().invoke(main, [*arguments, "--db", queue.url])
