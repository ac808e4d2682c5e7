"""An app whose tasks count, fail and wait. What they do can be seen from outside, in the file `ledger`."""

import hashlib
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from gigq import App, current_job

FOLDER = Path(__file__).parent

app = App()  # $GIGQ_URL


def note(*words: object) -> None:
    """Append a line that ends with the process id; one short write with O_APPEND stays whole."""
    with open(FOLDER / "ledger", "a") as ledger:
        ledger.write(" ".join(map(str, (*words, os.getpid()))) + "\n")


@app.task
def add(*numbers: int) -> int:
    note("add", *numbers)
    return sum(numbers)


@app.task
def echo(value: Any) -> Any:
    return value


@app.task(max_attempts=2, retry_delay=0)
def fail(*_: Any) -> None:
    raise ValueError("on purpose")


@app.task(max_attempts=2, retry_delay=0)
def hold(name: str, how: str = "python") -> str:
    """Begin, then wait in one of several ways until the file `name` exists; a second attempt returns at once."""
    note("begin", name)
    if current_job().attempt > 1:
        return "second"
    if how == "c":
        hashlib.pbkdf2_hmac("sha512", b"x", b"y", 1_000_000_000)
    if how == "grandchild":
        grandchild = subprocess.Popen([sys.executable, "-c", "while True: pass"])
        note("grandchild", grandchild.pid)
        grandchild.wait()
    while not (FOLDER / name).exists():
        if how != "spin":
            time.sleep(0.005)
    note("end", name)
    return "first"


@app.task(max_attempts=2, retry_delay=0)
def big(name: str, size: int) -> bytes:
    """Do as `hold`, and return `size` bytes."""
    hold.function(name, "spin")
    return bytes(size)
