"""How many processors this process may really use."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path


def usable_cpus(proc: Path = Path("/proc/self"), cgroups: Path = Path("/sys/fs/cgroup")) -> int:
    """Return the processors that affinity and the control groups' quotas leave to this process, at least 1.

    Quotas are those of the process's own group and of all groups around it, in both versions of control groups
    (https://docs.kernel.org/admin-guide/cgroup-v2.html and https://docs.kernel.org/scheduler/sched-bwc.html). A
    container usually sees its own group as the root.
    """
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([count, *_quotas(proc, cgroups)]))


def _quotas(proc: Path, cgroups: Path) -> Iterator[int]:
    try:
        lines = (proc / "cgroup").read_text().splitlines()
    except OSError:  # not Linux
        return
    for line in lines:
        _, controllers, group = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        hierarchy = cgroups / controllers
        parts = [part for part in group.split("/") if part not in ("", "..")]
        for depth in range(len(parts) + 1):
            quota = _quota(hierarchy.joinpath(*parts[:depth]), is_second=not controllers)
            if quota is not None:
                yield quota


def _quota(group: Path, *, is_second: bool) -> int | None:
    """Return the whole processors that a group may use, None for no limit."""
    try:
        if is_second:
            quota, period = (group / "cpu.max").read_text().split()
        else:
            quota = (group / "cpu.cfs_quota_us").read_text()
            period = (group / "cpu.cfs_period_us").read_text()
        return None if quota == "max" or int(quota) < 0 else int(quota) // int(period)
    except (OSError, ValueError):  # the group is not visible from here, or has no such limit
        return None
