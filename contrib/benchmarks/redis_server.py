"""A Redis of the benchmark's own, without persistence, on a port that is free."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

import process_tree

START_SECONDS = 10.0
PROGRAM = "redis-server"


class RedisError(RuntimeError):
    """The server did not start or did not answer."""


def is_installed() -> bool:
    return shutil.which(PROGRAM) is not None


def version() -> str:
    """Return its version, as in 7.0.15."""
    said = subprocess.run([PROGRAM, "--version"], stdout=subprocess.PIPE, text=True, check=True, timeout=10).stdout
    return next((word[2:] for word in said.split() if word.startswith("v=")), "?")


class RedisServer:
    """Runs while its context lasts."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.port = 0
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where it listens, without the number of a database."""
        return f"redis://127.0.0.1:{self.port}"

    def __enter__(self) -> RedisServer:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        command = [PROGRAM, "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        self._process = process_tree.start(command, self._folder, os.environ, "redis.log")
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                self.flush()
                return self
            except OSError as error:
                if time.monotonic() > deadline or self._process.poll() is not None:
                    self.__exit__()
                    log = (self._folder / "redis.log").read_text()
                    raise RedisError(f"{PROGRAM} did not start on port {self.port}\n{log}") from error
                time.sleep(0.01)

    def __exit__(self, *exception: object) -> None:
        if self._process is not None:
            process_tree.kill_tree(self._process)

    def flush(self) -> None:
        """Delete everything."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=START_SECONDS) as connection:
            connection.sendall(b"FLUSHALL SYNC\r\n")
            answer = connection.recv(100)
            if not answer.startswith(b"+OK"):
                raise RedisError(f"FLUSHALL: {answer!r}")
