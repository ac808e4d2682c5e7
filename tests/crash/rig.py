"""A folder with an app, its database, a process that forks workers, and what is checked after each kill."""

from __future__ import annotations

import importlib.util
import json
import os
import random
import select
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, Final

import invariants
from processes import below, catches, is_running, is_stopped, marked, state_of, until

from gigq import JobState

APPS: Final = Path(__file__).parent / "apps"
MARK: Final = "GIGQ_CRASH_FOLDER"  # in the environment of all that is started here
PROMISED_SECONDS: Final = 0.1  # after a supervisor's death, until nothing of it runs
PATIENCE_SECONDS: Final = 30.0  # on a busy machine, for what takes a moment


class Rig:
    """Used as a context: its end ends every process that it has started."""

    def __init__(self, folder: Path, *, durability: str = "power") -> None:
        self._descriptors = len(os.listdir("/proc/self/fd"))
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        for source in APPS.glob("*.py"):
            shutil.copy(source, folder)
        environment = os.environ | {MARK: str(folder), "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        self._errors = (folder / "zygote.log").open("wb")
        self._zygote = subprocess.Popen(
            [sys.executable, "zygote.py"], cwd=folder, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=self._errors, text=True,
        )  # fmt: skip
        self.mill = self._load("mill")
        self.shapes = self._load("shapes", mill=self.mill)
        self.queue = self.mill.app.queue
        self.late: list[float] = []  # seconds that processes ran on after their supervisor's death, if too many
        self.supervisor_kills = 0
        self.pruned: set[str] = set()  # jobs that may be deleted
        self.tampered: set[str] = set()  # jobs that were cancelled or retried
        self.promised: set[str] = set()
        self._tags = 0
        assert self._answer() == "ready"

    def __enter__(self) -> Rig:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._zygote.stdin.close()  # type: ignore[union-attr]  # a pipe
        self._zygote.wait(PATIENCE_SECONDS)
        self._zygote.stdout.close()  # type: ignore[union-attr]  # a pipe
        self._errors.close()
        self.queue.close()
        try:
            until(lambda: not marked(MARK, str(self.folder)), 5)  # I6
        finally:
            for pid in marked(MARK, str(self.folder)):
                os.kill(pid, signal.SIGKILL)
        if error is not None:
            return
        assert len(os.listdir("/proc/self/fd")) <= self._descriptors  # I6
        errors = (self.folder / "zygote.log").read_text()
        assert not errors, errors

    def _load(self, name: str, **modules: ModuleType) -> Any:
        """Import a module of the folder, for this rig alone."""
        spec = importlib.util.spec_from_file_location(name, self.folder / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        before = {name: sys.modules.get(name) for name in modules}
        sys.modules.update(modules)
        try:
            spec.loader.exec_module(module)
        finally:
            for other, previous in before.items():
                if previous is None:
                    del sys.modules[other]
                else:
                    sys.modules[other] = previous
        return module

    # -- processes

    def _answer(self) -> Any:
        line = self._zygote.stdout.readline()  # type: ignore[union-attr]  # a pipe
        assert line, (self.folder / "zygote.log").read_text()
        return json.loads(line)

    def fork(self, request: dict[str, Any]) -> int:
        """Fork a process; it stands still if `stops` is asked for."""
        self._zygote.stdin.write(json.dumps(request) + "\n")  # type: ignore[union-attr]  # a pipe
        self._zygote.stdin.flush()  # type: ignore[union-attr]
        pid = int(self._answer())
        if request["stops"]:
            until(lambda: state_of(pid) == "T", PATIENCE_SECONDS)
        return pid

    def worker(self, *, stops: bool = False, marks: bool = False, **options: Any) -> int:
        """Start a worker; return its process id when it is registered, unless it `stops` before it has begun."""
        options = {"concurrency": 2, "marks": marks} | options
        pid = self.fork({"do": "work", "stops": stops, "options": options})
        if not stops:
            self.await_worker(pid)
        return pid

    def await_worker(self, pid: int) -> None:
        """Wait until a worker is registered and would drain at a TERM, or has ended."""

        def is_ready() -> bool:
            if not is_running(pid):
                return True
            return catches(pid, signal.SIGTERM) and any(row.pid == pid for row in self.queue.workers())

        until(is_ready, PATIENCE_SECONDS)

    def let_go(self, pid: int, seconds: float = PATIENCE_SECONDS) -> None:
        """Let a process go that stands still, and wait for its end."""
        os.kill(pid, signal.SIGCONT)
        until(lambda: not is_running(pid), seconds)

    def kill(self, pid: int) -> None:
        """Kill a supervisor by SIGKILL, and see that nothing of it goes on."""
        beneath = below(pid)
        os.kill(pid, signal.SIGKILL)
        self.see_end(pid, beneath)

    def stop(self, pid: int) -> bool:
        """Stop a worker by SIGSTOP, unless it holds the write lock: then nobody could do anything any more."""
        try:
            os.kill(pid, signal.SIGSTOP)
        except ProcessLookupError:
            return False
        until(lambda: is_stopped(pid), PATIENCE_SECONDS)  # one of its threads may be about to take the lock
        with closing(sqlite3.connect(self.folder / "jobs.db", isolation_level=None, timeout=0.2)) as other:
            try:
                other.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError:
                os.kill(pid, signal.SIGCONT)
                return False
            other.execute("ROLLBACK")
            return True

    def see_end(self, supervisor: int, beneath: list[int]) -> None:
        """Wait for the end of a supervisor that is being killed; check that within 0.1 s nothing of it runs."""
        ends = select.poll()
        waiting = {}
        for pid in beneath:
            try:
                descriptor = os.pidfd_open(pid)
            except ProcessLookupError:
                continue
            waiting[descriptor] = pid
            ends.register(descriptor, select.POLLIN)
        try:
            own = os.pidfd_open(supervisor)
        except ProcessLookupError:
            pass
        else:
            assert select.select([own], [], [], PATIENCE_SECONDS)[0], f"{supervisor} does not die"
            os.close(own)
        died_at = time.monotonic()
        while waiting and time.monotonic() - died_at < 5:
            for descriptor, _ in ends.poll(5000):
                ends.unregister(descriptor)
                os.close(descriptor)
                del waiting[descriptor]
        took = time.monotonic() - died_at
        assert not waiting, f"processes {list(waiting.values())} run 5 s after their supervisor's death"
        self.supervisor_kills += 1
        if took > PROMISED_SECONDS:
            self.late.append(took)

    # -- jobs

    def submit(self, draw: random.Random, shape: Callable[..., Any] | None = None) -> dict[Any, int | None]:
        """Submit one shape, and promise it in the ledger."""
        shape = shape or draw.choice(self.shapes.SHAPES)
        self._tags += 1
        expected: dict[Any, int | None] = self.shapes.submit(shape, draw, f"rig/{self._tags}/{shape.__name__}")
        self.promised |= {job.id for job in expected}
        return expected

    def submit_steps(self, count: int) -> None:
        """Submit `count` plain jobs in one call, and promise them."""
        self._tags += 1
        tag = f"rig/{self._tags}/steps"
        jobs = self.mill.step.options(description=tag).map(range(count))
        self.shapes.promise(tag, {job: number + 1 for number, job in enumerate(jobs)})

    def unfinished(self) -> int:
        """Return how many jobs have not ended."""
        stats = self.queue.stats()
        return int(stats[JobState.PENDING] + stats[JobState.RUNNING])

    def drain(self, seconds: float = 60.0) -> None:
        """Have a fresh worker do all that is left, and end it as people do."""
        pid = self.worker()
        # And take what dead ones are registered for out of the table.
        until(lambda: not self.unfinished() and [row.pid for row in self.queue.workers()] == [pid], seconds)
        os.kill(pid, signal.SIGTERM)
        until(lambda: not is_running(pid), PATIENCE_SECONDS)
        assert self.queue.workers() == []

    def check(self, *, drained: bool, whole: bool = True) -> invariants.Tally:
        """Check the database against the ledgers, and that few supervisors have left something behind for long."""
        tally = invariants.check(self.folder, drained=drained, whole=whole, pruned=self.pruned, tampered=self.tampered)
        # Processors may be busy with other things for 0.1 s, but not each time.
        assert len(self.late) <= 2 + self.supervisor_kills // 10, (self.supervisor_kills, self.late)
        for log in self.folder.glob("worker-*.log"):
            text = log.read_text()
            assert "Traceback" not in text, text
        return tally
