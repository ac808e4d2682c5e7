"""What a measure is given: a system in an empty folder, with workers and clients that end with the measure."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import process_tree
from figures import Figure
from scale import Scale
from systems import REDIS, System

SIDES = Path(__file__).parent / "sides"
LOG_CHARS = 3000


class MeasureError(RuntimeError):
    """A system did not do what was measured; what it printed is in the message."""


class MeasureTimeout(MeasureError):
    """A measure took longer than it may."""


class NotAvailable(Exception):
    """This gigq does not have what is measured."""


@dataclass(frozen=True, slots=True)
class Measure:
    """One thing that is measured, for every system or for gigq alone."""

    name: str
    figures: tuple[Figure, ...]
    run: Any  # Callable[[Bench], Mapping[str, float]]: a value for each figure's name
    seconds: float  # that one run may take
    with_peers: bool = False
    once: bool = False  # not in every round: it takes long, or varies little
    systems: tuple[str, ...] = ("gigq-power",)  # which of gigq's, when peers are not measured


class Bench:
    """One run of one measure with one system. Use it as a context: whatever was started in it is killed at its end."""

    def __init__(
        self,
        system: System,
        folder: Path,
        *,
        python: str,
        scale: Scale,
        redis_url: str = "",
        pycache: Path | None = None,
    ) -> None:
        self.system = system
        self.folder = folder
        self.python = python
        self.scale = scale.shared(system.share, system.bulk)
        self._redis_url = redis_url
        self._pycache = pycache
        self._started: list[subprocess.Popen[bytes]] = []
        self._clients: list[Client] = []

    def __enter__(self) -> Bench:
        return self

    def __exit__(self, *exception: object) -> None:
        for client in self._clients:
            client.close()
        for process in self._started:
            process_tree.kill_tree(process)
        process_tree.kill_marked(str(self.folder))

    def environment(self) -> dict[str, str]:
        """Return what all processes of the measure get."""
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith("GIGQ_") and name != "PYTHONDONTWRITEBYTECODE"
        }
        # Compiled once for all runs, as installed programs are: the time of a start is not that of the compiler.
        cache = {"PYTHONPYCACHEPREFIX": str(self._pycache)} if self._pycache else {"PYTHONDONTWRITEBYTECODE": "1"}
        redis = {"BENCH_REDIS": self._redis_url} if self._redis_url else {}
        own = {"PYTHONPATH": str(SIDES), process_tree.MARK: str(self.folder)}
        return {**kept, **cache, **redis, **own, **self.system.environment}

    def start(self, command: Sequence[str], log: str = "worker.log", *, piped: bool = False) -> subprocess.Popen[bytes]:
        """Start a program in the measure's folder."""
        with process_tree.uninterrupted():  # between the fork and the note of its id nothing may be raised
            process = process_tree.start(command, self.folder, self.environment(), log, piped=piped)
            self._started.append(process)
        return process

    def worker(self, arguments: Sequence[str] | None = None) -> subprocess.Popen[bytes]:
        """Start the system's worker, or `python` with other arguments."""
        chosen = self.system.worker if arguments is None else arguments
        return self.start([self.python, *(self._redis_url if word == REDIS else word for word in chosen)])

    def client(self) -> Client:
        """Start a program that uses the system, see sides/client.py; return when it is ready."""
        with process_tree.uninterrupted():
            client = Client(self)
            self._clients.append(client)
            self._started.append(client.process)
        client.answer()
        return client

    def logs(self) -> str:
        """Return the ends of what was printed."""
        logs = {path.name: path.read_text(errors="replace") for path in self.folder.glob("*.log")}
        return "\n".join(f"{name}: {log[-LOG_CHARS:]}" for name, log in logs.items())


class Client:
    """A process that takes orders."""

    def __init__(self, bench: Bench) -> None:
        self._name = bench.system.title
        self._log = bench.folder / "client.log"
        command = [bench.python, "-c", "import client; client.main()", bench.system.side]
        self.process = process_tree.start(command, bench.folder, bench.environment(), self._log.name, piped=True)

    def __call__(self, order: str, *arguments: Any) -> dict[str, Any]:
        """Give an order and return its answer."""
        self.ask(order, *arguments)
        return self.answer()

    def ask(self, order: str, *arguments: Any) -> None:
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it has ended: `answer` says why
            self.process.stdin.write(json.dumps([order, *arguments]).encode() + b"\n")
            self.process.stdin.flush()

    def answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise MeasureError(f"the client of {self._name} failed\n{self._log.read_text()[-LOG_CHARS:]}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()


@contextlib.contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise MeasureTimeout in the main thread when the block takes longer."""

    def expire(number: int, frame: FrameType | None) -> None:
        raise MeasureTimeout(f"took longer than {seconds:g} s")

    previous = signal.signal(signal.SIGALRM, expire)
    started = time.monotonic()
    left, _ = signal.setitimer(signal.ITIMER_REAL, seconds)  # of a limit around this one
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
        if left:
            signal.setitimer(signal.ITIMER_REAL, max(0.001, left - (time.monotonic() - started)))
