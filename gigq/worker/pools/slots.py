"""Memory that a child and its supervisor share: what runs, since when, and what must stop.

The two never wait for each other here. Each word is 8 bytes, aligned, and has one writer, so it is never seen half
written. A child that runs many jobs at once has a table behind the words that all children have: one entry for each of
its slots.
"""

from __future__ import annotations

import mmap
import os
from typing import Final

RUNNING: Final = 0  # token of the running job, 0 between jobs. Written by the child
STARTED: Final = 1  # its start by the monotonic clock, nanoseconds. Written by the child, before RUNNING
OVERDUE: Final = 2  # token of the job that must stop. Written by the supervisor
PID: Final = 3  # of the child. Written by the child
FAREWELL: Final = 4  # why the child left by itself. Written by the child
BUSY: Final = 5  # entries of the table in use. Written by the child
BEAT: Final = 6  # when its event loop last turned, while it runs jobs; as STARTED. By the child
BEGUN: Final = 7  # the last token whose job has begun: it and those before it, of those that were read. By the child

TABLE: Final = 8  # the first word of the table
ENTRY_WORDS: Final = 3
# The words of an entry: the token of the job (0: the entry is free); then what the next two say
SINCE: Final = 1  # its start by the monotonic clock, nanoseconds. Written by the child, before the token
STOP: Final = 2  # the same token again: the job must stop. Written by the supervisor

CHANNEL_CLOSED: Final = 1  # a FAREWELL: its descriptors were closed under it


class Slot:
    """The memory, mapped. `words` is what both sides read and write."""

    __slots__ = ("_map", "words")

    def __init__(self, fd: int) -> None:
        self._map = mmap.mmap(fd, 0)  # all of it
        self.words = memoryview(self._map).cast("Q")

    @staticmethod
    def create(entries: int = 0) -> int:
        """Return a descriptor of fresh shared memory with a table of `entries`, to be mapped and sent to a child."""
        fd = os.memfd_create("gigq-slot", os.MFD_CLOEXEC)
        size = 8 * (TABLE + ENTRY_WORDS * entries)
        os.ftruncate(fd, -(-size // mmap.PAGESIZE) * mmap.PAGESIZE)
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

    def find(self, token: int, entries: int) -> int:
        """Return the first word of the table's entry for a token, 0 if it has none."""
        words = self.words
        for at in range(TABLE, TABLE + ENTRY_WORDS * entries, ENTRY_WORDS):
            if words[at] == token:
                return at
        return 0

    def close(self) -> None:
        """Unmap it."""
        self.words.release()
        self._map.close()
