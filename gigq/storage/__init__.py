"""Engines that keep jobs, behind one protocol: `open_storage(url)` returns the one that a URL names."""

from __future__ import annotations

from typing import Literal

from gigq.storage.base import Storage

Durability = Literal["power", "process"]
"""What a committed job survives: a power cut, or only the death of every process."""


def open_storage(url: str, *, durability: Durability = "power", must_exist: bool = False) -> Storage:
    """Return the storage that a resolved URL names. Nothing is opened before its first use.

    `must_exist`: an error instead of a new database, for processes that only read what others have stored.
    """
    # Both cost import time that `import gigq` must not.
    from gigq.storage.sqlite import SqliteStorage
    from gigq.storage.urls import is_shared, sqlite_journal, sqlite_path

    return SqliteStorage(
        sqlite_path(url), durability=durability, shared=is_shared(url), journal=sqlite_journal(url),
        must_exist=must_exist,
    )  # fmt: skip
