"""Engines that keep jobs, behind one protocol: `open_storage(url)` returns the one that a URL names."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final, Literal
from urllib.parse import quote, unquote, urlsplit

from gigq.errors import ConfigurationError
from gigq.storage.base import Storage

Durability = Literal["power", "process"]
"""What a committed job survives: a power cut, or only the death of every process."""

DEFAULT_URL: Final = "gigq.db"


def resolve_url(url: str | os.PathLike[str] | None) -> str:
    """Return a full `sqlite:///` URL for a path or URL; without one, for `$GIGQ_URL`, else for `gigq.db`.

    A relative path becomes absolute here, so that a later `chdir` does not point the program at another file.

    Raises:
        ConfigurationError: the URL's scheme is not one that gigq knows.
    """
    text = os.fspath(url) if url is not None else os.environ.get("GIGQ_URL") or DEFAULT_URL
    if not text:
        raise ConfigurationError("the database must be a path or a URL, got an empty string")
    if "://" not in text:
        return _sqlite_url(Path(text))
    parts = urlsplit(text)
    if parts.scheme != "sqlite":
        raise ConfigurationError(f"the database must be a path or a sqlite:/// URL, got scheme {parts.scheme!r}")
    if parts.netloc or not parts.path.strip("/") or parts.query or parts.fragment:
        raise ConfigurationError(f"expected sqlite:///relative/path.db or sqlite:////absolute/path.db, got {text!r}")
    return _sqlite_url(sqlite_path(text))


def _sqlite_url(path: Path) -> str:
    return "sqlite:///" + quote(str(path.absolute()))


def sqlite_path(url: str) -> Path:
    """Return the file that a `sqlite:///` URL names: as everywhere, a fourth slash makes the path absolute."""
    return Path(unquote(urlsplit(url).path[1:]))


def open_storage(url: str, *, durability: Durability = "power") -> Storage:
    """Return the storage that a resolved URL names. Nothing is opened before its first use."""
    from gigq.storage.sqlite import SqliteStorage  # sqlite3 costs import time that defining tasks does not need

    return SqliteStorage(sqlite_path(url), durability=durability)
