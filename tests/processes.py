"""What tests see of processes from outside."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path


def is_running(pid: int) -> bool:
    """Return whether a process still executes: a zombie does not."""
    return state_of(pid) not in "ZX"


def state_of(pid: int) -> str:
    """Return the kernel's letter for what a process does; X: there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "X"


def is_stopped(pid: int) -> bool:
    """Return whether a process has been stopped, with all its threads, or has ended."""
    try:
        return all(state_of(int(task)) in "TZX" for task in os.listdir(f"/proc/{pid}/task"))
    except FileNotFoundError:
        return True


def catches(pid: int, number: int) -> bool:
    """Return whether a process has a handler of its own for a signal."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return False
    return any(line.startswith("SigCgt:") and int(line.split()[1], 16) >> (number - 1) & 1 for line in lines)


def marked(name: str, value: str) -> set[int]:
    """Return the running processes that have `name=value` in their environment."""
    mark = f"{name}={value}".encode()
    found = set()
    for entry in os.listdir("/proc"):
        try:
            if entry.isdigit() and mark in Path(f"/proc/{entry}/environ").read_bytes().split(b"\0"):
                found.add(int(entry))
        except OSError:
            continue
    return {pid for pid in found if is_running(pid)}


def below(pid: int) -> list[int]:
    """Return the processes that descend from `pid`, parents first."""
    found: list[int] = []
    level = [pid]
    while level:
        level = [child for parent in level for child in _children(parent)]
        found += level
    return found


def _children(pid: int) -> list[int]:
    try:
        tasks = os.listdir(f"/proc/{pid}/task")
        return [int(word) for task in tasks for word in Path(f"/proc/{pid}/task/{task}/children").read_text().split()]
    except OSError:  # it has ended
        return []


def until(condition: Callable[[], object], seconds: float = 20.0) -> float:
    """Wait until `condition` holds; return the seconds that it took."""
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < seconds, f"not within {seconds} s"
        time.sleep(0.005)
    return time.monotonic() - started
