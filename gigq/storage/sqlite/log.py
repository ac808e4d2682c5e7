"""The write-ahead log as a file: which of its commits are whole.

SQLite believes the log up to the first frame whose checksum is wrong, and drops in silence what comes after it. So a
flipped bit loses commits, and no check of SQLite's own tells. The format: https://www.sqlite.org/fileformat2.html,
section 4. Reading the log itself is safe at any time: SQLite holds no lock on it (unlike the database and the `-shm`).
"""

from __future__ import annotations

import struct
import sys
import time
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

CHECKED_BYTES: Final = 64 * 1024 * 1024  # of checksums, in Python: a second or two
LOOKS: Final = 4  # a writer in the middle of a commit looks like damage, but not for long
PAUSE_SECONDS: Final = 0.05

_HEADER: Final = struct.Struct(">8I")  # magic, version, page size, sequence, two salts, two sums
_FRAME: Final = struct.Struct(">6I")  # page, size of the database after a commit or 0, two salts, two sums
_MAGIC: Final = 0x377F0682  # the lowest bit: sums are of big-endian words


class LogState(NamedTuple):
    """What a log holds."""

    size_bytes: int
    frames: int = 0  # whole ones, from the beginning
    commits: int = 0  # among them
    lost: int = 0  # commits after, or in, the first frame that is not whole; at least so many
    is_header_damaged: bool = False
    is_complete: bool = True  # False: only the first CHECKED_BYTES were looked at

    @property
    def is_damaged(self) -> bool:
        """Whether commits are in the log that SQLite will not find."""
        return self.lost > 0 or self.is_header_damaged


def read_log(
    path: Path, *, limit_bytes: int | None = CHECKED_BYTES, sleep: Callable[[float], None] = time.sleep
) -> LogState:
    """Return the state of the log at `path`; one that does not exist is empty.

    Raises:
        OSError: it cannot be read.
    """
    state = _read(path, limit_bytes)
    for _ in range(LOOKS):
        if not state.is_damaged:
            break
        sleep(PAUSE_SECONDS)
        before, state = state, _read(path, limit_bytes)
        if state.frames == before.frames:  # no writer has gone on meanwhile
            break
    return state


def _read(path: Path, limit_bytes: int | None) -> LogState:
    try:
        with path.open("rb") as file:
            return _walk(file, path.stat().st_size, limit_bytes)
    except FileNotFoundError:
        return LogState(0)


def _walk(file: BinaryIO, size: int, limit_bytes: int | None) -> LogState:
    header = file.read(_HEADER.size)
    if not header.strip(b"\0"):  # emptied, or being made
        return LogState(size)
    if len(header) < _HEADER.size:
        return LogState(size, is_header_damaged=True)
    magic, _, page_bytes, _, salt_1, salt_2, *expected = _HEADER.unpack(header)
    swap = (sys.byteorder == "big") != bool(magic & 1)
    sums = _sums(header[:24], (0, 0), swap)
    if magic & ~1 != _MAGIC or sums != tuple(expected):
        return LogState(size, is_header_damaged=True)
    salts = (salt_1, salt_2)
    frames = commits = 0
    while frame := file.read(_FRAME.size + page_bytes):
        if len(frame) < _FRAME.size + page_bytes:
            break
        if limit_bytes is not None and frames * page_bytes >= limit_bytes:
            return LogState(size, frames, commits, is_complete=False)
        page, after, *rest = _FRAME.unpack_from(frame)
        sums = _sums(frame[_FRAME.size :], _sums(frame[:8], sums, swap), swap)
        if not page or tuple(rest[:2]) != salts or tuple(rest[2:]) != sums:
            lost = _commits_from(file, frame, salts)
            return LogState(size, frames, commits, lost)
        frames += 1
        commits += bool(after)
    return LogState(size, frames, commits)


def _commits_from(file: BinaryIO, frame: bytes, salts: tuple[int, int]) -> int:
    """Count the commits of this round of the log from `frame` on. What earlier rounds left has other salts."""
    count, length = 0, len(frame)
    while len(frame) == length:
        page, after, *rest = _FRAME.unpack_from(frame)
        count += bool(page and after and tuple(rest[:2]) == salts)
        frame = file.read(length)
    return count


def _sums(data: bytes, sums: tuple[int, int], swap: bool) -> tuple[int, int]:
    """Return the running checksums after `data`, whose length is a multiple of 8."""
    words = array("I", data)
    if swap:
        words.byteswap()
    one, two = sums
    pairs = iter(words)
    for first, second in zip(pairs, pairs, strict=True):
        one = (one + first + two) & 0xFFFFFFFF
        two = (two + second + one) & 0xFFFFFFFF
    return one, two
