"""How many processors this process may really use."""

from __future__ import annotations

import os
from pathlib import Path


def usable_cpus() -> int:
    """Return the processors that affinity and the cgroup's quota leave to this process, at least 1."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
    except (OSError, ValueError):
        return count
    return count if quota == "max" else max(1, min(count, int(quota) // int(period)))
