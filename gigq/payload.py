"""Arguments and results as bytes, and failures as text.

Pickled by cloudpickle, so that lambdas, closures and functions of `__main__` travel to other processes. Arguments of
plain builtin types take the C pickler of the standard library instead, which never calls Python.

A `job.output` placed anywhere in arguments is found while pickling and becomes a call that fetches the real value
while unpickling. (Rejected: the pickler's `persistent_id`. It calls Python once for every object that is pickled,
numbers in a list included; `reducer_override` is called for the rest only.)
"""

from __future__ import annotations

import io
import pickle
import sys
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from itertools import islice
from typing import Any, Final, NamedTuple

import cloudpickle

from gigq.errors import PayloadError, SignatureError
from gigq.redaction import without_secrets
from gigq.signing import MARK

PROTOCOL: Final = 5
TRACEBACK_CHARS: Final = 20_000  # the end of a traceback is where the error is; endless recursion prints a megabyte
MESSAGE_CHARS: Final = 2_000
_MARGIN_CHARS: Final = 1_000

SCALARS: Final = frozenset({type(None), bool, int, float, complex, str, bytes})
_PLAIN_CONTAINERS: Final = frozenset({tuple, list, dict})
_PLAIN_ITEMS: Final = 64  # beyond this many items the check costs more than it saves
_CULPRIT_DEPTH: Final = 10  # a list may contain itself

ResultReader = Callable[[str], bytes | None]
_read_result: ContextVar[ResultReader] = ContextVar("gigq_read_result")


class Output:
    """The future result of a job, to be put into the arguments of another one."""

    __slots__ = ("job",)

    def __init__(self, job: Any) -> None:
        self.job = job

    def __repr__(self) -> str:
        return f"<output of {self.job.name} {self.job.id}>"


class Pickled(NamedTuple):
    """Bytes, and the outputs that were found inside."""

    data: bytes
    outputs: Sequence[Output]


def dumps(value: Any, *, what: str = "the arguments") -> Pickled:
    """Return `value` as bytes, and the outputs in it.

    Raises:
        PayloadError: it cannot be pickled; the message names the part that cannot be where that is known.
    """
    if _is_plain(value):
        return Pickled(pickle.dumps(value, PROTOCOL), ())
    buffer = io.BytesIO()
    pickler = _Pickler(buffer)
    main = sys.modules.get("__mp_main__")  # what __main__ is called where multiprocessing has spawned this process
    if main is not None:
        cloudpickle.register_pickle_by_value(main)
    try:
        pickler.dump(value)
    except Exception as error:  # pickling runs code of any type: whatever it raises means "cannot be pickled"
        raise PayloadError(f"{what} must be picklable, got {_culprit(value)}: {_said(error)}") from error
    return Pickled(buffer.getvalue(), pickler.outputs)


def loads(data: bytes, read_result: ResultReader) -> Any:
    """Return the value that `dumps` wrote; `read_result` gives the bytes of a job's result. This may run any code.

    Raises:
        PayloadError: the bytes cannot be unpickled here, for example for want of a module.
    """
    token = _read_result.set(read_result)
    try:
        return pickle.loads(data)
    except PayloadError:
        raise
    except Exception as error:  # unpickling runs code of any type: the cause is kept
        if data.startswith(MARK):
            raise SignatureError(
                "stored data is signed, and this program has no secret key: "
                "give it the key of the program that stored it"
            ) from None
        raise PayloadError(f"stored data cannot be unpickled here: {_said(error)}") from error
    finally:
        _read_result.reset(token)


class _Pickler(cloudpickle.Pickler):
    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file, protocol=PROTOCOL)
        self.outputs: list[Output] = []

    def reducer_override(self, obj: Any) -> Any:
        if type(obj) is Output:
            self.outputs.append(obj)
            return _fetch, (obj.job.id,)
        return super().reducer_override(obj)


def _fetch(job_id: str) -> Any:
    """Stand in the pickled arguments where an output was; unpickling calls it."""
    read = _read_result.get(None)
    if read is None:
        raise PayloadError(f"the output of job {job_id} is only known where a worker runs the job that needs it")
    data = read(job_id)
    return None if data is None else loads(data, read)


def _is_plain(value: Any, depth: int = 3) -> bool:
    kind = type(value)
    if kind in SCALARS:
        return True
    if depth == 0 or kind not in _PLAIN_CONTAINERS or len(value) > _PLAIN_ITEMS:
        return False
    if kind is dict:
        if not value:
            return True
        if not SCALARS.issuperset(map(type, value)):
            return False
        value = value.values()
    if SCALARS.issuperset(map(type, value)):  # in C: nearly all arguments end here
        return True
    for item in value:  # noqa: SIM110  # spelled out: a generator is one more object for each job
        if type(item) not in SCALARS and not _is_plain(item, depth - 1):
            return False
    return True


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {Failure.of(error).message}"


def _culprit(value: Any) -> str:
    """Name the smallest part of arguments that cannot be pickled, by trying them one by one."""
    label = "a value"
    for _ in range(_CULPRIT_DEPTH):
        if isinstance(value, dict):
            parts = [
                (f"item {key!r}" if type(key) in SCALARS else f"item {number}", item)
                for number, (key, item) in enumerate(islice(value.items(), _PLAIN_ITEMS))
            ]
        elif isinstance(value, tuple | list):
            parts = [(f"item {index}", item) for index, item in enumerate(islice(value, _PLAIN_ITEMS))]
        else:
            parts = []
        for name, part in parts:
            try:
                _Pickler(io.BytesIO()).dump(part)
            except Exception:  # the same failure as in `dumps`: it is what is being looked for
                label, value = f"{name}, a {type(part).__name__}", part
                break
        else:
            break
    return label


def storable(text: str) -> str:
    """Return a text that every database takes: without lone surrogates (undecodable file names have them) and NULs."""
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")


class Failure(NamedTuple):
    """Why an attempt failed, as text: an exception that does not unpickle can then hurt nobody."""

    type: str
    message: str
    traceback: str

    @classmethod
    def of(cls, error: BaseException) -> Failure:
        """Describe an exception, whatever its own methods do."""
        import traceback  # costs import time that only failures need

        try:
            message = str(error)
        except Exception as broken:  # a hostile __str__ must not hide the failure it belongs to
            message = f"(its message cannot be shown: {type(broken).__name__})"
        try:
            text = "".join(traceback.format_exception(error))
        except Exception as broken:  # the same for a hostile __repr__, __cause__ or __notes__
            text = "".join(traceback.format_tb(error.__traceback__)) + f"(not shown: {type(broken).__name__})\n"
        # A little more than is kept is looked at: what is cut in the middle does not look like a secret any more.
        message = without_secrets(storable(message)[: MESSAGE_CHARS + _MARGIN_CHARS])
        text = without_secrets(storable(text)[-TRACEBACK_CHARS - _MARGIN_CHARS :])
        return cls(storable(type(error).__name__), message[:MESSAGE_CHARS], text[-TRACEBACK_CHARS:])

    def to_json(self) -> str:
        """Return the failure as the text that rows keep."""
        import json  # takes 2 ms of import time, which only failures need

        return json.dumps(self._asdict())

    @classmethod
    def from_json(cls, text: str) -> Failure:
        """Return the failure that `to_json` wrote."""
        import json

        return cls(**json.loads(text))

    def __str__(self) -> str:
        return f"{self.type}: {self.message}" if self.message else self.type
