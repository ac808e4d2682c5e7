"""Engines that keep jobs, behind one protocol: `open_storage(url)` returns the one that a URL names."""

from __future__ import annotations

from typing import Literal

from gigq.storage.base import Storage

Durability = Literal["power", "process"]
"""What a committed job survives: a power cut, or only the death of every process."""


def open_storage(url: str, *, durability: Durability = "power") -> Storage:
    """Return the storage that a resolved URL names. Nothing is opened before its first use."""
    # Both cost import time that `import gigq` must not.
    from gigq.storage.sqlite import SqliteStorage
    from gigq.storage.urls import is_shared, sqlite_path

    return SqliteStorage(sqlite_path(url), durability=durability, shared=is_shared(url))
