"""The pipe by which threads and signals interrupt a loop's sleep."""

from __future__ import annotations

import os


def open_wake_pipe() -> tuple[int, int]:
    """Return the two ends, to read and to write; neither blocks, and no program that is started inherits them."""
    ends = os.pipe()  # not pipe2, which macOS does not have
    for end in ends:
        os.set_blocking(end, False)
    return ends
