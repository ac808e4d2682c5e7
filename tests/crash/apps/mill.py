"""An app whose jobs have known results, and note in the file `starts` that they start and end."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from gigq import App, current_job

FOLDER = Path(__file__).parent

app = App(
    FOLDER / "jobs.db",
    durability=os.environ.get("CRASH_DURABILITY", "power"),  # type: ignore[arg-type]  # it checks by itself
    max_attempts=1000,
    retry_delay=0,
)


def mark(text: str) -> None:
    """Show `text` among this process's system calls. It does nothing else."""
    os.access("/crash-mark/" + text, 0)


def note(*words: object) -> None:
    """Append a line; one short write with O_APPEND stays whole, and the file's order is the order of events."""
    descriptor = os.open(FOLDER / "starts", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, (" ".join(map(str, words)) + "\n").encode())
    finally:
        os.close(descriptor)


def mark_committed(text: str) -> None:
    """Do as `mark`, by a call that a worker makes for nothing else, so that it can be shot at just there."""
    with suppress(OSError):
        os.rmdir("/crash-mark/" + text)  # neither that folder nor its parent exists


@contextmanager
def seen() -> Iterator[int]:
    """Note the start and, if nothing is raised, the end of the attempt, whose number is given."""
    job = current_job()
    mark("task")
    note("start", job.id, job.attempt)
    yield job.attempt
    note("end", job.id, job.attempt)
    mark("after the task")


@app.task
def step(number: int, how: str = "plain") -> int:
    """Return the next number, in one of several ways."""
    with seen() as attempt:
        if how == "flaky" and attempt == 1:
            raise ValueError("on purpose, the first time")
        if how == "c":  # no signal handler of Python's runs meanwhile
            hashlib.pbkdf2_hmac("sha512", b"x", b"y", 20_000)
        if how == "grandchild":
            pid = os.posix_spawn("/bin/sleep", ["sleep", "0.02"], os.environ)
            note("grandchild", pid)
            os.waitpid(pid, 0)
    return number + 1


@app.task
def total(numbers: Sequence[int]) -> int:
    """Return the sum."""
    with seen():
        return sum(numbers)


@app.task(max_attempts=2)
def fail(number: int) -> int:
    """Fail, always."""
    with seen():
        raise ValueError(f"{number} on purpose")


@app.task
def nothing(number: int) -> int:
    """Do as little as there can be."""
    return number + 1
