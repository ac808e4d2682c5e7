"""Whether signed payloads are as they were signed, for `gigq doctor --full`. Only hashes them: nothing is loaded."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import Final, NamedTuple

from gigq.errors import SignatureError
from gigq.signing import MARK, Signer
from gigq.storage.findings import Finding, note, ok, problem

_SIGNED: Final = """
SELECT (SELECT count(*) FROM job_arguments WHERE substr(data, 1, :length) = :mark)
     + (SELECT count(*) FROM job_results WHERE substr(data, 1, :length) = :mark)
"""
_CALLS: Final = """
SELECT id, task, queue, timeout, policy, max_attempts, data FROM jobs JOIN job_arguments ON job = seq
"""
_RESULTS: Final = "SELECT id, task, data FROM jobs LEFT JOIN job_results ON job = seq WHERE state = 'COMPLETED'"


class _Call(NamedTuple):
    id: str
    task: str
    queue: str
    timeout: float | None
    policy: str | None
    max_attempts: int


def check_signatures(db: sqlite3.Connection, signer: Signer | None) -> Iterator[Finding]:
    """Check every signature, if there is a key."""
    if signer is None:
        (signed,) = db.execute(_SIGNED, {"length": len(MARK), "mark": MARK}).fetchone()
        if signed:
            yield note("signatures", f"{signed:,} payloads are signed, and without the key they cannot be checked",
                       "give it as the workers have it, by $GIGQ_SECRET_KEY or $GIGQ_SECRET_KEY_FILE")  # fmt: skip
        return
    count, refused = 0, []
    for count, error in enumerate(_errors(db, signer), 1):  # noqa: B007  # the last one is how many there are
        if error is not None:
            refused.append(error)
    if refused:
        yield problem("signatures", f"{len(refused):,} of {count:,} payloads will be refused: {refused[0]}",
                      "find out who wrote them: see the page on security")  # fmt: skip
    else:
        yield ok("signatures", f"those of all {count:,} payloads fit")


def _errors(db: sqlite3.Connection, signer: Signer) -> Iterator[str | None]:
    for *values, data in db.execute(_CALLS):
        try:
            signer.check_arguments(data, _Call(*values))
            yield None
        except SignatureError as error:
            yield str(error)
    for job_id, task, data in db.execute(_RESULTS):
        try:
            signer.check_result(data, job_id, task)
            yield None
        except SignatureError as error:
            yield str(error)
