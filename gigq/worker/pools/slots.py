"""A page of memory that a child and its supervisor share: what runs, since when, and what must stop.

The two never wait for each other here. Each word is 8 bytes, aligned, and has one writer, so it is never seen half
written.
"""

from __future__ import annotations

import mmap
import os
from typing import Final

SLOT_BYTES: Final = mmap.PAGESIZE

RUNNING: Final = 0  # token of the running job, 0 between jobs. Written by the child
STARTED: Final = 1  # its start by the monotonic clock, nanoseconds. Written by the child, before RUNNING
OVERDUE: Final = 2  # token of the job that must stop. Written by the supervisor
PID: Final = 3  # of the child. Written by the child
FAREWELL: Final = 4  # why the child left by itself. Written by the child

CHANNEL_CLOSED: Final = 1  # a FAREWELL: its descriptors were closed under it


class Slot:
    """The page, mapped. `words` is what both sides read and write."""

    __slots__ = ("_map", "words")

    def __init__(self, fd: int) -> None:
        self._map = mmap.mmap(fd, SLOT_BYTES)
        self.words = memoryview(self._map).cast("Q")

    @staticmethod
    def create() -> int:
        """Return a descriptor of fresh shared memory, to be mapped and sent to a child."""
        fd = os.memfd_create("gigq-slot", os.MFD_CLOEXEC)
        os.ftruncate(fd, SLOT_BYTES)
        return fd

    def running(self) -> tuple[int, int]:
        """Return (token, start in monotonic nanoseconds) of the running job; the token is 0 if none runs."""
        words = self.words
        while True:
            token = words[RUNNING]
            started = words[STARTED]
            # The child writes the start before the token, and a token never comes back: if it is still the same, the
            # start belongs to it.
            if words[RUNNING] == token:
                return token, started

    def close(self) -> None:
        """Unmap the page."""
        self.words.release()
        self._map.close()
