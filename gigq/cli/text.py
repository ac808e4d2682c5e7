"""Text from the database, made safe for a terminal."""

from __future__ import annotations

import unicodedata


def plain(value: object) -> str:
    """Return `value` as text in which control characters and marks that reorder text are spelled out."""
    return "".join(
        character if unicodedata.category(character) not in ("Cc", "Cf", "Cs", "Zl", "Zp") else _spelled(character)
        for character in str(value)
    )


def _spelled(character: str) -> str:
    return character.encode("unicode_escape", "backslashreplace").decode("ascii")
