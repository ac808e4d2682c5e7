"""The supervisor's side of the forker: start it, ask it for children, hear of their ends."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import sys
import time
import warnings
from collections.abc import Sequence
from typing import Any, Final

from gigq.errors import TargetError, WorkerError
from gigq.retry import RetryPolicy
from gigq.signing import KEY_VARIABLE, Signer
from gigq.worker.pools.base import Hello, TaskOptions
from gigq.worker.source import ModuleTarget, Preparation, TaskSource

READ_BYTES: Final = 64 * 1024
END_SECONDS: Final = 5.0  # for the forker to kill and reap its children; it takes milliseconds

# The folder that gigq was imported from comes last: an installed one wins, and one that is not is found all the same.
_PROGRAM: Final = "import sys; sys.path.append({folder!r}); from gigq.worker.forker import main; main()"


class ForkerLink:
    """A running forker process, and the socket to it."""

    def __init__(
        self,
        source: TaskSource | ModuleTarget | None,
        signer: Signer | None = None,
        preparation: Preparation | None = None,
    ) -> None:
        """Start a forker. `signer` goes before what the source, or the environment, has.

        `preparation` is for a fresh interpreter: a forked one has what this process has.

        Raises:
            WorkerError: there is no process or no descriptor left for it.
        """
        try:
            self._start(source, signer, preparation)
        except OSError as error:
            raise WorkerError(f"the process that forks children cannot be started: {error}") from error

    def _start(
        self, source: TaskSource | ModuleTarget | None, signer: Signer | None, preparation: Preparation | None
    ) -> None:
        ours, theirs = socket.socketpair()
        self._socket = ours
        self._data = b""
        self.is_ended = False
        self.started_at = time.monotonic()
        try:
            if source is None or isinstance(source, ModuleTarget):
                self.pid = _spawn(theirs, "" if source is None else str(source))
                start = {
                    "parent": os.getpid(),
                    "target": None if source is None else list(source),
                    "keys": None if signer is None else signer.keys(),
                    "key variable": os.environ.get(KEY_VARIABLE),
                    "prepare": preparation,
                }
                ours.sendall(json.dumps(start).encode() + b"\n")
            else:
                self.pid = _fork(theirs, source, ours, signer)
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        ours.setblocking(False)

    def fileno(self) -> int:
        """Return the descriptor that is readable when `receive` has something."""
        return self._socket.fileno()

    def hello(self) -> Hello:
        """Wait for the app to be loaded.

        Raises:
            TargetError: it cannot be.
        """
        while not (messages := self.receive()):
            if self.is_ended:
                raise TargetError("the process that loads the app died meanwhile")
            poll = select.poll()
            poll.register(self._socket, select.POLLIN)
            poll.poll()
        return read_hello(messages[0])

    def receive(self) -> list[dict[str, Any]]:
        """Return the messages that have come; after the end of the forker, `is_ended` is True."""
        try:
            data = self._socket.recv(READ_BYTES)
        except BlockingIOError:
            return []
        except ConnectionError:
            data = b""
        if not data:
            self.is_ended = True
        *lines, self._data = (self._data + data).split(b"\n")
        return [json.loads(line) for line in lines]

    def send(self, message: dict[str, Any], fds: Sequence[int] = ()) -> None:
        """Ask for something. If the forker cannot be reached, `is_ended` is True afterwards."""
        line = json.dumps(message).encode() + b"\n"
        try:
            sent = socket.send_fds(self._socket, [line], fds) if fds else self._socket.send(line)
        except OSError:
            sent = 0
        if sent < len(line):  # it does not read, so it is stopped or dead
            self.is_ended = True

    def close(self) -> None:
        """Let go of the socket in a process that this one has forked; the forker notices nothing."""
        self._socket.close()

    def end(self, patience: float = END_SECONDS) -> None:
        """Have the forker kill all children and end, and wait for that: by force after `patience` seconds."""
        # Not close: a program forked from this one may hold a copy of the socket.
        with contextlib.suppress(OSError):  # it has ended already
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        deadline = time.monotonic() + patience
        pause = 0.0005
        while not self._is_reaped():
            if time.monotonic() > deadline:
                os.kill(self.pid, signal.SIGKILL)
                deadline = float("inf")
            time.sleep(pause)
            pause = min(pause * 2, 0.02)

    def _is_reaped(self) -> bool:
        try:
            return os.waitpid(self.pid, os.WNOHANG)[0] != 0
        except ChildProcessError:  # reaped by a handler of the program's own
            return True


def _spawn(theirs: socket.socket, label: str) -> int:
    from gigq.worker.forker import CONTROL_FD

    folder = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
    return os.posix_spawn(
        sys.executable,
        # The last two are for `ps`.
        [sys.executable, *interpreter_options(), "-c", _PROGRAM.format(folder=folder), "gigq-forker", label],
        # Without the key: whoever may look at the processes of this user reads /proc/*/environ. It goes by the socket.
        {name: value for name, value in os.environ.items() if name != KEY_VARIABLE},
        file_actions=[(os.POSIX_SPAWN_DUP2, theirs.fileno(), CONTROL_FD)],
        setsigmask=(),
    )


_LETTERS: Final = {  # of the flags that change how code runs
    "bytes_warning": "b",
    "dont_write_bytecode": "B",
    "ignore_environment": "E",
    "isolated": "I",
    "no_site": "S",
    "no_user_site": "s",
    "optimize": "O",
    "safe_path": "P",
}


def interpreter_options() -> list[str]:
    """Return the options that give a new interpreter the behaviour of this one, such as `-O` and `-X dev`."""
    flags = (f"-{letter * int(getattr(sys.flags, name))}" for name, letter in _LETTERS.items())
    options = [flag for flag in flags if flag != "-"]
    options += [f"-W{option}" for option in sys.warnoptions]
    options += [f"-X{name}" if value is True else f"-X{name}={value}" for name, value in sys._xoptions.items()]
    return options


def _fork(theirs: socket.socket, source: TaskSource, ours: socket.socket, signer: Signer | None) -> int:
    from gigq.worker.forker import run_forked

    parent = os.getpid()
    for stream in (sys.stdout, sys.stderr):
        if stream is not None and not stream.closed:
            stream.flush()  # or the children print it again
    # No signal between the fork and the moment when this program's handlers are off in the new process.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        with warnings.catch_warnings():
            # Python 3.12 warns of locks that other threads hold at this moment. The forker takes none but those of the
            # interpreter and of gigq, which are made anew in a forked process.
            warnings.simplefilter("ignore", DeprecationWarning)
            pid = os.fork()
        if pid == 0:
            ours.close()
            run_forked(theirs, parent, source, signer)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    return pid


def read_hello(message: dict[str, Any]) -> Hello:
    """Return what the forker said of the app.

    Raises:
        TargetError: it could not load it.
    """
    if message["is"] == "error":
        raise TargetError(message["message"])
    if message["threads"] > 1:
        import logging

        logging.getLogger("gigq.worker").warning(
            "the app's modules started %d threads while they were imported; children are forked and do not have them",
            message["threads"] - 1,
        )
    tasks = {name: TaskOptions(RetryPolicy.from_json(policy)) for name, policy in message["tasks"].items()}
    return Hello(message["url"], message["durability"], tasks, RetryPolicy.from_json(message["default"]))


def check_platform() -> None:
    """Raise WorkerError where children cannot be forked."""
    missing = [name for name in ("fork", "memfd_create", "posix_spawn") if not hasattr(os, name)]
    if missing:
        raise WorkerError(
            f'a pool of processes needs os.{missing[0]}, which this system does not have: use pool="thread"'
        )
