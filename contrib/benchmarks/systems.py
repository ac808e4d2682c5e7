"""The systems under test: an interpreter that has each, how its worker is started and stopped."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SIDES = Path(__file__).parent / "sides"
PROCESSES = 2
HUEY = "huey==3.5.4"

SIDE_SECONDS = 180.0  # for one measure of one system
STOP_SECONDS = 10.0
LOG_CHARS = 2000

WITH_WORKER = frozenset({"drain", "backlog", "round_trip"})


class BenchmarkError(RuntimeError):
    """A system did not do what was measured; what it printed is in the message."""


@dataclass(frozen=True, slots=True)
class System:
    """One row of the table."""

    name: str
    python: str
    side: str  # a module of sides/
    worker: tuple[str, ...]  # what follows `python`
    stop_signal: signal.Signals
    environment: Mapping[str, str] = field(default_factory=dict)

    def measure(self, what: str, count: int, folder: Path) -> dict[str, Any]:
        """Run one measure in an empty folder, with a worker of its own if it needs one."""
        arguments = [what, str(count)]
        if what not in WITH_WORKER:
            return self._run(arguments, folder)
        with self._running_worker(folder) as pid:
            return self._run([*arguments, str(pid)], folder)

    def _environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("GIGQ_")}
        return {**kept, "PYTHONPATH": str(SIDES), "PYTHONDONTWRITEBYTECODE": "1", **self.environment}

    def _run(self, arguments: list[str], folder: Path) -> dict[str, Any]:
        try:
            done = subprocess.run(
                # Imported, not run as a script: the names of its tasks must be those that the worker sees.
                [self.python, "-c", f"import {self.side}; {self.side}.main()", *arguments],
                cwd=folder,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=SIDE_SECONDS,
            )
        except subprocess.TimeoutExpired as error:
            raise BenchmarkError(f"{self.name}: {arguments[0]} took longer than {SIDE_SECONDS:g} s") from error
        if done.returncode:
            log = (folder / "worker.log").read_text()[-LOG_CHARS:] if (folder / "worker.log").exists() else ""
            raise BenchmarkError(f"{self.name}: {arguments[0]} failed\n{done.stdout}{done.stderr}{log}")
        result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return result

    @contextlib.contextmanager
    def _running_worker(self, folder: Path) -> Iterator[int]:
        with open(folder / "worker.log", "w") as log:
            process = subprocess.Popen(
                [self.python, *self.worker],
                cwd=folder,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            yield process.pid
        finally:
            stop(process, self.stop_signal)


def stop(process: subprocess.Popen[Any], first: signal.Signals) -> None:
    """Ask a worker to stop; if it does not, kill it and its session, which is ours."""
    process.send_signal(first)
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def gigq(durability: str) -> System:
    """Return the gigq of this interpreter."""
    return System(
        f"gigq ({durability})",
        sys.executable,
        "gigq_side",
        ("-m", "gigq", "worker", "gigq_side:app", "-c", str(PROCESSES), "--log-level", "warning"),
        signal.SIGTERM,
        {"BENCH_DURABILITY": durability},
    )


def huey(cache: Path, *, fsync: bool) -> System:
    """Return Huey in an environment of its own, made at the first call."""
    python = make_environment(cache / HUEY.replace("==", "-"), HUEY)
    # Processes, no periodic tasks, an idle worker looks every 1 to 10 ms; its defaults are 100 ms to 10 s.
    consumer = ("-m", "huey.bin.huey_consumer", "huey_side.huey", "-k", "process", "-w", str(PROCESSES))
    return System(
        "huey (fsync)" if fsync else "huey (no fsync)",
        python,
        "huey_side",
        (*consumer, "-d", "0.001", "-m", "0.01", "-n", "-q"),
        signal.SIGTERM,
        {"BENCH_FSYNC": "1" if fsync else ""},
    )


def make_environment(folder: Path, requirement: str) -> str:
    """Return the interpreter of a virtual environment that has `requirement`; make it if it is not there."""
    python = folder / "bin" / "python"
    ready = folder / "ready"  # written last, so that an interrupted installation is done again
    if not ready.exists():
        started = time.monotonic()
        print(f"installing {requirement} in {folder} …", end=" ", flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", requirement]
        subprocess.run(pip, check=True, timeout=300)
        ready.touch()
        print(f"{time.monotonic() - started:.0f} s")
    return str(python)
