"""Arguments as a short text, written when a job is submitted: what listings show, since they never unpickle."""

from __future__ import annotations

import functools
import re
import reprlib
from collections.abc import Mapping, Sequence
from itertools import islice
from types import MethodType
from typing import Any, Final

from gigq.payload import Output

SUMMARY_CHARS: Final = 200
HIDDEN: Final = "•••"

_SECRET: Final = re.compile(r"pass(word|wd|phrase)|token|secret|(^|_)key$|api_?key|credential", re.IGNORECASE)
_NAMED: Final = re.compile(  # a name, a sign, and a value: quoted or not
    r"""(?<!\w)(\w{1,60})(['"]?\s{0,3}[=:,]\s{0,3})('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|[^\s,)}\]]+)"""
)
_SHORT: Final = frozenset({float, bool, type(None)})
_SHOWN_BITS: Final = 200
_TEXT: Final = (str, bytes)
_SHOWN_ARGUMENTS: Final = 20  # positional, and as many by keyword
_SHOWN_CHARS: Final = 60  # of one value
_LOOKED_AT: Final = 500  # characters of a value in which secrets are looked for


class _Repr(reprlib.Repr):
    """Shows values cut short, with the secrets inside them hidden."""

    def __init__(self) -> None:
        super().__init__()
        self.maxstring = self.maxother = _SHOWN_CHARS

    def repr1(self, x: Any, level: int) -> str:
        if isinstance(x, Output):
            return f"<output of {x.job.name}>"
        if isinstance(x, dict):
            return self.repr_dict(x, level)
        return super().repr1(x, level)

    def repr_dict(self, x: dict[Any, Any], level: int) -> str:
        if level <= 0 and x:
            return "{...}"
        parts = [
            f"{self.repr1(key, level - 1)}: {HIDDEN if _is_secret(key) else self.repr1(value, level - 1)}"
            for key, value in islice(x.items(), self.maxdict)
        ]
        return "{" + ", ".join(parts + ["..."] * (len(x) > self.maxdict)) + "}"

    def repr_instance(self, x: Any, level: int) -> str:
        text = repr(x[:_LOOKED_AT] if isinstance(x, bytes | bytearray | str) else x)[:_LOOKED_AT]
        text = _NAMED.sub(lambda match: match[1] + match[2] + (HIDDEN if _is_secret(match[1]) else match[3]), text)
        return text if len(text) <= self.maxother else text[: self.maxother - 1] + "…"


_repr = _Repr()


def _is_secret(name: Any) -> bool:
    return isinstance(name, str) and _names_a_secret(name)


@functools.lru_cache(maxsize=1024)  # the same few parameters' names come with every job
def _names_a_secret(name: str) -> bool:
    return _SECRET.search(name) is not None


def summarise(args: Sequence[Any], params: Mapping[str, Any], names: Sequence[str] = ()) -> str:
    """Return the arguments as they would be written in a call, cut to a line; secrets by their names hidden.

    `names` are the names of the function's positional parameters, where known.
    """
    if not args and not params:
        return ""
    parts = [
        HIDDEN if index < len(names) and _is_secret(names[index]) else _show(value)
        for index, value in enumerate(args[:_SHOWN_ARGUMENTS])
    ]
    if params:
        some = islice(params.items(), _SHOWN_ARGUMENTS)
        parts += [f"{name}={HIDDEN if _is_secret(name) else _show(value)}" for name, value in some]
    text = ", ".join(parts)
    if not text.isprintable():  # somebody's __repr__; it must not move a terminal's cursor
        text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return text if len(text) <= SUMMARY_CHARS else text[: SUMMARY_CHARS - 1] + "…"


def positional_names(function: Any) -> Sequence[str]:
    """Return the names of the parameters that positional arguments of a plain function will have, where known."""
    bound = 0
    while isinstance(function, functools.partial):
        bound += len(function.args)
        function = function.func
    code = getattr(function, "__code__", None)  # a whole inspect.signature() would cost 20 µs for each job
    if code is None:
        return ()
    if isinstance(function, MethodType):
        bound += 1
    return tuple(code.co_varnames[bound : code.co_argcount])


def _show(value: Any) -> str:
    kind = type(value)
    if (kind is int and value.bit_length() <= _SHOWN_BITS) or kind in _SHORT:
        return repr(value)
    if isinstance(value, int) and value.bit_length() > _SHOWN_BITS:
        return f"<int of {value.bit_length()} bits>"  # Python refuses to write out the longest ones
    if isinstance(value, str | bytes) and kind in _TEXT and len(value) <= _SHOWN_CHARS:
        return repr(value)
    try:
        return _repr.repr(value)
    except Exception:  # a broken __repr__ is no reason to refuse the job
        return f"<{type(value).__name__}>"
