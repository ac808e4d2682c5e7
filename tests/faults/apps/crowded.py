"""The shop's app in a process whose other threads hold, at any moment, most of the locks that there are.

The threads run where `$GIGQ_TEST_CROWD` is set: in the process that forks a worker's children, not in submitters.
"""

import importlib
import json
import logging
import os
import sys
import threading
import time
from collections.abc import Callable

from shop import add, app, note

__all__ = ["add", "app", "note"]

log = logging.getLogger("crowded")


def _log() -> None:
    log.info("a line")


def _print(size: int = 10_000) -> None:
    for stream in (sys.stdout, sys.stderr):  # each with a lock of its own
        stream.write("x" * size + "\n")
        stream.flush()


def _allocate() -> None:
    json.loads(json.dumps([{"key": "x" * 1000}]))


def _import() -> None:
    try:
        importlib.import_module("gigq_test_not_this_one")  # a module has a lock while it is looked for
    except ImportError:
        return


def _for_ever(work: Callable[[], None], pause: float) -> None:
    while True:
        work()
        time.sleep(pause)


if os.environ.get("GIGQ_TEST_CROWD"):
    # A pipe that is nearly always full: who writes to it waits, with the stream's lock held.
    reader, writer = os.pipe()
    os.dup2(writer, 1)
    os.dup2(writer, 2)
    log.setLevel(logging.INFO)
    log.propagate = False
    log.addHandler(logging.StreamHandler(sys.stderr))
    sys.setswitchinterval(0.0001)
    for work in (_log, _print, _allocate, _import, lambda: os.read(reader, 65536)):
        # Most of the time in the import system, whose locks Python does not make anew in a forked process.
        pause = 0.001 if work is _import else 0.01
        threading.Thread(target=_for_ever, args=(work, pause), daemon=True).start()


@app.task(max_attempts=1)
def use_locks_and_leave(number: int) -> None:
    """Take the locks that other threads may have had when this process was forked, then end it."""
    _log()
    _print(10)
    _allocate()
    _import()
    note("left", number)
    os._exit(0)
