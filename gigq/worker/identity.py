"""Who a worker is: enough to tell later, from another process of the same host, whether it still lives."""

from __future__ import annotations

import os
import socket
from pathlib import Path


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
