"""Processes that a benchmark starts: what they cost, and their end by their ids."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

MARK = "BENCH_MARK"
GONE_SECONDS = 10.0  # within which a killed process must be gone
PUT_OFF = frozenset({signal.SIGALRM, signal.SIGINT, signal.SIGTERM})


class ProcessesLeft(RuntimeError):
    """Something outlived SIGKILL."""


class Process(NamedTuple):
    """A process, safe from another one that gets its number later."""

    pid: int
    started: int  # clock ticks since boot


def start(
    command: Sequence[str], folder: Path, environment: Mapping[str, str], log: str, *, piped: bool = False
) -> subprocess.Popen[bytes]:
    """Start a program in a session of its own; what it prints goes to the file `log` of its folder.

    With `piped`, its standard input and output are pipes, and only its errors go to the file.
    """
    with open(folder / log, "ab") as output:
        return subprocess.Popen(
            list(command),
            cwd=folder,
            env=dict(environment),
            stdin=subprocess.PIPE if piped else subprocess.DEVNULL,
            stdout=subprocess.PIPE if piped else output,
            stderr=output,
            start_new_session=True,
            preexec_fn=_unblock,  # a child inherits what its parent blocks
        )


def _unblock() -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, PUT_OFF)


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Put off to the end of the block what signals raise: time limits, and somebody's wish to stop."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, PUT_OFF)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def tree(pid: int) -> list[Process]:
    """Return a process and all its descendants, parents first."""
    children: dict[int, list[Process]] = {}
    found: list[Process] = []
    for entry in os.listdir("/proc"):
        if entry.isdigit() and (stat := _stat(int(entry))) is not None:
            process = Process(int(entry), int(stat[19]))
            children.setdefault(int(stat[1]), []).append(process)
            if process.pid == pid:
                found.append(process)
    for process in found:
        found += children.get(process.pid, [])
    return found


def _stat(pid: int) -> list[str] | None:
    """Return the fields of /proc/PID/stat from the third on: state, parent, …; None if there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None


def runs(process: Process) -> bool:
    """Return whether it still does (a zombie does not)."""
    stat = _stat(process.pid)
    return stat is not None and int(stat[19]) == process.started and stat[0] not in "ZX"


def send(processes: Iterable[Process], number: signal.Signals) -> None:
    """Send a signal to those that still run."""
    for process in processes:
        if runs(process):
            with contextlib.suppress(ProcessLookupError):  # it has just ended
                os.kill(process.pid, number)


def kill_tree(process: subprocess.Popen[bytes]) -> None:
    """Kill a program and all that it started, which nobody needs any more: its folder is thrown away."""
    doomed: list[Process] = []
    while True:  # stopped first, so that nothing is forked behind our back
        found = [one for one in tree(process.pid) if one not in doomed]
        if not found:
            break
        send(found, signal.SIGSTOP)
        doomed += found
    send(doomed, signal.SIGKILL)
    process.wait()
    _wait_until_gone(doomed)


def kill_marked(mark: str) -> None:
    """Kill every process in whose environment the variable MARK is `mark`: those whose parents died before them."""
    wanted = f"{MARK}={mark}".encode()
    while found := [process for process in _all() if process.pid != os.getpid() and wanted in _environment(process)]:
        send(found, signal.SIGKILL)
        _wait_until_gone(found)


def _all() -> list[Process]:
    stats = {int(entry): _stat(int(entry)) for entry in os.listdir("/proc") if entry.isdigit()}
    return [Process(pid, int(stat[19])) for pid, stat in stats.items() if stat is not None and stat[0] not in "ZX"]


def _environment(process: Process) -> list[bytes]:
    try:
        return Path(f"/proc/{process.pid}/environ").read_bytes().split(b"\0")
    except OSError:  # it has ended, or is somebody else's
        return []


def _wait_until_gone(doomed: Iterable[Process]) -> None:
    deadline = time.monotonic() + GONE_SECONDS
    while left := [one for one in doomed if runs(one)]:
        if time.monotonic() > deadline:
            raise ProcessesLeft(f"still there {GONE_SECONDS:g} s after SIGKILL: {left}")
        time.sleep(0.002)


def cpu_seconds(processes: Iterable[Process]) -> float:
    """Return the processor time of processes, to the nanosecond: /proc/PID/stat counts hundredths of a second."""
    total = 0.0
    for process in processes:
        with contextlib.suppress(OSError):  # it has ended
            total += time.clock_gettime(~process.pid << 3 | 2)  # the clock's id, as clock_getcpuclockid(3) makes it
    return total


def busy_share(seconds: float) -> float:
    """Return which part of all processors was used, by whomever, while this waited."""
    before = _ticks()
    time.sleep(seconds)
    used, idle = (after - earlier for after, earlier in zip(_ticks(), before, strict=True))
    return used / max(1, used + idle)


def _ticks() -> tuple[int, int]:
    """Return the time that all processors together were used, and idle."""
    first = Path("/proc/stat").read_text().partition("\n")[0]
    user, nice, system, idle, iowait, irq, softirq, steal, *_ = (int(word) for word in first.split()[1:])
    return user + nice + system + irq + softirq + steal, idle + iowait


def resident_bytes(process: Process) -> int:
    """Return the memory that a process has in RAM, shared pages among it; 0 if it has ended."""
    try:
        status = Path(f"/proc/{process.pid}/status").read_text()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmRSS")), 0)
