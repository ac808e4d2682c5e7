"""Signatures of payloads: whoever can write the database, but has no key, cannot make a worker run code.

A signature (HMAC-SHA256, RFC 2104) covers the payload and its place: the job, whether it is its arguments or its
result, and what decides how the arguments are used (task, queue, timeout, retry policy, attempts). It is checked before
anything is unpickled, so bytes that were changed, or moved elsewhere, are never loaded.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final, Protocol, TypeAlias, TypeVar

from gigq.errors import ConfigurationError, SignatureError

SecretKey: TypeAlias = str | bytes | Sequence[str | bytes]

KEY_VARIABLE: Final = "GIGQ_SECRET_KEY"
FILE_VARIABLE: Final = "GIGQ_SECRET_KEY_FILE"
LEAST_KEY_BYTES: Final = 32  # as long as what SHA-256 gives, RFC 2104, section 3

MARK: Final = b"\xffgigq\x01"
"""Begins each signed payload; the last byte is the version. No pickle begins so: 0xff is none of its codes."""

_ID_BYTES: Final = 8
_SUM_BYTES: Final = 32
_HEAD_BYTES: Final = len(MARK) + _ID_BYTES + _SUM_BYTES
_HOW_TO_MAKE_ONE: Final = "make one with: python -c 'import secrets; print(secrets.token_urlsafe(32))'"

T = TypeVar("T")


class Call(Protocol):
    """The part of a job's row that its arguments are signed with."""

    @property
    def id(self) -> str: ...
    @property
    def task(self) -> str: ...
    @property
    def queue(self) -> str: ...
    @property
    def timeout(self) -> float | None: ...
    @property
    def policy(self) -> str | None: ...
    @property
    def max_attempts(self) -> int: ...


class Signer:
    """Signs with the first of its keys, and accepts all of them. Says nothing about them, and cannot be pickled."""

    __slots__ = ("_keys", "_own_id", "_own_key", "_same", "_sum")

    def __init__(self, keys: Sequence[bytes]) -> None:
        import hmac  # takes import time that programs without a key do without

        self._sum: Callable[[bytes, bytes, str], bytes] = hmac.digest
        self._same: Callable[[bytes, bytes], bool] = hmac.compare_digest
        self._keys = {self._sum(key, b"gigq key id", "sha256")[:_ID_BYTES]: key for key in keys}
        self._own_id, self._own_key = next(iter(self._keys.items()))

    def __repr__(self) -> str:
        return f"<Signer with {len(self._keys)} keys>"

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError("a secret key is never pickled")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Signer) and list(self._keys) == list(other._keys)

    def __hash__(self) -> int:
        return hash(tuple(self._keys))

    def sign_arguments(self, data: bytes, call: Call) -> bytes:
        """Return the arguments of a job with their signature."""
        return self._sign(data, _arguments_of(call))

    def check_arguments(self, data: bytes, call: Call) -> bytes:
        """Return the arguments of a job without their signature. Raises SignatureError."""
        return self._check(data, _arguments_of(call), f"the arguments of job {call.id}")

    def sign_result(self, data: bytes, job_id: str, task: str) -> bytes:
        """Return the result of a job with its signature."""
        return self._sign(data, _result_of(job_id, task))

    def check_result(self, data: bytes | None, job_id: str, task: str) -> bytes:
        """Return the result of a job without its signature; None is no result. Raises SignatureError."""
        return self._check(data or b"", _result_of(job_id, task), f"the result of job {job_id}")

    def _sign(self, data: bytes, place: bytes) -> bytes:
        head = MARK + self._own_id
        return head + self._sum(self._own_key, head + place + data, "sha256") + data

    def _check(self, signed: bytes, place: bytes, what: str) -> bytes:
        if not signed.startswith(MARK):
            raise SignatureError(
                f"{what} must be signed, and is not: it was stored by a program without the secret key, or by somebody "
                "who has none; it was not loaded"
            )
        head, data = signed[: len(MARK) + _ID_BYTES], signed[_HEAD_BYTES:]
        key = self._keys.get(head[len(MARK) :])
        if key is None:
            raise SignatureError(
                f"{what} was signed with a key that this program does not have, and was not loaded: keep old keys "
                "behind the new one until their jobs have ended"
            )
        if not self._same(self._sum(key, head + place + data, "sha256"), signed[len(head) : _HEAD_BYTES]):
            raise SignatureError(
                f"the signature does not fit {what}, which was not loaded: it, or the job's row, was changed"
            )
        return data

    # -- on the way to the forker, over a socket that only it reads

    def keys(self) -> list[str]:
        """Return the keys as text; only for the pipe to a process of ours."""
        return [key.hex() for key in self._keys.values()]

    @classmethod
    def of(cls, keys: Sequence[str]) -> Signer:
        """Return a signer with what `keys` returned."""
        return cls([bytes.fromhex(key) for key in keys])


