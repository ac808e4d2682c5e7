"""Tasks that are hostile by accident, beside those of the shop."""

import atexit
import ctypes
import faulthandler
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from shop import add, app, echo, fail, hold, note

__all__ = ["add", "app", "echo", "fail", "hold", "note"]

twice = app.task(max_attempts=2, retry_delay=0)


class MyExit(SystemExit):
    pass


class NeedsTwo(Exception):
    """Pickles, and cannot be unpickled: its constructor wants more than `args` has."""

    def __init__(self, one: str, two: str) -> None:
        super().__init__(one)
        self.two = two


class Loads:
    """Calls a function when it is unpickled. May be the function of a job itself."""

    def __init__(self, function: Callable[..., Any], *args: Any) -> None:
        self.call = function, args

    def __call__(self) -> None:
        raise AssertionError("it was never unpickled")

    def __reduce__(self) -> Any:
        return self.call


def _die_without_a_core(die: Callable[[], Any]) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    faulthandler.disable()
    die()


@twice
def os_exit() -> None:
    os._exit(3)


@twice
def sys_exit() -> None:
    sys.exit("bye")


@twice
def exit_subclass() -> None:
    raise MyExit(4)


@twice
def keyboard_interrupt() -> None:
    raise KeyboardInterrupt


@twice
def real_interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(10)


@twice
def segfault() -> None:
    _die_without_a_core(lambda: ctypes.string_at(0))


@twice
def abort() -> None:
    _die_without_a_core(os.abort)


@twice
def recurse() -> None:
    recurse()


@twice
def kill_itself() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@twice
def close_everything() -> None:
    os.closerange(0, 65536)


@twice
def write_rubbish() -> None:
    for fd in range(3, 1100):
        try:
            os.set_blocking(fd, False)
            os.write(fd, b"rubbish" * 10)
        except OSError:
            continue


@app.task
def unpicklable() -> Any:
    note("unpicklable")
    return threading.Lock()


@twice
def needs_two() -> None:
    raise NeedsTwo("first", "second")


@app.task
def ignore_term(name: str) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    note(name)
    while True:
        try:
            time.sleep(100)
        except BaseException:
            continue


@app.task
def leave_behind() -> None:
    """Return, and leave what keeps an ordinary process from ending."""
    atexit.register(time.sleep, 1000)
    threading.Thread(target=time.sleep, args=(1000,)).start()
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(1000)"
    note("left", subprocess.Popen([sys.executable, "-c", code]).pid)


@app.task
def make_bytes(size: int) -> bytes:
    note("make_bytes")
    return bytes(size)


@app.task
def flood(descriptor: int, chunks: int) -> None:
    """Write `chunks` MiB to standard output or standard error, as `print` does, below it."""
    stream = {1: sys.stdout, 2: sys.stderr}[descriptor].buffer
    chunk = b"x" * (1 << 20)
    for _ in range(chunks):
        stream.write(chunk)


@app.task(max_attempts=1)
def run_out_of_memory() -> None:
    before = resource.getrlimit(resource.RLIMIT_AS)
    with open("/proc/self/statm") as sizes:
        used = int(sizes.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 50_000_000, before[1]))
    hoard = []
    try:
        while True:
            hoard.append(bytearray(1_000_000))
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


@app.task
def change_everything() -> int:
    """Change all of the process that a task can, and put nothing back."""
    import locale
    import multiprocessing
    import threading

    os.chdir("/")
    os.environ.clear()
    os.umask(0o777)
    locale.setlocale(locale.LC_ALL, "C")
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        try:
            signal.signal(number, signal.SIG_IGN)
        except OSError:  # the C library keeps some for itself
            continue
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT, signal.SIGUSR1})
    multiprocessing.set_start_method("spawn", force=True)
    threading.stack_size(64 * 1024)
    sys.setrecursionlimit(200)
    sys.path.clear()
    return os.getpid()
