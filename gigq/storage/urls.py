"""What names a database: a path or a URL. Imported when the first app or queue is made, not by `import gigq`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final, Literal, cast
from urllib.parse import quote, unquote, urlsplit

from gigq.errors import ConfigurationError

Journal = Literal["wal", "delete"]
"""SQLite's write-ahead log, or a rollback journal, which also works where several hosts share a file."""

DEFAULT_URL: Final = "gigq.db"

_WISHES: Final = ("shared=yes", "journal=delete", "journal=wal")


def resolve_url(url: str | os.PathLike[str] | None) -> str:
    """Return a full `sqlite:///` URL for a path or URL; without one, for `$GIGQ_URL`, else for `gigq.db`.

    A relative path becomes absolute here, so that a later `chdir` does not point the program at another file.

    `?journal=delete` or `?journal=wal` after it asks for one of SQLite's journals.

    Raises:
        ConfigurationError: the URL's scheme is not one that gigq knows, or something else is asked for.
    """
    if url is not None and not isinstance(url, str | os.PathLike):
        raise ConfigurationError(f"the database must be a path or a URL, got {url!r}")
    text = os.fspath(url) if url is not None else os.environ.get("GIGQ_URL") or DEFAULT_URL
    if not text:
        raise ConfigurationError("the database must be a path or a URL, got an empty string")
    if "://" not in text:
        return sqlite_url(Path(text))
    parts = urlsplit(text)
    if parts.scheme != "sqlite":
        raise ConfigurationError(f"the database must be a path or a sqlite:/// URL, got scheme {parts.scheme!r}")
    if parts.netloc or not parts.path.strip("/") or parts.fragment:
        raise ConfigurationError(f"expected sqlite:///relative/path.db or sqlite:////absolute/path.db, got {text!r}")
    return sqlite_url(sqlite_path(text), shared=is_shared(text), journal=sqlite_journal(text))


def sqlite_url(path: Path, *, shared: bool = False, journal: Journal | None = None) -> str:
    """Return the URL of a file, with what is asked for."""
    wishes = ["shared=yes"] * shared + ([] if journal is None else [f"journal={journal}"])
    # Resolved, so that one file has one URL however it is written: jobs of two URLs cannot depend on each other.
    return "sqlite:///" + quote(str(path.resolve())) + ("?" + "&".join(wishes) if wishes else "")


def is_shared(url: str) -> bool:
    """Return whether a URL says that others may write its database."""
    return "shared" in _wishes(url)


def sqlite_journal(url: str) -> Journal | None:
    """Return which journal a URL asks for."""
    return cast("Journal | None", _wishes(url).get("journal"))


def _wishes(url: str) -> dict[str, str]:
    """Return what a URL asks for after its question mark.

    Raises:
        ConfigurationError: there is something that is not known.
    """
    wishes = [wish for wish in urlsplit(url).query.split("&") if wish]
    if unknown := set(wishes) - {*_WISHES}:
        raise ConfigurationError(
            f"after the ? of a database's URL only {', '.join(_WISHES)} are known (joined by &), got {min(unknown)!r}"
        )
    return dict(wish.split("=") for wish in wishes)


def sqlite_path(url: str) -> Path:
    """Return the file that a `sqlite:///` URL names: as everywhere, a fourth slash makes the path absolute."""
    return Path(unquote(urlsplit(url).path[1:]))
