"""What can be said about how a job runs, and what is refused."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple, TypedDict

from gigq.errors import ConfigurationError
from gigq.payload import storable
from gigq.retry import RetryPolicy, seconds

DEFAULT_QUEUE: Final = "default"
DEFAULT_MAX_ATTEMPTS: Final = 3

_NAME: Final = re.compile(r"[A-Za-z0-9_.-]{1,100}")
_LARGEST: Final = 2**31 - 1  # fits every database's integer, and leaves room for arithmetic on it


class RetryOptions(TypedDict, total=False):
    """How attempts follow each other: see `gigq.retry.RetryPolicy`."""

    retry_on: type[BaseException] | tuple[type[BaseException], ...]
    retry_delay: float | timedelta
    retry_backoff: float
    retry_max_delay: float | timedelta
    retry_jitter: float
    retry_on_timeout: bool


class TaskDefaults(RetryOptions, total=False):
    """Options that an app may give to all its tasks."""

    queue: str
    priority: int
    timeout: float | timedelta | None
    max_attempts: int
    description: str
    capture: bool


class CallOptions(TaskDefaults, total=False):
    """Options for the calls made through `task.options(…)`."""

    delay: float | timedelta
    run_at: datetime


_RETRY: Final = frozenset(RetryOptions.__annotations__)
_DEFAULTS: Final = frozenset(TaskDefaults.__annotations__)
_CALL: Final = frozenset(CallOptions.__annotations__)


class Options(NamedTuple):
    """Checked options. Times are seconds, `run_at` is UTC epoch seconds.

    A named tuple, as rows are: a frozen dataclass takes seven times as long to define, and `import gigq` must be quick.
    """

    queue: str = DEFAULT_QUEUE
    priority: int = 0
    timeout: float | None = None
    max_attempts: int = DEFAULT_MAX_ATTEMPTS
    description: str = ""
    policy: RetryPolicy = RetryPolicy()
    own_policy: bool = False  # the policy was changed for these calls, so their rows must carry it
    delay: float | None = None
    run_at: float | None = None
    capture: bool = True  # show the arguments in summaries and errors

    def changed(self, options: dict[str, Any], *, for_calls: bool = False) -> Options:
        """Return these options with `options` applied.

        Raises:
            ConfigurationError: an option is unknown or has a wrong value.
        """
        known = _CALL if for_calls else _DEFAULTS
        for option in options:
            if option not in known:
                raise ConfigurationError(f"unknown option {option!r}: expected one of {', '.join(sorted(known))}")
        changes: dict[str, Any] = {
            option: check(options[option]) for option, check in _CHECKS.items() if option in options
        }
        if not _RETRY.isdisjoint(options):
            changes["policy"] = self.policy.changed(options)
            changes["own_policy"] = for_calls
        if changes.get("delay") is not None and changes.get("run_at") is not None:
            raise ConfigurationError("expected delay= or run_at=, got both")
        if "delay" in changes:
            changes["run_at"] = None
        elif "run_at" in changes:
            changes["delay"] = None
        return self._replace(**changes)


def check_queue(value: Any) -> str:
    """Return the name of a queue."""
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise ConfigurationError(f"queue must be 1 to 100 of the characters A-Z a-z 0-9 _ . -, got {value!r}")
    return value


def check_priority(value: Any) -> int:
    """Return a priority."""
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) > _LARGEST:
        raise ConfigurationError(f"priority must be an int between -{_LARGEST} and {_LARGEST}, got {value!r}")
    return value


def check_max_attempts(value: Any) -> int:
    """Return a number of attempts."""
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= _LARGEST:
        raise ConfigurationError(f"max_attempts must be an int of at least 1, got {value!r}")
    return value


def check_timeout(value: Any) -> float | None:
    """Return a timeout in seconds, None for none."""
    if value is None:
        return None
    timeout = seconds("timeout", value)
    if timeout == 0:
        raise ConfigurationError("timeout must be more than 0 seconds, or None for no timeout, got 0")
    return timeout


def check_text(option: str, value: Any) -> str:
    """Return a text."""
    if not isinstance(value, str):
        raise ConfigurationError(f"{option} must be a str, got {value!r}")
    if not value.isascii() and storable(value) != value:
        raise ConfigurationError(f"{option} must be text that can be stored as UTF-8, got {value!r}")
    return value


def check_bool(option: str, value: Any) -> bool:
    """Return a truth value."""
    if not isinstance(value, bool):
        raise ConfigurationError(f"{option} must be True or False, got {value!r}")
    return value


def check_run_at(value: Any) -> float:
    """Return an instant as UTC epoch seconds."""
    if not isinstance(value, datetime) or value.tzinfo is None:
        raise ConfigurationError(
            f"run_at must be a datetime with a timezone, such as datetime.now(timezone.utc), got {value!r}"
        )
    return value.timestamp()


_CHECKS: Final = {
    "queue": check_queue,
    "priority": check_priority,
    "timeout": check_timeout,
    "max_attempts": check_max_attempts,
    "description": lambda value: check_text("description", value),
    "capture": lambda value: check_bool("capture", value),
    "delay": lambda value: seconds("delay", value),
    "run_at": check_run_at,
}
