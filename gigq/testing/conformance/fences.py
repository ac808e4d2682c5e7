"""Late writers: whoever has lost its lease changes nothing and is told so."""

from __future__ import annotations

import pytest

from gigq.states import JobState
from gigq.storage.leases import ClaimedJob, End
from gigq.testing.conformance.base import StorageTests
from gigq.testing.harness import Harness, outcome


class Fences(StorageTests):
    """Every write about an attempt shows (job, claims, worker)."""

    @pytest.mark.parametrize("end", list(End))
    def test_an_old_lease_writes_nothing_and_is_returned_as_fenced(self, harness: Harness, end: End) -> None:
        job_id, stale = self._lost_lease(harness)
        harness.claim_one("w1")  # the same worker, a new lease
        before = harness.storage.get(job_id)
        late = outcome(stale, end, harness.clock.now(), result=b"late", reason="late", retry_in=0)
        assert harness.storage.finish("w1", [late]).fenced == [late]
        assert harness.storage.get(job_id) == before
        assert harness.storage.result(job_id) is None
        assert [e.claims for e in harness.storage.executions(job_id)] == [1]

    @pytest.mark.parametrize("end", list(End))
    def test_another_worker_cannot_end_a_job(self, harness: Harness, end: End) -> None:
        job_id = harness.submit()
        job = harness.claim_one("w1")
        before = harness.storage.get(job_id)
        foreign = outcome(job, end, harness.clock.now(), result=b"late", retry_in=0)
        assert harness.storage.finish("w2", [foreign]).fenced == [foreign]
        assert harness.storage.get(job_id) == before
        assert harness.storage.executions(job_id) == []

    @pytest.mark.parametrize("end", list(End))
    @pytest.mark.parametrize("first", [End.COMPLETED, End.FAILED, End.TIMED_OUT, End.CANCELLED])
    def test_a_terminal_state_is_recorded_once(self, harness: Harness, first: End, end: End) -> None:
        job_id = harness.submit()
        job = harness.claim_one()
        harness.end(job, first, result=b"first" if first is End.COMPLETED else None)
        before = harness.storage.get(job_id)
        assert len(harness.end(job, end, result=b"second", retry_in=0).fenced) == 1
        assert harness.storage.get(job_id) == before
        assert len(harness.storage.executions(job_id)) == 1
        assert harness.storage.result(job_id) == (b"first" if first is End.COMPLETED else None)

    def test_a_lost_lease_among_good_ones_fences_only_itself(self, harness: Harness) -> None:
        _, stale = self._lost_lease(harness)
        harness.claim_one("w2")
        good = [harness.submit() for _ in range(2)]
        jobs = harness.claim("w1")
        now = harness.clock.now()
        outcomes = [outcome(job, End.COMPLETED, now, result=b"r") for job in (jobs[0], stale, jobs[1])]
        assert harness.storage.finish("w1", outcomes).fenced == [outcomes[1]]
        assert [harness.state(job_id) for job_id in good] == [JobState.COMPLETED] * 2
        assert [harness.storage.result(job_id) for job_id in good] == [b"r", b"r"]

    def test_one_outcome_given_twice_is_recorded_once(self, harness: Harness) -> None:
        job_id = harness.submit()
        ended = outcome(harness.claim_one(), End.COMPLETED, harness.clock.now())
        assert len(harness.storage.finish("w1", [ended, ended]).fenced) == 1
        assert len(harness.storage.executions(job_id)) == 1

    def test_a_fenced_end_releases_and_cancels_no_dependant(self, harness: Harness) -> None:
        job_id, stale = self._lost_lease(harness)
        child = harness.submit(parents=[job_id])
        for end in (End.COMPLETED, End.FAILED):
            harness.end(stale, end)
            assert harness.storage.get(child).unmet == 1
            assert harness.state(child) is JobState.PENDING

    def test_progress_shown_with_an_old_lease_changes_nothing(self, harness: Harness) -> None:
        job_id, stale = self._lost_lease(harness)
        harness.claim_one("w1")
        harness.storage.report_progress("w1", [(stale.seq, stale.claims, 0.9, "late")])
        assert harness.storage.get(job_id).progress is None

    def test_a_lease_is_never_given_out_twice_although_attempts_start_again(self, harness: Harness) -> None:
        harness.submit(max_attempts=1)
        leases = set()
        for _ in range(3):
            job = harness.claim_one()
            leases.add(job.claims)
            assert job.attempt == 1
            harness.end(job, End.FAILED)
            harness.storage.retry(job.id)
        assert len(leases) == 3

    @staticmethod
    def _lost_lease(harness: Harness) -> tuple[str, ClaimedJob]:
        harness.register("w1")
        job_id = harness.submit(max_attempts=5)
        job = harness.claim_one("w1")
        harness.storage.rescue("w1", "silent for 10 s")
        harness.register("w1")  # it has learned of it
        return job_id, job
