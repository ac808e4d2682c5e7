"""The process that makes children: small, with one thread, so that forking it is safe.

It loads the app once and says what it contains, then forks a child for each request, passes on signals and reports
ends. It alone may signal a child: it reaps them, so a process id that it signals is never another program's. It dies
with the supervisor, and takes the children along: their process groups by SIGKILL, also those that spin in C code.

Messages on its socket are lines of JSON. Descriptors for a child travel with its request.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import json
import os
import select
import signal
import socket
import sys
import threading
from collections.abc import Callable
from typing import Any, Final, NoReturn

from gigq.errors import TargetError
from gigq.retry import RetryPolicy
from gigq.signing import KEY_VARIABLE, Signer
from gigq.worker.child import run_child
from gigq.worker.link import Descriptors, Settings
from gigq.worker.pools.base import hello_of
from gigq.worker.source import ModuleTarget, Preparation, TaskSource, signer_of

CONTROL_FD: Final = 3  # of the socket, in an interpreter that was started for this
READ_BYTES: Final = 64 * 1024
PARENT_CHECK_SECONDS: Final = 0.05  # where the kernel has no pidfd_open (before Linux 5.3)

_PR_SET_PDEATHSIG: Final = 1  # prctl(2)
# Looked up here, before any fork: the dynamic linker has a lock that another thread may hold at the fork.
_prctl: Final = ctypes.CDLL(None).prctl
_IGNORED: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


class Forker:
    """The loop of the forker process."""

    def __init__(self, control: socket.socket, parent_pid: int, signer: Signer | None = None) -> None:
        self._control = control
        self._signer = signer
        self._parent_pid = parent_pid
        self._pid = os.getpid()
        self._parent_fd = _pidfd(parent_pid)
        self._source: TaskSource | None = None
        self._children: dict[int, int] = {}  # number: process id
        self._lines = b""
        self._fds: list[int] = []
        self._woken, self._wake = socket.socketpair()

    def serve(self, load: Callable[[], TaskSource | None]) -> None:
        """Load the app, say hello, then serve until the supervisor ends."""
        try:
            self._source = load()
            self._signer = self._signer or signer_of(self._source)
            self._say(_hello(self._source))
        except TargetError as error:
            self._say({"is": "error", "message": str(error)})
            return
        except BaseException as error:  # a module may call sys.exit while it is imported
            self._say({"is": "error", "message": f"loading the app failed: {type(error).__name__}: {error}"})
            return
        os.environ.pop(KEY_VARIABLE, None)  # programs that tasks start do not need it
        # After loading: the app's modules may have set handlers of their own.
        for sig in _IGNORED:
            signal.signal(sig, signal.SIG_IGN)
        self._wake.setblocking(False)
        self._woken.setblocking(False)
        signal.signal(signal.SIGCHLD, lambda signum, frame: None)
        signal.set_wakeup_fd(self._wake.fileno(), warn_on_full_buffer=False)
        set_death_signal(0)
        gc.collect()
        gc.freeze()  # children then share these pages instead of copying them at their first collection
        try:
            self._loop()
        except (BrokenPipeError, ConnectionResetError):  # the supervisor went while it was told something
            pass
        finally:
            self._end_children()

    def _loop(self) -> None:
        poll = select.poll()
        poll.register(self._control, select.POLLIN)
        poll.register(self._woken, select.POLLIN)
        if self._parent_fd is not None:
            poll.register(self._parent_fd, select.POLLIN)
        wait = None if self._parent_fd is not None else PARENT_CHECK_SECONDS * 1000
        while True:
            ready = {fd for fd, _ in poll.poll(wait)}
            # The end of the socket is not enough: a program that the supervisor forked may hold a copy of it.
            if self._parent_fd in ready or os.getppid() != self._parent_pid:
                return
            if self._woken.fileno() in ready:
                self._woken.recv(READ_BYTES)
                self._report_ends()
            if self._control.fileno() in ready and not self._hear():
                return

    # -- the supervisor

    def _say(self, message: dict[str, Any]) -> None:
        self._control.sendall(json.dumps(message).encode() + b"\n")

    def _hear(self) -> bool:
        try:
            data, fds, _, _ = socket.recv_fds(self._control, READ_BYTES, len(Descriptors._fields))
        except ConnectionResetError:
            return False
        if not data:
            return False
        self._fds += fds
        *lines, self._lines = (self._lines + data).split(b"\n")
        for line in lines:
            message = json.loads(line)
            if message["do"] == "spawn":
                self._spawn(message["child"], Settings(*message["settings"]))
            else:
                self._signal(message["child"], message["signal"])
        return True

    # -- children

    def _spawn(self, number: int, settings: Settings) -> None:
        if settings.slots:
            import gigq.worker.loop_child  # here, so that children share it; asyncio takes 30 ms  # noqa: F401
        count = len(Descriptors._fields)
        descriptors, self._fds = Descriptors(*self._fds[:count]), self._fds[count:]
        try:
            pid = os.fork()
        except OSError as error:  # the limit of processes, or of memory
            self._say({"is": "not forked", "child": number, "message": str(error)})
        else:
            if pid == 0:
                self._become_child(descriptors, settings)
            self._children[number] = pid
        for fd in descriptors:
            os.close(fd)

    def _become_child(self, descriptors: Descriptors, settings: Settings) -> NoReturn:
        try:
            os.setsid()
            set_death_signal(signal.SIGKILL)
            if os.getppid() != self._pid:  # it died before the line above
                os._exit(0)
            reset_signals()
            for sock in (self._control, self._woken, self._wake):
                sock.close()
            if self._parent_fd is not None:
                os.close(self._parent_fd)
            forget_unfinished_imports()
            source = self._source
            tasks, policy = ({}, RetryPolicy()) if source is None else (source.tasks, source.default_policy)
            run_child(descriptors, settings, tasks, policy, self._signer)
        finally:
            os._exit(1)

    def _signal(self, number: int, sig: int) -> None:
        pid = self._children.get(number)
        if pid is None:  # it ended, and the report is on its way
            return
        if sig == signal.SIGKILL:
            _kill_group(pid)
        else:
            os.kill(pid, sig)

    def _report_ends(self) -> None:
        for number, pid in list(self._children.items()):
            # Only gigq's own children, by number: the app may have started programs of its own.
            try:
                if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
                    continue
                # Before it is reaped: till then its number is nobody else's, and what it left behind is in its group.
                _kill_group(pid)
                _, status = os.waitpid(pid, 0)
            except ChildProcessError:  # a thread of the app's has reaped it
                status = 0
            del self._children[number]
            self._say({"is": "ended", "child": number, "status": status})

    def _end_children(self) -> None:
        for pid in self._children.values():
            with contextlib.suppress(ProcessLookupError):
                _kill_group(pid)
        for pid in self._children.values():
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)


def _kill_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):  # a new child has not made its group yet
        os.killpg(pid, signal.SIGKILL)
    os.kill(pid, signal.SIGKILL)


def _hello(source: TaskSource | None) -> dict[str, Any]:
    hello = hello_of(source)
    return {
        "is": "hello",
        "url": hello.url,
        "durability": hello.durability,
        "tasks": {name: options.policy.to_json() for name, options in hello.tasks.items()},
        "default": hello.default_policy.to_json(),
        "threads": threading.active_count(),
    }


def _pidfd(pid: int) -> int | None:
    try:
        return os.pidfd_open(pid)
    except OSError:  # an old kernel, a filter of system calls, or the process is gone: getppid tells then
        return None


def set_death_signal(sig: int) -> None:
    """Have the kernel send `sig` to this process when the thread that made it ends; 0: nothing."""
    _prctl(_PR_SET_PDEATHSIG, sig, 0, 0, 0)


def reset_signals() -> None:
    """Give every signal the handler that a fresh Python has, and block none."""
    signal.set_wakeup_fd(-1)
    for sig in signal.valid_signals():
        if sig in (signal.SIGKILL, signal.SIGSTOP, signal.SIGPIPE, signal.SIGXFSZ):
            continue  # the last two are ignored by Python, which raises an OSError instead
        try:
            signal.signal(sig, signal.SIG_DFL)
        except OSError:  # the C library keeps some for itself
            continue
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def forget_unfinished_imports() -> None:
    """Let this process import what another thread was importing when it was forked.

    Python makes the locks of the import system, of logging and of the standard streams anew in a forked process, but
    not the one that each module has while it is imported: whoever imported it here would wait for ever for a thread
    that does not exist. This thread imports nothing while it forks, so whatever is unfinished is somebody else's.
    """
    for name, module in list(sys.modules.items()):
        if getattr(getattr(module, "__spec__", None), "_initializing", False):
            del sys.modules[name]
    getattr(importlib, "_bootstrap").__dict__.get("_module_locks", {}).clear()  # noqa: B009  # no checker knows it


def run_forked(control: socket.socket, parent_pid: int, source: TaskSource, signer: Signer | None) -> NoReturn:
    """Be the forker in a process just forked from the supervisor."""
    try:
        reset_signals()
        for sig in _IGNORED:
            signal.signal(sig, signal.SIG_IGN)
        os.setsid()  # a terminal's Ctrl-C is for the supervisor, which ends children when it wants to
        Forker(control, parent_pid, signer).serve(lambda: source)
    except (BrokenPipeError, ConnectionResetError):  # the supervisor has gone
        pass
    except BaseException:  # it must not go on in the program that it was forked from
        import traceback

        traceback.print_exc()
    finally:
        os._exit(0)


def main() -> None:
    """Be the forker in an interpreter of its own: `python -m gigq.worker.forker`."""
    for sig in _IGNORED:
        signal.signal(sig, signal.SIG_IGN)
    os.setsid()
    set_death_signal(signal.SIGKILL)  # while importing, nothing watches the socket
    control = socket.socket(fileno=CONTROL_FD)
    control.set_inheritable(False)
    with control.makefile("rb", buffering=0) as stream:
        settings = json.loads(stream.readline())
    if os.getppid() != settings["parent"]:
        return
    target = settings["target"]
    if "" not in sys.path and os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())  # for functions that were pickled by the name of a module
    if settings["key variable"] is not None:
        os.environ[KEY_VARIABLE] = settings["key variable"]  # for the app; what /proc shows stays as it was
    signer = None if settings["keys"] is None else Signer.of(settings["keys"])

    def load() -> TaskSource | None:
        source = ModuleTarget(*target).load() if target else None
        if settings["prepare"]:
            Preparation(*settings["prepare"])()
        return source

    try:
        Forker(control, settings["parent"], signer).serve(load)
    except (BrokenPipeError, ConnectionResetError):  # the supervisor has gone
        pass
    finally:
        sys.stdout.flush()
        os._exit(0)  # what the app registered for its end is not for this process


if __name__ == "__main__":
    main()
