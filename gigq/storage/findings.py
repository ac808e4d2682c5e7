"""What `gigq doctor` finds."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class Level(StrEnum):
    """How bad a finding is."""

    OK = "ok"
    NOTE = "note"  # worth knowing; nothing is broken
    PROBLEM = "problem"


class Finding(NamedTuple):
    """One line of the doctor's."""

    check: str  # what was looked at, in a word or two
    level: Level
    text: str
    advice: str = ""  # what to do, where something is to be done


def ok(check: str, text: str) -> Finding:
    """Return a finding that all is well."""
    return Finding(check, Level.OK, text)


def note(check: str, text: str, advice: str = "") -> Finding:
    """Return a finding that is worth knowing."""
    return Finding(check, Level.NOTE, text, advice)


def problem(check: str, text: str, advice: str) -> Finding:
    """Return a finding that somebody must do something about."""
    return Finding(check, Level.PROBLEM, text, advice)
