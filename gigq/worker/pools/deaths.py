"""Name what ended a child, for people."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from gigq.worker.pools.slots import CHANNEL_CLOSED


def cause_of_death(status: int, farewell: int, *, out_of_memory: bool = False) -> str:
    """Return why a child ended: from its wait status and the last word it left in its slot."""
    if farewell == CHANNEL_CLOSED:
        return "the task closed gigq's descriptors, so its outcome could not be reported"
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        try:
            name = signal.Signals(number).name
        except ValueError:  # real-time signals between the first and the last have no name
            name = f"SIGRTMIN+{number - signal.SIGRTMIN}"
        text = f"killed by signal {number} ({name})"
        if number == signal.SIGKILL and out_of_memory:
            return text + ": out of memory, by the kernel's count for this control group"
        return text
    return f"exited with status {os.waitstatus_to_exitcode(status)} (the task called os._exit?)"


class OutOfMemoryCounter:
    """Tells whether the kernel has killed for want of memory in this process's control group (cgroup v2)."""

    def __init__(self) -> None:
        self._file = _events_file()
        self._seen = self._read()

    def has_risen(self) -> bool:
        """Return whether it has since the last call. Signal 9 alone does not say so: people send it too."""
        count = self._read()
        risen = count > self._seen
        self._seen = count
        return risen

    def _read(self) -> int:
        if self._file is None:
            return 0
        try:
            lines = self._file.read_text().splitlines()
        except OSError:
            return 0
        return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)


def _events_file() -> Path | None:
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return None
    group = next((line[3:] for line in lines if line.startswith("0::")), None)
    return None if group is None else Path("/sys/fs/cgroup" + group) / "memory.events"
