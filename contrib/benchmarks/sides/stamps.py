"""When jobs ran: one row of numbers for each, appended to a file that all processes of a benchmark share.

Plain Python: it runs in each system's own environment.
"""

import os
import struct
import time

ROW = struct.Struct("5d")  # number, when it was sent, started and ended (monotonic seconds), process id
FILE = "stamps"

_files = {}  # by process: what a fork hands down is opened again


def write(number, sent, started, ended):
    """Append a row. One small write in append mode is not torn by those of other processes."""
    pid = os.getpid()
    if pid not in _files:
        _files[pid] = os.open(FILE, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(_files[pid], ROW.pack(number, sent, started, ended, pid))


def started(number, sent):
    """Append a row for a job that does nothing else."""
    now = time.monotonic()
    write(number, sent, now, now)


def count(folder="."):
    try:
        return os.path.getsize(os.path.join(folder, FILE)) // ROW.size
    except FileNotFoundError:
        return 0


def read(folder="."):
    """Return all rows in the order of their start."""
    try:
        with open(os.path.join(folder, FILE), "rb") as file:
            data = file.read()
    except FileNotFoundError:
        return []
    rows = ROW.iter_unpack(data[: len(data) // ROW.size * ROW.size])
    return sorted(rows, key=lambda row: row[2])
