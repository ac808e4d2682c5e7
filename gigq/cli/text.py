"""Lengths of time and instants as text for people."""

from __future__ import annotations

from typing import Final

_UNITS: Final = ((86400.0, "d"), (3600.0, "h"), (60.0, "min"))


def duration(seconds: float) -> str:
    """Return a length of time in its largest fitting unit: `0.3 ms`, `2.5 s`, `4 min`, `3 h`, `12 d`."""
    for size, unit in _UNITS:
        if abs(seconds) >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.3g} s" if abs(seconds) >= 1 else f"{seconds * 1000:.3g} ms"


def age(instant: float, now: float) -> str:
    """Return how long ago an instant was, or in how long it will be. Clocks of two programs may differ a little."""
    passed = now - instant
    if abs(passed) < 1:
        return "just now"
    length = duration(round(abs(passed)))
    return f"{length} ago" if passed > 0 else f"in {length}"
