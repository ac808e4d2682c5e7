"""Examples are run as a reader runs them: a copy of the folder, its own processes, this interpreter."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


def environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("GIGQ_")}


@pytest.fixture
def copy_example(tmp_path: Path) -> Callable[[str], Path]:
    def copy(name: str) -> Path:
        ignored = shutil.ignore_patterns("__pycache__", "*.db*", "report.md", "killed.md", "*.zip", "explicit_files")
        return Path(shutil.copytree(EXAMPLES / name, tmp_path / name, ignore=ignored))

    return copy


@pytest.fixture
def start() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start `python ARGUMENTS` in a folder, output on a pipe. What still runs at the end of the test is killed."""
    started: list[subprocess.Popen[str]] = []

    def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=folder,
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


@pytest.fixture
def output_of(start: Callable[..., subprocess.Popen[str]]) -> Callable[..., str]:
    """Run `python ARGUMENTS` in a folder to its end and return what it printed."""

    def run(folder: Path, *arguments: str, timeout: float = 60) -> str:
        process = start(folder, *arguments)
        output, _ = process.communicate(timeout=timeout)
        assert process.returncode == 0, output
        return output

    return run
