"""Where a worker finds functions: the app, seen from below.

The worker does not know `App`. It needs an object with tasks by name, made in this process or imported by a name.
"""

from __future__ import annotations

import importlib
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol, runtime_checkable

from gigq.errors import TargetError
from gigq.retry import RetryPolicy
from gigq.signing import Signer, make_signer

_DOTTED: Final = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*", re.ASCII)


@runtime_checkable
class TaskLike(Protocol):
    """What a worker uses of a task."""

    @property
    def name(self) -> str: ...

    @property
    def function(self) -> Callable[..., Any]: ...

    @property
    def policy(self) -> RetryPolicy: ...

    @property
    def timeout(self) -> float | None: ...


@runtime_checkable
class TaskSource(Protocol):
    """What a worker uses of an app."""

    @property
    def url(self) -> str: ...

    @property
    def durability(self) -> str: ...

    @property
    def tasks(self) -> Mapping[str, TaskLike]: ...

    @property
    def default_policy(self) -> RetryPolicy: ...


def signer_of(source: TaskSource | None) -> Signer | None:
    """Return what signs the payloads of a source of tasks; without a source, what the environment names."""
    return make_signer(None) if source is None else getattr(source, "signer", None)


class ModuleTarget(NamedTuple):
    """An app named as `module:attribute`, to be imported by the process that runs its tasks."""

    module: str
    attribute: str

    def __str__(self) -> str:
        return f"{self.module}:{self.attribute}"

    @classmethod
    def parse(cls, text: str) -> ModuleTarget:
        """Return the target that `text` names.

        Raises:
            TargetError: it is not of the form `module:attribute`, both dotted identifiers.
        """
        module, colon, attribute = text.partition(":")
        if not colon or not _DOTTED.fullmatch(module) or not _DOTTED.fullmatch(attribute):
            raise TargetError(f"expected an app as module:attribute, such as myapp:app, got {text!r}")
        return cls(module, attribute)

    def load(self) -> TaskSource:
        """Import the module, the current folder included, and return the app.

        Raises:
            TargetError: the module or attribute does not exist, or is not an app; importing failed.
        """
        if "" not in sys.path and os.getcwd() not in sys.path:
            sys.path.insert(0, os.getcwd())
        try:
            value: Any = importlib.import_module(self.module)
        except ModuleNotFoundError as error:
            if error.name is None or not (self.module + ".").startswith(error.name + "."):
                raise TargetError(f"importing {self.module} failed: {_said(error)}") from error
            raise TargetError(
                f"no module {self.module!r} for {self}: run the worker where it can be imported from"
            ) from error
        except Exception as error:  # a user's module may raise anything while it is imported
            raise TargetError(f"importing {self.module} failed: {_said(error)}") from error
        for part in self.attribute.split("."):
            try:
                value = getattr(value, part)
            except AttributeError:
                raise TargetError(f"module {self.module} has no attribute {self.attribute!r}") from None
        if not isinstance(value, TaskSource):
            raise TargetError(f"{self} must be a gigq App, got {type(value).__name__}")
        return value


class Preparation(NamedTuple):
    """A function to be called in the process that children are forked from, once it has loaded the app."""

    module: str
    function: str
    arguments: Sequence[str]

    def __call__(self) -> None:
        getattr(importlib.import_module(self.module), self.function)(*self.arguments)


def _said(error: BaseException) -> str:
    """Return an exception as a line, with the place in the user's code where it came from."""
    place, traceback = "", error.__traceback__
    while traceback is not None:
        file = traceback.tb_frame.f_code.co_filename
        if not file.startswith("<frozen importlib") and file not in (__file__, importlib.__file__):
            place = f" ({file}, line {traceback.tb_lineno})"
        traceback = traceback.tb_next
    if isinstance(error, SyntaxError) and error.filename:
        place = f" ({error.filename}, line {error.lineno})"
        return f"SyntaxError: {error.msg}{place}"
    return f"{type(error).__name__}: {error}{place}"
