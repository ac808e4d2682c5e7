"""When a failed attempt is followed by another one, and after how long."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any, Final, NamedTuple

from gigq.errors import ConfigurationError

HOUR_SECONDS: Final = 3600.0
LONGEST_SECONDS: Final = 2.0**31  # as instants, and in nanoseconds, what is longer does not fit everywhere


class Retry(Exception):
    """Raise it inside a task to put the job back and try again later: `raise Retry(delay=60)`.

    The attempt counts: after the job's last one it ends FAILED. Without `delay` the task's own backoff applies.

    Args:
        message: why, kept with the execution.
        delay: seconds or timedelta until the job is due again.
    """

    def __init__(self, message: str = "the task asked for a retry", *, delay: float | timedelta | None = None) -> None:
        super().__init__(message)
        self.delay = None if delay is None else seconds("delay", delay)


def seconds(option: str, value: float | timedelta) -> float:
    """Return `value` in seconds, as a float.

    Raises:
        ConfigurationError: it is negative, longer than 68 years, or neither a number nor a timedelta.
    """
    if isinstance(value, timedelta):
        value = value.total_seconds()
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ConfigurationError(f"{option} must be a number of seconds or a timedelta, got {value!r}")
    if not 0 <= value <= LONGEST_SECONDS:
        raise ConfigurationError(f"{option} must be from 0 to {LONGEST_SECONDS:.0f} seconds (68 years), got {value!r}")
    return float(value)


def qualified_name(cls: type) -> str:
    """Return `module.qualname`, by which exception types are compared without importing anything."""
    return f"{cls.__module__}.{cls.__qualname__}"


class RetryPolicy(NamedTuple):
    """How attempts follow each other.

    Attributes:
        on: qualified names of the exception types that are worth another attempt; their subclasses are too.
        delay: seconds before the second attempt.
        backoff: each further delay is this many times the one before.
        max_delay: the longest delay, in seconds.
        jitter: the part of each delay that is drawn at random, 0 to 1, so that jobs which failed together do not
            come back together. (Source: Marc Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.)
        on_timeout: whether a job that ran too long is worth another attempt.
    """

    on: tuple[str, ...] = ("builtins.Exception",)
    delay: float = 1.0
    backoff: float = 2.0
    max_delay: float = HOUR_SECONDS
    jitter: float = 0.5
    on_timeout: bool = False

    def covers(self, error: BaseException) -> bool:
        """Return whether `error` is worth another attempt."""
        return any(qualified_name(cls) in self.on for cls in type(error).__mro__)

    def delay_after(self, attempt: int, draw: Callable[[], float] | None = None) -> float:
        """Return the seconds to wait after attempt number `attempt` (from 1) has failed; `draw` gives 0 to 1."""
        if draw is None:
            import random  # takes 5 ms of import time, which submitters need not pay

            draw = random.random
        try:
            full = min(self.max_delay, self.delay * self.backoff ** (attempt - 1))
        except OverflowError:  # an attempt in the thousands, or a large backoff
            full = self.max_delay
        return full * (1 - self.jitter * draw())

    def changed(self, options: dict[str, Any]) -> RetryPolicy:
        """Return this policy with `retry_…` options applied; other keys are ignored.

        Raises:
            ConfigurationError: an option has a wrong value.
        """
        changes: dict[str, Any] = {}
        if "retry_on" in options:
            changes["on"] = _exception_names(options["retry_on"])
        for option, attribute in (("retry_delay", "delay"), ("retry_max_delay", "max_delay")):
            if option in options:
                changes[attribute] = seconds(option, options[option])
        if "retry_backoff" in options:
            changes["backoff"] = _number("retry_backoff", options["retry_backoff"], at_least=1.0, at_most=float("inf"))
        if "retry_jitter" in options:
            changes["jitter"] = _number("retry_jitter", options["retry_jitter"], at_least=0.0, at_most=1.0)
        if "retry_on_timeout" in options:
            if not isinstance(options["retry_on_timeout"], bool):
                raise ConfigurationError(f"retry_on_timeout must be a bool, got {options['retry_on_timeout']!r}")
            changes["on_timeout"] = options["retry_on_timeout"]
        return self._replace(**changes)

    def to_json(self) -> str:
        """Return the policy as JSON text, as a job's row keeps it."""
        import json  # takes 2 ms of import time, which only options for single calls need

        return json.dumps(self._asdict())

    @classmethod
    def from_json(cls, text: str) -> RetryPolicy:
        """Return the policy that `to_json` wrote.

        Raises:
            ConfigurationError: it is something else.
        """
        import json

        try:
            values = json.loads(text)
            policy = cls(**{**values, "on": tuple(values["on"])})
            if not all(isinstance(name, str) for name in policy.on) or not isinstance(policy.on_timeout, bool):
                raise ValueError("on must be names, on_timeout true or false")
            seconds("delay", policy.delay)
            seconds("max_delay", policy.max_delay)
            _number("backoff", policy.backoff, at_least=1.0, at_most=float("inf"))
            _number("jitter", policy.jitter, at_least=0.0, at_most=1.0)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ConfigurationError(f"a stored retry policy makes no sense: {error}; got {text[:200]!r}") from error
        return policy

    @classmethod
    def stored(cls, text: str | None, default: RetryPolicy) -> RetryPolicy:
        """Return the policy of a row; `default` where it has none, or rubbish: a worker must outlive its rows."""
        if text is None:
            return default
        try:
            return cls.from_json(text)
        except ConfigurationError:
            return default


def _exception_names(value: Any) -> tuple[str, ...]:
    types = value if isinstance(value, tuple | list) else (value,)
    for cls in types:
        if not (isinstance(cls, type) and issubclass(cls, BaseException)):
            raise ConfigurationError(f"retry_on must be an exception type or a tuple of them, got {cls!r}")
    return tuple(qualified_name(cls) for cls in types)


def _number(option: str, value: Any, *, at_least: float, at_most: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not at_least <= value <= at_most:
        raise ConfigurationError(f"{option} must be a number from {at_least:g} to {at_most:g}, got {value!r}")
    return float(value)
