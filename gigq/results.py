"""Reading stored results, checked first where there is a key."""

from __future__ import annotations

from gigq.signing import Signer
from gigq.storage.base import Storage


def read_result(storage: Storage, signer: Signer | None, job_id: str) -> bytes | None:
    """Return the pickled result of a completed job, None if it returned None.

    Raises:
        JobNotFound: there is no such job.
        SignatureError: there is a key, and the result is not signed with it for this job.
    """
    data = storage.result(job_id)
    return data if signer is None else signer.check_result(data, job_id, storage.get(job_id).task)
