"""Waking idle workers of this host at once: one byte to an abstract datagram socket.

Nothing depends on it. A worker that misses its wake-up notices the change of the database within 100 ms.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterable


class Listener:
    """The socket on which a worker is woken. Without abstract sockets (outside Linux) nobody can reach it."""

    def __init__(self, worker: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self.address: str | None = None
        with contextlib.suppress(OSError):
            self._socket.bind(f"\0gigq-{worker}")
            self.address = f"gigq-{worker}"

    def fileno(self) -> int:
        """Return a descriptor that becomes readable on a wake-up."""
        return self._socket.fileno()

    def drain(self) -> None:
        """Forget the wake-ups that have arrived."""
        with contextlib.suppress(BlockingIOError):
            while True:
                self._socket.recv(16)

    def close(self) -> None:
        """Stop listening."""
        self._socket.close()


class Waker:
    """Sends wake-ups. Safe to use from several threads."""

    def __init__(self) -> None:
        self._socket: socket.socket | None = None

    def wake(self, addresses: Iterable[str]) -> None:
        """Wake the workers at `addresses`."""
        for address in addresses:
            # Full: it has wake-ups that it has not read yet. Refused: it has gone, or lives in another namespace. No
            # socket to be had: the process has too many files open. What wakes it for is stored in any case.
            with contextlib.suppress(OSError):
                if self._socket is None:
                    self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
                self._socket.sendto(b"\1", "\0" + address)

    def close(self) -> None:
        """Close the socket; the next wake-up opens another one."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