def _arguments_of(call: Call) -> bytes:
    # A tuple written out: no two different ones look alike. ASCII, because what is printable in Unicode changes. What
    # the database keeps of a subclass of str or int (an enumeration) is its plain value.
    values = (
        call.id, str.__str__(call.task), str.__str__(call.queue), call.timeout, call.policy, int(call.max_attempts),
    )  # fmt: skip
    return b"arguments" + ascii(values).encode("ascii") + b"\0"


def _result_of(job_id: str, task: str) -> bytes:
    return b"result" + ascii((job_id, str.__str__(task))).encode("ascii") + b"\0"


# -- where keys come from

_ambient: ContextVar[Signer | None] = ContextVar("gigq_signer", default=None)


def make_signer(secret_key: SecretKey | None) -> Signer | None:
    """Return what signs with `secret_key`; without one with the key of the running task, else of the environment.

    None: there is no key anywhere, and nothing is signed.

    Raises:
        ConfigurationError: a key is too short, or its file can be read by others.
    """
    if secret_key is None:
        return _ambient.get() or _of_environment()
    keys = [secret_key] if isinstance(secret_key, str | bytes) else secret_key
    if not isinstance(keys, Sequence) or not keys:
        raise ConfigurationError(
            f"secret_key must be a str, bytes or a list of them that is not empty, got {type(keys).__name__}"
        )
    return Signer([_checked(key, "secret_key") for key in keys])


def use_signer(signer: Signer) -> Callable[[], None]:
    """Let queues and handles that are made from now on in this context use `signer`; call the result to end that."""
    token = _ambient.set(signer)
    return lambda: _ambient.reset(token)


@contextmanager
def using(signer: Signer | None) -> Iterator[None]:
    """Do what `use_signer` does, while this context lasts; None changes nothing."""
    end = None if signer is None else use_signer(signer)
    try:
        yield
    finally:
        if end is not None:
            end()


def _of_environment() -> Signer | None:
    text, file = os.environ.get(KEY_VARIABLE), os.environ.get(FILE_VARIABLE)
    if not text and not file:
        return None
    if text and file:
        raise ConfigurationError(f"expected ${KEY_VARIABLE} or ${FILE_VARIABLE}, got both")
    where = f"${KEY_VARIABLE}" if file is None else f"${FILE_VARIABLE} ({file})"
    keys = (text or _read_private(file or "")).split()
    if not keys:
        raise ConfigurationError(f"{where} holds no key: {_HOW_TO_MAKE_ONE}")
    return Signer([_checked(key, where) for key in keys])


def _read_private(path: str) -> str:
    """Return what is in a file that only this user, or root, may read."""
    try:
        with open(path, encoding="utf-8") as file:
            status = os.fstat(file.fileno())
            if hasattr(os, "geteuid"):
                if status.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
                    mode = f"mode {stat.S_IMODE(status.st_mode):04o}"
                    raise ConfigurationError(f"the key file {path} can be used by others ({mode}): chmod 600")
                if status.st_uid not in (0, os.geteuid()):
                    raise ConfigurationError(f"the key file {path} must belong to this user or root")
            return file.read()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"the key file {path} cannot be read: {error}") from None


def _checked(key: Any, where: str) -> bytes:
    """Return a key as bytes. The messages say nothing of it."""
    if not isinstance(key, str | bytes):
        raise ConfigurationError(f"a key in {where} must be str or bytes, got {type(key).__name__}")
    data = key.encode() if isinstance(key, str) else key
    if len(data) < LEAST_KEY_BYTES:
        raise ConfigurationError(
            f"a key in {where} must have at least {LEAST_KEY_BYTES} bytes, got {len(data)}: {_HOW_TO_MAKE_ONE}"
        )
    return data
