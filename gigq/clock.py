"""The two clocks: wall time for what people read and schedule, monotonic time for what is measured.

Everything that measures takes a `Clock`, so that tests can step either of the two by hand.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import NamedTuple


class Clock(NamedTuple):
    """Wall time (`now`, UTC epoch seconds) and monotonic time (`monotonic`, seconds)."""

    now: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic


def utc_text(instant: float) -> str:
    """Return an instant (UTC epoch seconds) as date and time; one that no calendar of Python's has, as a number."""
    try:
        return datetime.fromtimestamp(instant, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (ValueError, OverflowError, OSError):  # a job may be due in the year 10000
        return f"{instant:.0f} s since 1970"


SYSTEM_CLOCK = Clock()
