"""What a supervisor and a child write to each other, as frames on two pipes.

Jobs go to the child as pickles, which is safe in that direction. The child runs foreign code, so what comes back is
never unpickled: a fixed header, and a body that is passed on as it is. The header starts with a key that only the two
know, so that rubbish which a task writes to the pipe is not taken for an outcome.
"""

from __future__ import annotations

import json
import pickle
import struct
from typing import Any, Final, NamedTuple

from gigq.payload import PROTOCOL
from gigq.storage.leases import ClaimedJob

READ_BYTES: Final = 64 * 1024  # the capacity of a pipe on Linux, pipe(7)
ATOMIC_BYTES: Final = 4096  # a write up to PIPE_BUF goes to a pipe whole or not at all, pipe(7)
BODY_SLACK_BYTES: Final = 256 * 1024  # a failure's text, escaped, is far below this
PROGRESS_CHARS: Final = 500  # of a message: even escaped, the frame stays below ATOMIC_BYTES

_LENGTH: Final = struct.Struct("<I")
_HEADER: Final = struct.Struct("<QQBBddI")  # key, token, kind, flags, started_at, duration, length of the body
_FAILURE: Final = struct.Struct("<Bd")  # retryable, retry_delay (NaN: none)

HEADER_BYTES: Final = _HEADER.size
RUBBISH: Final = 0  # no message: somebody else has written to the pipe
COMPLETED_NONE: Final = 1  # the function returned None: no body
COMPLETED: Final = 2
FAILED: Final = 3
PROGRESS: Final = 4
STOPPED: Final = 1  # a flag: the exception that stops a job was delivered to it


class Frame(NamedTuple):
    """One message of a child."""

    token: int
    kind: int
    flags: int
    started_at: float
    duration: float
    body: bytes


_RUBBISH_FRAME: Final = Frame(0, RUBBISH, 0, 0.0, 0.0, b"")


# -- to the child


def encode_jobs(forgotten: list[int], jobs: list[tuple[int, ClaimedJob]]) -> bytes:
    """Return a frame with jobs by their tokens, and with tokens of earlier frames that were recalled."""
    # tuple(): the C pickler writes plain tuples itself, but calls Python for every named tuple.
    data = pickle.dumps((forgotten, [(token, tuple(job)) for token, job in jobs]), PROTOCOL)
    return _LENGTH.pack(len(data)) + data


class JobBuffer:
    """The child's side of the jobs pipe: bytes in, jobs by token out."""

    def __init__(self) -> None:
        self.jobs: dict[int, tuple[Any, ...]] = {}
        self._data = b""

    def feed(self, data: bytes) -> None:
        """Take in what was read."""
        data = self._data + data
        at = 0
        while len(data) - at >= _LENGTH.size:
            end = at + _LENGTH.size + _LENGTH.unpack_from(data, at)[0]
            if len(data) < end:
                break
            forgotten, jobs = pickle.loads(memoryview(data)[at + _LENGTH.size : end])
            for token in forgotten:
                self.jobs.pop(token, None)
            self.jobs.update(jobs)
            at = end
        self._data = data[at:]


# -- to the supervisor


def encode_outcome(
    key: int, token: int, kind: int, flags: int, started_at: float, duration: float, body: bytes = b""
) -> bytes:
    """Return the frame of one message."""
    return _HEADER.pack(key, token, kind, flags, started_at, duration, len(body)) + body


def encode_failure(retryable: bool, retry_delay: float | None, failure_json: str) -> bytes:
    """Return the body of a FAILED frame."""
    delay = float("nan") if retry_delay is None else retry_delay
    return _FAILURE.pack(retryable, delay) + failure_json.encode()


def decode_failure(body: bytes) -> tuple[bool, float | None, str]:
    """Return (retryable, retry_delay, failure as JSON)."""
    retryable, delay = _FAILURE.unpack_from(body)
    return bool(retryable), None if delay != delay else delay, body[_FAILURE.size :].decode(errors="replace")


def encode_progress(fraction: float, message: str) -> bytes:
    """Return the body of a PROGRESS frame; a long message is cut."""
    return json.dumps([fraction, message[:PROGRESS_CHARS]], ensure_ascii=False).encode(errors="replace")


def decode_progress(body: bytes) -> tuple[float, str]:
    """Return (fraction, message)."""
    fraction, message = json.loads(body)
    return fraction, message


class FrameBuffer:
    """The supervisor's side of an outcome pipe: bytes in, frames out."""

    def __init__(self, key: int, body_limit_bytes: int) -> None:
        self._key = key
        self._mark = key.to_bytes(8, "little")
        self._limit = body_limit_bytes
        self._parts: list[bytes] = []  # of one unfinished frame: joined once, so that 64 MiB are not copied 1,000 times
        self._held = 0
        self._needed = 0

    def feed(self, data: bytes) -> list[Frame]:
        """Take in what was read, return the frames that are complete.

        Where somebody else has written, a frame of kind RUBBISH stands; what follows it is found by the key again,
        because the jobs that wrote it did nothing wrong.
        """
        if self._held:
            self._parts.append(data)
            self._held += len(data)
            if self._held < self._needed:
                return []
            data = b"".join(self._parts)
            self._parts, self._held = [], 0
        frames: list[Frame] = []
        unpack, size, expected, limit = _HEADER.unpack_from, HEADER_BYTES, self._key, self._limit
        at, end = 0, len(data)
        needed = size
        while end - at >= size:
            key, token, kind, flags, started_at, duration, length = unpack(data, at)
            if key != expected or length > limit or not COMPLETED_NONE <= kind <= PROGRESS:
                if not frames or frames[-1].kind != RUBBISH:
                    frames.append(_RUBBISH_FRAME)
                found = data.find(self._mark, at + 1)
                at = found if found >= 0 else end - len(self._mark) + 1  # the key may be cut in two
                continue
            body_at = at + size
            needed = size + length
            if end - at < needed:
                break
            frames.append(Frame(token, kind, flags, started_at, duration, data[body_at : body_at + length]))
            at += needed
            needed = size
        if at < end:
            self._parts, self._held, self._needed = [data[at:]], end - at, needed
        return frames
