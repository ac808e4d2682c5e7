"""Text from the database, or from tasks, made safe for a terminal and for a log."""

from __future__ import annotations

import unicodedata
from typing import Final

# Controls (line ends and the escapes of terminals among them), format characters (marks that reorder text, zero-width
# ones), halves of surrogate pairs, and Unicode's own line and paragraph ends.
_UNSAFE: Final = ("Cc", "Cf", "Cs", "Zl", "Zp")


def plain(value: object) -> str:
    """Return `value` as one line of text in which nothing moves a cursor or reorders what is read."""
    text = str(value)
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        character if unicodedata.category(character) not in _UNSAFE else _spelled(character) for character in text
    )


def _spelled(character: str) -> str:
    return character.encode("unicode_escape", "backslashreplace").decode("ascii")
