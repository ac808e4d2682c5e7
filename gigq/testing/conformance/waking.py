"""Waking workers: whoever is registered when work arrives hears of it at once."""

from __future__ import annotations

import select
from collections.abc import Iterator

import pytest

from gigq.storage.base import Listener
from gigq.storage.leases import End
from gigq.testing.conformance.base import StorageTests
from gigq.testing.harness import Harness, new_job

HEARD_WITHIN_SECONDS = 5.0


class Waking(StorageTests):
    """`Storage.listen`, and the verbs that wake."""

    @pytest.fixture
    def listener(self, harness: Harness) -> Iterator[Listener]:
        """Return the ears of worker w1, which registered after others had submitted jobs."""
        harness.submit()
        listener = harness.storage.listen("w1")
        if listener.address is None:
            pytest.skip("this storage cannot wake workers on this system")
        harness.register("w1", address=listener.address)
        yield listener
        listener.close()

    def heard(self, listener: Listener) -> bool:
        """Wait for a wake-up, and forget it."""
        ready, _, _ = select.select([listener.fileno()], [], [], HEARD_WITHIN_SECONDS)
        listener.drain()
        return bool(ready)

    def test_a_submission_wakes_a_worker_that_has_just_started(self, harness: Harness, listener: Listener) -> None:
        harness.storage.submit([new_job()])
        assert self.heard(listener)

    def test_a_retry_wakes(self, harness: Harness, listener: Listener) -> None:
        job = harness.claim_one("w2")
        harness.end(job, End.FAILED, worker="w2")
        harness.storage.retry(job.id)
        assert self.heard(listener)

    def test_a_release_wakes_the_others(self, harness: Harness, listener: Listener) -> None:
        harness.end(harness.claim_one("w2"), End.RELEASED, worker="w2", started=False)
        assert self.heard(listener)

    def test_a_request_to_cancel_wakes_the_worker_that_runs_the_job(self, harness: Harness, listener: Listener) -> None:
        job = harness.claim_one("w1")
        harness.storage.cancel(job.id, "not today")
        assert self.heard(listener)

    def test_no_worker_is_woken_that_has_stopped(self, harness: Harness, listener: Listener) -> None:
        harness.storage.unregister("w1")
        harness.storage.submit([new_job()])
        ready, _, _ = select.select([listener.fileno()], [], [], 0.1)
        assert not ready
