"""Arguments as a short text, written when a job is submitted: what listings show, since they never unpickle."""

from __future__ import annotations

import functools
import re
import reprlib
from collections.abc import Mapping, Sequence
from itertools import islice
from types import MethodType
from typing import TYPE_CHECKING, Any, Final

from gigq.payload import Output
from gigq.redaction import HIDDEN, names_a_secret, without_url_passwords

if TYPE_CHECKING:
    from inspect import Signature

SUMMARY_CHARS: Final = 200

_NAMED: Final = re.compile(  # a name, a sign, and a value: quoted or not
    r"""(?<!\w)(\w{1,60})(['"]?\s{0,3}[=:,]\s{0,3})('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|[^\s,)}\]]+)"""
)
_SHORT: Final = frozenset({float, bool, type(None)})
_SHOWN_BITS: Final = 200
_TEXT: Final = (str, bytes)
_SHOWN_ARGUMENTS: Final = 20  # positional, and as many by keyword
_SHOWN_CHARS: Final = 60  # of one value
_NAME_CHARS: Final = 200
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

    def repr_str(self, x: str, level: int) -> str:
        if "://" in x[:_LOOKED_AT]:  # before it is cut in the middle
            x = without_url_passwords(x[:_LOOKED_AT]) + x[_LOOKED_AT:]
        return super().repr_str(x, level)

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
    # What is longer is no name, and must not stay in the cache.
    return isinstance(name, str) and len(name) <= _NAME_CHARS and names_a_secret(name)


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
    text = without_url_passwords(", ".join(parts))
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


def shown_signature(signature: Signature) -> str:
    """Return a signature as text, in which the defaults of parameters named like secrets are hidden."""
    parameters = [
        parameter.replace(default=_HIDDEN_DEFAULT)
        if parameter.default is not parameter.empty and _is_secret(parameter.name)
        else parameter
        for parameter in signature.parameters.values()
    ]
    return str(signature.replace(parameters=parameters))


class _Hidden:
    def __repr__(self) -> str:
        return HIDDEN


_HIDDEN_DEFAULT: Final = _Hidden()


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
