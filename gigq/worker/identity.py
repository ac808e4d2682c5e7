"""Who a worker is: enough to tell later, from another process of the same host, whether it still lives."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

from gigq.storage.rows import WorkerRow


def host() -> str:
    """Return a text that is the same for processes which see the same process ids: boot id and pid namespace."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return socket.gethostname()


def process_started(pid: int) -> int | None:
    """Return the kernel's start time of a process, in its ticks; None if there is no such process."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    state, *fields = stat.rpartition(")")[2].split()
    return None if state in "ZX" else int(fields[18])


def is_gone(worker: WorkerRow, own_host: str, started: Callable[[int], int | None] = process_started) -> bool:
    """Return whether a worker's process has ended, as far as a process of `own_host` can know."""
    if worker.host != own_host or worker.pid_started is None:
        return False
    return started(worker.pid) != worker.pid_started
