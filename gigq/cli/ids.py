"""Ids as people type them: whole, or a part that only one job has."""

from __future__ import annotations

from typing import Final

import click

from gigq.errors import JobNotFound
from gigq.plain import plain
from gigq.storage.base import Storage

LEAST_START: Final = 4  # characters; a shorter one is more likely a slip than an id
LEAST_END: Final = 8  # characters of 4 bits: that any of 100,000 other jobs ends alike happens once in 43,000 times
_NAMED_AT_MOST: Final = 2  # so that the error stays one line


def whole_id(storage: Storage, part: str) -> str:
    """Return the id of the one job whose id is `part`, begins with it, or ends with it.

    Ids begin with the time, so those of jobs that were submitted together begin alike, and only what is random at
    their end tells them apart: that is why both are taken. A beginning goes first. Endings are looked for among the
    latest jobs only; see `Storage.find_ids`.

    Raises:
        JobNotFound: no job has such an id.
        click.ClickException: several have, or `part` is too short.
    """
    if len(part) < LEAST_START:
        raise click.ClickException(
            f"expected an id, at least its first {LEAST_START} or its last {LEAST_END} characters; got '{plain(part)}'"
        )
    found, side = storage.find_ids(start=part, limit=_NAMED_AT_MOST + 1), "begin"
    if not found and len(part) >= LEAST_END:
        found, side = storage.find_ids(end=part, limit=_NAMED_AT_MOST + 1), "end"
    if not found:
        raise JobNotFound(part)
    if len(found) == 1 or part in found:
        return part if part in found else found[0]
    named = ", ".join(map(plain, found[:_NAMED_AT_MOST]))
    more = ", and more" if len(found) > _NAMED_AT_MOST else ""
    raise click.ClickException(
        f"several ids {side} with {plain(part)} ({named}{more}): give more of one, or its last {LEAST_END} characters"
    )
