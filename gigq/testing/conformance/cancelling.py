"""Cancelling: at once while a job is pending, by its worker while it runs, and never after its end."""

from __future__ import annotations

import pytest

from gigq.errors import JobNotFound
from gigq.states import JobState
from gigq.storage.leases import End
from gigq.testing.conformance.base import StorageTests
from gigq.testing.harness import Harness


class Cancelling(StorageTests):
    """`Storage.cancel`."""

    def test_a_pending_job_is_cancelled_at_once(self, harness: Harness) -> None:
        job_id = harness.submit()
        assert harness.storage.cancel(job_id, "not today") is JobState.CANCELLED
        row = harness.storage.get(job_id)
        assert (row.state, row.error, row.finished_at) == (JobState.CANCELLED, "not today", harness.clock.now())
        assert harness.claim() == []

    @pytest.mark.parametrize("delay", [None, 60.0])
    def test_a_job_that_waits_for_its_time_is_cancelled_for_good(self, harness: Harness, delay: float | None) -> None:
        job_id = harness.submit(delay=delay)
        harness.storage.cancel(job_id, "not today")
        harness.clock.advance(100)
        assert harness.claim() == []
        assert harness.storage.stats()[JobState.CANCELLED] == 1

    def test_a_running_job_is_left_to_its_worker(self, harness: Harness) -> None:
        job_id = harness.submit()
        job = harness.claim_one()
        assert harness.storage.cancel(job_id, "not today") is JobState.RUNNING
        assert harness.storage.get(job_id).cancel_requested_at == harness.clock.now()
        assert harness.storage.finish("w1", []).cancel == [(job.seq, job.claims)]
        harness.end(job, End.CANCELLED, reason="Cancelled: while it was running")
        row = harness.storage.get(job_id)
        assert (row.state, row.error) == (JobState.CANCELLED, "not today")
        assert harness.storage.finish("w1", []).cancel == []
        assert [e.state for e in harness.storage.executions(job_id)] == [JobState.CANCELLED]

    def test_other_workers_are_not_told(self, harness: Harness) -> None:
        job_id = harness.submit()
        harness.claim_one("w1")
        harness.storage.cancel(job_id, "not today")
        assert harness.storage.finish("w2", []).cancel == []

    def test_asking_twice_keeps_the_first_time_and_reason(self, harness: Harness) -> None:
        job_id = harness.submit()
        job = harness.claim_one()
        harness.storage.cancel(job_id, "not today")
        asked_at = harness.clock.now()
        harness.clock.advance(5)
        assert harness.storage.cancel(job_id, "really") is JobState.RUNNING
        assert harness.storage.get(job_id).cancel_requested_at == asked_at
        harness.end(job, End.CANCELLED)
        assert harness.storage.get(job_id).error == "not today"

    @pytest.mark.parametrize(
        ("end", "state"),
        [
            (End.COMPLETED, JobState.COMPLETED),
            (End.FAILED, JobState.FAILED),
            (End.TIMED_OUT, JobState.TIMEOUT),
        ],
    )
    def test_an_end_that_came_first_stands(self, harness: Harness, end: End, state: JobState) -> None:
        job_id = harness.submit()
        job = harness.claim_one()
        harness.storage.cancel(job_id, "not today")
        harness.end(job, end, reason="boom")
        row = harness.storage.get(job_id)
        assert (row.state, row.error) == (state, None if end is End.COMPLETED else "boom")
        assert harness.storage.cancel(job_id, "again") is state

    @pytest.mark.parametrize("end", [End.FAILED, End.TIMED_OUT, End.LOST])
    def test_a_job_to_be_cancelled_is_not_tried_again(self, harness: Harness, end: End) -> None:
        job_id = harness.submit()
        job = harness.claim_one()
        harness.storage.cancel(job_id, "not today")
        harness.end(job, end, reason="boom", retry_in=5)
        row = harness.storage.get(job_id)
        assert (row.state, row.finished_at, row.due_at) == (JobState.CANCELLED, harness.clock.now(), None)
        assert row.error == "not today"

    @pytest.mark.parametrize("started", [True, False])
    def test_a_job_to_be_cancelled_that_is_released_is_cancelled(self, harness: Harness, started: bool) -> None:
        job_id = harness.submit()
        job = harness.claim_one()
        harness.storage.cancel(job_id, "not today")
        harness.end(job, End.RELEASED, started=started)
        row = harness.storage.get(job_id)
        assert (row.state, row.attempts, row.error) == (JobState.CANCELLED, 1 if started else 0, "not today")

    def test_a_job_to_be_cancelled_whose_worker_dies_is_cancelled(self, harness: Harness) -> None:
        harness.register()
        job_id = harness.submit()
        harness.claim_one()
        harness.storage.cancel(job_id, "not today")
        (rescued,) = harness.storage.rescue("w1", "silent for 10 s")
        assert rescued.state is JobState.CANCELLED

    def test_an_unknown_job_cannot_be_cancelled(self, harness: Harness) -> None:
        with pytest.raises(JobNotFound, match="no-such-job"):
            harness.storage.cancel("no-such-job", "why not")
