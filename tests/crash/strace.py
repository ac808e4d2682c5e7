"""Kill a process at its Nth call of a system call, with strace, and say from its log where that was."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections import Counter
from pathlib import Path
from typing import Final, NamedTuple

STRACE: Final = shutil.which("strace")

# What a worker, a forker, a child and a submitter call while they work; those that a machine has not are ignored.
# Memory, signals and what only asks the kernel for a number are left out.
CALLS: Final = (
    "access", "faccessat", "faccessat2", "open", "openat", "close", "read", "write", "pread64", "pwrite64",
    "lseek", "fsync", "fdatasync", "ftruncate", "fallocate", "unlink", "unlinkat", "link", "linkat", "fcntl",
    "stat", "fstat", "newfstatat", "statx", "futex", "poll", "ppoll", "select", "pselect6", "epoll_create1",
    "epoll_ctl", "epoll_wait", "epoll_pwait", "socket", "socketpair", "bind", "connect", "sendto", "sendmsg",
    "recvfrom", "recvmsg", "pipe2", "eventfd2", "memfd_create", "clone", "clone3", "fork", "vfork", "wait4", "waitid",
    "kill", "pidfd_open", "rmdir", "clock_nanosleep", "prctl", "setsid", "shutdown",
)  # fmt: skip

_CALL: Final = re.compile(r"(\d+) +(\w+)\((.*)")
_MARK: Final = re.compile(r'"/crash-mark/([^"]*)"')


class Shot(NamedTuple):
    """Where a process is to be killed: the Nth time that one of its threads enters a system call."""

    call: str
    nth: int


class Point(NamedTuple):
    """Where a process was killed: in which thread and phase, at which call and the how manieth in that phase."""

    who: str
    phase: str
    call: str
    nth: int

    def __str__(self) -> str:
        return f"{self.who}, {self.phase}: {self.call} {self.nth}"


class Trace:
    """An strace that is attached to all threads of a running process, and kills it if there is a shot."""

    def __init__(self, pid: int, who: str, log: Path, shot: Shot | None = None) -> None:
        assert STRACE is not None
        self.pid = pid
        self.shot = shot
        self._who = who
        self._log = log
        calls = ",".join(f"?{call}" for call in CALLS)
        inject = [] if shot is None else ["-e", f"inject={shot.call}:signal=KILL:when={shot.nth}"]
        threads = len(os.listdir(f"/proc/{pid}/task"))
        self._process = subprocess.Popen(
            [STRACE, *(["-f"] if threads > 1 else []), "-s", "100", "-o", str(log), "-e", f"trace={calls}", *inject,
             "-p", str(pid)],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self._process.stderr is not None
        line = self._process.stderr.readline()
        if "attached" not in line:
            self._process.kill()
            raise RuntimeError(f"strace could not attach to process {pid}: {line}{self._process.stderr.read()}")

    def end(self) -> None:
        """Wait until strace has ended, which it does when the process has."""
        assert self._process.stderr is not None
        self._process.stderr.close()
        self._process.wait(10)

    def _calls(self) -> list[tuple[str, str, str]]:
        """Return (thread, call, rest of the line) for each call that was begun."""
        lines = self._log.read_text(errors="replace").splitlines() if self._log.exists() else []
        # Without -f the lines have no number: there is one thread.
        numbered = (line if line[:1].isdigit() else f"{self.pid} {line}" for line in lines)
        return [match.groups() for line in numbered if (match := _CALL.match(line))]  # type: ignore[misc]

    def counts(self) -> Counter[str]:
        """Return how often each system call was made, by the thread that made it most often."""
        by_thread = Counter((thread, call) for thread, call, _ in self._calls())
        most: Counter[str] = Counter()
        for (_, call), count in by_thread.items():
            most[call] = max(most[call], count)
        return most

    def point(self) -> Point | None:
        """Return where the shot hit; None: the process ended without."""
        assert self.shot is not None
        made: Counter[str] = Counter()  # by thread, of the call that is shot at
        phases: dict[str, str] = {}
        in_phase: Counter[tuple[str, str]] = Counter()  # by thread and call, since the phase began
        for thread, call, rest in self._calls():
            if (mark := _MARK.search(rest)) is not None and call.startswith(
                ("access", "faccessat", "rmdir", "unlinkat")
            ):
                phases[thread] = mark[1]
                in_phase = Counter({key: count for key, count in in_phase.items() if key[0] != thread})
            in_phase[thread, call] += 1
            if call == self.shot.call:
                made[thread] += 1
                if made[thread] == self.shot.nth:
                    phase = phases.get(thread, "as it was found")
                    who = self._who if thread == str(self.pid) or self._who != "loop" else "storage thread"
                    return Point(who, phase, call, in_phase[thread, call])
        return None
