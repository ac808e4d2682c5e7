"""The two clocks: wall time for what people read and schedule, monotonic time for what is measured.

Everything that measures takes a `Clock`, so that tests can step either of the two by hand.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Clock:
    """Wall time (`now`, UTC epoch seconds) and monotonic time (`monotonic`, seconds)."""

    now: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic


SYSTEM_CLOCK = Clock()
