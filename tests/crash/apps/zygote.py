"""Forks workers and submitters, on request: an interpreter for each would take most of the time of a kill.

Requests and answers are lines of JSON. What is forked stands still by SIGSTOP until the requester lets it go.
"""

from __future__ import annotations

import json
import logging
import os
import random
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import mill
import shapes

import gigq.worker.worker  # what a worker imports when it starts, once for all
from gigq.storage.leases import Outcome
from gigq.storage.sqlite import SqliteStorage
from gigq.storage.sqlite.connection import Database
from gigq.worker import peers, writer
from gigq.worker.forker import _prctl, set_death_signal
from gigq.worker.pools.process import ProcessPool

mark, mark_committed = mill.mark, mill.mark_committed

PR_SET_PTRACER, ANY = 0x59616D61, -1  # prctl(2)


def mark_phases() -> None:
    """Have a worker show among its system calls what it is doing."""

    def wrap(owner: type, name: str, before: Callable[..., str], after: Callable[..., str]) -> None:
        function = getattr(owner, name)

        def marked(self: Any, *args: Any, **options: Any) -> Any:
            mark(before(self, *args))
            try:
                return function(self, *args, **options)
            finally:
                mark(after(self))

        setattr(owner, name, marked)

    verb = "start"  # of this process's only storage thread; the loop's thread uses the storage before that one starts

    def enter(name: str) -> Callable[..., str]:
        def say(self: Any, *args: Any) -> str:
            nonlocal verb
            verb = name
            if name == "finish":
                outcomes: list[Outcome] = args[1]
                verb = "finish" if outcomes else "claim"
            return f"{verb}: begin"

        return say

    for name in ("finish", "rescue", "register", "unregister", "heartbeat", "workers", "unfinished"):
        wrap(SqliteStorage, name, enter(name), lambda self: "storage idle")
    write = Database.write

    def marked_write(self: Database, work: Callable[[Any], Any]) -> Any:
        def marked_work(db: Any) -> Any:
            mark(f"{verb}: statements")
            result = work(db)
            mark(f"{verb}: commit")
            return result

        result = write(self, marked_work)
        mark_committed(f"{verb}: committed")
        return result

    Database.write = marked_write  # type: ignore[method-assign]

    def loop(pool: ProcessPool) -> str:
        return "loop, idle" if pool.is_idle() else "loop, jobs out"

    wrap(ProcessPool, "give", lambda *_: "hand out", loop)
    wrap(ProcessPool, "events", lambda *_: "collect", loop)
    wrap(ProcessPool, "tend", lambda *_: "tend", loop)
    wrap(ProcessPool, "recall", lambda *_: "recall", loop)


def work(options: dict[str, Any]) -> None:
    log = os.open(f"worker-{os.getpid()}.log", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.dup2(log, 1)
    os.dup2(log, 2)
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.INFO)
    lease = options.pop("lease", None)
    writer.PEERS_SECONDS = 0.05
    if lease is not None:  # as long as it is, unless the schedule wants to wait for its end
        peers.LEASE_SECONDS, peers.STEP_AT_MOST_SECONDS, writer.HEARTBEAT_SECONDS = lease, lease / 3, lease / 10
    if options.pop("marks"):
        mark_phases()
    mill.app.worker(**options)


def serve() -> None:
    gigq.worker.worker.log.setLevel(logging.INFO)
    print(json.dumps("ready"), flush=True)
    for line in sys.stdin:
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG) != (0, 0):
                pass
        request = json.loads(line)
        pid = os.fork()
        if pid == 0:
            become(request)
        print(json.dumps(pid), flush=True)


def become(request: dict[str, Any]) -> None:
    status = 1
    try:
        set_death_signal(signal.SIGKILL)  # nothing is left behind when the requester dies
        os.dup2(os.open(os.devnull, os.O_RDWR), 0)
        os.dup2(0, 1)
        _prctl(PR_SET_PTRACER, ANY, 0, 0, 0)  # strace is no parent of it, and some systems ask for more than that
        if request["stops"]:
            os.kill(os.getpid(), signal.SIGSTOP)
        if request["do"] == "work":
            work(request["options"])
        else:
            shapes.submit_all(random.Random(request["seed"]), request["name"])
        status = 0
    finally:
        if status:
            sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]
            sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    serve()
