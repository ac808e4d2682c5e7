"""Job ids: UUIDs of version 7 (RFC 9562, section 5.7), which begin with the time.

Ids made together sort together, so that the database's indexes grow at their end instead of everywhere.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable


def new_id(now_ns: Callable[[], int] = time.time_ns) -> str:
    """Return a new UUID as text; its first 60 bits are the time, the rest are random."""
    # RFC 9562, section 6.2, method 3: the 12 bits after the milliseconds hold the fraction of the millisecond.
    milliseconds, rest = divmod(now_ns(), 1_000_000)
    random = int.from_bytes(os.urandom(8), "big") & 0x3FFF_FFFF_FFFF_FFFF
    text = f"{milliseconds:012x}7{rest * 4096 // 1_000_000:03x}{random | 0x8000_0000_0000_0000:016x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
