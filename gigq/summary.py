"""Arguments as a short text, written when a job is submitted: what listings show, since they never unpickle."""

from __future__ import annotations

import functools
import re
import reprlib
from collections.abc import Mapping, Sequence
from types import MethodType
from typing import Any, Final

SUMMARY_CHARS: Final = 200
HIDDEN: Final = "•••"

_SECRET: Final = re.compile(r"pass(word|wd|phrase)|token|secret|(^|_)key$|api_?key|credential", re.IGNORECASE)
_SHORT: Final = frozenset({int, float, bool, type(None)})

_repr = reprlib.Repr()
_repr.maxstring = _repr.maxother = 60


def summarise(args: Sequence[Any], params: Mapping[str, Any], names: Sequence[str] = ()) -> str:
    """Return the arguments as they would be written in a call, cut to a line; secrets by their names hidden.

    `names` are the names of the function's positional parameters, where known.
    """
    if not args and not params:
        return ""
    parts = [
        HIDDEN if index < len(names) and _SECRET.search(names[index]) else _show(value)
        for index, value in enumerate(args[:20])
    ]
    parts += [f"{name}={HIDDEN if _SECRET.search(name) else _show(value)}" for name, value in list(params.items())[:20]]
    text = ", ".join(parts)
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
    if type(value) in _SHORT:
        return repr(value)
    if type(value) in (str, bytes) and len(value) <= 60:
        return repr(value)
    try:
        return _repr.repr(value)
    except Exception:  # a broken __repr__ is no reason to refuse the job
        return f"<{type(value).__name__}>"
