"""A clock that stands still until it is told to move."""

from __future__ import annotations

from typing import Final

START: Final = 1_700_000_000.0  # epoch seconds, an instant in November 2023: far from 0, where mistakes hide


class FakeClock:
    """Wall time, stepped by hand. Its methods fit everything that takes a `now` callable."""

    def __init__(self, start: float = START) -> None:
        self._now = start

    def now(self) -> float:
        """Return the time: UTC epoch seconds."""
        return self._now

    def advance(self, seconds: float) -> None:
        """Step the clock; a negative number sets it back."""
        self._now += seconds
