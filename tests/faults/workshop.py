"""A folder with an app, its database and real workers, and what is checked after every fault."""

from __future__ import annotations

import importlib
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from processes import is_running, is_stopped, marked, state_of, until

from gigq import Job, JobQueue, JobState
from gigq.storage.sqlite.consistency import inconsistencies
from gigq.storage.urls import sqlite_path

__all__ = ["Worker", "Workshop", "attempts", "causes", "is_running", "state_of", "until"]

APPS = Path(__file__).parent / "apps"
MARK = "GIGQ_FAULTS_FOLDER"  # in the environment of all processes that a workshop starts, and of what they start


class Worker(subprocess.Popen[bytes]):
    """A `gigq worker` process; what it logs goes to a file, so that it never waits for a reader."""

    log_path: Path

    @property
    def log(self) -> str:
        return self.log_path.read_text()


class Workshop:
    """Everything of one test, or of several that share a worker."""

    def __init__(self, folder: Path, url: str | None = None) -> None:
        self.folder = folder
        self.queue = JobQueue(url or folder / "jobs.db")
        self.path = sqlite_path(self.queue.url)
        self.workers: list[Worker] = []
        self._opened = [self.queue]
        for source in APPS.glob("*.py"):
            shutil.copy(source, folder)
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("GIGQ_")}
        self.environment |= {"GIGQ_URL": self.queue.url, MARK: str(folder)}

    # -- programs

    def load(self, name: str) -> Any:
        """Import a module of the folder here, as the program that submits does."""
        before = os.environ.get("GIGQ_URL")
        os.environ["GIGQ_URL"] = self.queue.url
        sys.path.insert(0, str(self.folder))
        self._forget_modules()
        importlib.invalidate_caches()
        try:
            module: ModuleType = importlib.import_module(name)
        finally:
            sys.path.remove(str(self.folder))
            self._forget_modules()
            if before is None:
                del os.environ["GIGQ_URL"]
            else:
                os.environ["GIGQ_URL"] = before
        self._opened.append(module.app.queue)
        return module

    def _forget_modules(self) -> None:
        for source in APPS.glob("*.py"):  # the next workshop has its own
            sys.modules.pop(source.stem, None)

    def start(self, *arguments: str, log: str = "output", stdin: int = subprocess.DEVNULL) -> Worker:
        """Start `python ARGUMENTS` in the folder."""
        log_path = self.folder / f"{log}-{len(self.workers)}"
        with log_path.open("wb") as file:
            worker = Worker(
                [sys.executable, *arguments], cwd=self.folder, env=self.environment, stdin=stdin,
                stdout=file, stderr=file,
            )  # fmt: skip
        worker.log_path = log_path
        self.workers.append(worker)
        return worker

    def work(
        self, target: str = "shop:app", *options: str, concurrency: int = 2, scaled: bool = False,
        program: tuple[str, ...] = ("-m", "gigq"),
    ) -> Worker:  # fmt: skip
        """Start a worker and wait until it has registered; `scaled`: its leases and waits are a tenth as long."""
        program = ("scaled.py",) if scaled else program
        worker = self.start(*program, "worker", target, "-c", str(concurrency), *options, log="worker")
        until(lambda: any(row.pid == worker.pid for row in self.queue.workers()) or worker.poll() is not None)
        assert worker.poll() is None, worker.log
        return worker

    def run(self, *arguments: str, stdin: str | None = None) -> str:
        """Run `python ARGUMENTS` in the folder to its end and return what it printed."""
        done = self.try_to_run(*arguments, stdin=stdin)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def try_to_run(self, *arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run `python ARGUMENTS` in the folder to its end, whatever that is."""
        return subprocess.run(
            [sys.executable, *arguments], cwd=self.folder, env=self.environment, input=stdin, capture_output=True,
            text=True, timeout=60, check=False,
        )  # fmt: skip

    # -- what can be seen from outside

    def lines(self, *words: str) -> list[list[str]]:
        """Return what tasks have noted, of the lines that begin with `words`; the process id stands last."""
        ledger = self.folder / "ledger"
        lines = [line.split() for line in ledger.read_text().splitlines()] if ledger.exists() else []
        return [line for line in lines if line[: len(words)] == list(words)]

    def pid_of(self, *words: str) -> int:
        """Wait for a note that begins with `words`; return the process id in it."""
        until(lambda: self.lines(*words))
        return int(self.lines(*words)[0][-1])

    def let_go(self, name: str) -> None:
        """Let the tasks end that wait for `name`."""
        (self.folder / name).touch()

    def processes(self) -> set[int]:
        """Return the running processes that were started here, at whatever distance."""
        return marked(MARK, str(self.folder))

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the database's write lock, as another program would."""
        with closing(sqlite3.connect(self.path, isolation_level=None, timeout=10)) as other:
            other.execute("BEGIN IMMEDIATE")
            yield
            other.execute("ROLLBACK")

    def stop(self, worker: Worker) -> None:
        """Stop a worker by SIGSTOP, at a moment when it does not hold the database's lock."""
        while True:
            worker.send_signal(signal.SIGSTOP)
            until(lambda: is_stopped(worker.pid))
            with closing(sqlite3.connect(self.path, isolation_level=None, timeout=0)) as other:
                try:
                    other.execute("BEGIN IMMEDIATE")
                except sqlite3.OperationalError:
                    worker.send_signal(signal.SIGCONT)
                    continue
                other.execute("ROLLBACK")
                return

    # -- the end

    def close(self) -> None:
        """End all workers; check that nothing is left of them, and what they left in the database."""
        try:
            for worker in self.workers:
                if worker.poll() is None:
                    worker.send_signal(signal.SIGCONT)
                    worker.send_signal(signal.SIGQUIT)
            for worker in self.workers:
                worker.wait(10)
            until(lambda: not self.processes(), 2)  # I6
            self.check_database()
        finally:
            for pid in self.processes():
                os.kill(pid, signal.SIGKILL)
            for queue in self._opened:
                queue.close()

    def check_database(self) -> None:
        """Check I2, I3 and I5, whatever has happened."""
        self.queue.stats()  # makes the tables, if nobody has
        with closing(sqlite3.connect(self.path)) as database:
            assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            assert list(inconsistencies(database)) == []
            successes = Counter(
                job_id for (job_id,) in database.execute("SELECT job_id FROM job_executions WHERE state = 'COMPLETED'")
            )
            for job_id, state, attempts, max_attempts in database.execute(
                "SELECT id, state, attempts, max_attempts FROM jobs"
            ):
                assert attempts <= max_attempts
                assert successes[job_id] == (state == "COMPLETED")


def attempts(job: Job[Any]) -> list[JobState]:
    """Return how the attempts of a job ended."""
    return [execution.state for execution in job.executions]


def causes(job: Job[Any]) -> list[str]:
    """Return why the attempts of a job ended, as they are stored."""
    return [execution.error or "" for execution in job.executions]
