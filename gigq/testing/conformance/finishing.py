"""The ends of attempts: what each does to its job, to its dependants and to the record of executions."""

from __future__ import annotations

import pytest

from gigq.payload import Failure
from gigq.states import JobState
from gigq.storage.leases import ClaimRequest, End
from gigq.testing.conformance.base import StorageTests
from gigq.testing.harness import TASK, Harness, outcome


class Finishing(StorageTests):
    """`Storage.finish`."""

    def test_a_completed_job_keeps_its_result_and_one_execution(self, harness: Harness) -> None:
        job_id = harness.submit()
        job = harness.claim_one()
        harness.clock.advance(3)
        harness.end(job, result=b"result")
        row = harness.storage.get(job_id)
        assert (row.state, row.finished_at, row.error) == (JobState.COMPLETED, harness.clock.now(), None)
        assert harness.storage.result(job_id) == b"result"
        (execution,) = harness.storage.executions(job_id)
        assert execution[:6] == (job_id, 1, 1, "w1", 99, JobState.COMPLETED)

    def test_a_result_of_none_takes_no_place(self, harness: Harness) -> None:
        job_id = harness.submit()
        harness.run(job_id)
        assert harness.storage.result(job_id) is None

    @pytest.mark.parametrize(
        ("end", "state"),
        [
            (End.FAILED, JobState.FAILED),
            (End.TIMED_OUT, JobState.TIMEOUT),
            (End.LOST, JobState.FAILED),
            (End.CANCELLED, JobState.CANCELLED),
        ],
    )
    def test_without_another_attempt_the_job_ends_as_its_attempt_did(
        self, harness: Harness, end: End, state: JobState
    ) -> None:
        job_id = harness.submit()
        harness.end(harness.claim_one(), end, reason="boom")
        row = harness.storage.get(job_id)
        assert (row.state, row.error, row.finished_at) == (state, "boom", harness.clock.now())
        (execution,) = harness.storage.executions(job_id)
        assert Failure.from_json(execution.error or "").message == "boom"

    def test_a_retry_waits_for_its_delay_and_is_the_next_attempt(self, harness: Harness) -> None:
        job_id = harness.submit()
        harness.end(harness.claim_one(), End.FAILED, reason="boom", retry_in=7)
        row = harness.storage.get(job_id)
        assert (row.state, row.due_at, row.error) == (JobState.PENDING, harness.clock.now() + 7, "boom")
        assert row.finished_at is None
        assert harness.claim() == []
        harness.clock.advance(7)
        again = harness.claim_one()
        assert (again.id, again.attempt, again.claims) == (job_id, 2, 2)

    def test_a_retry_without_a_delay_is_ready_at_once(self, harness: Harness) -> None:
        job_id = harness.submit()
        harness.end(harness.claim_one(), End.FAILED, retry_in=0)
        assert harness.claimed_ids() == [job_id]

    @pytest.mark.parametrize("end", [End.FAILED, End.TIMED_OUT, End.LOST])
    def test_attempts_never_exceed_max_attempts(self, harness: Harness, end: End) -> None:
        job_id = harness.submit(max_attempts=3)
        runs = 0
        while claimed := harness.claim():
            runs += 1
            harness.end(claimed[0], end, reason="boom", retry_in=0)
        assert runs == 3
        assert harness.storage.get(job_id).attempts == 3
        assert harness.state(job_id) is (JobState.TIMEOUT if end is End.TIMED_OUT else JobState.FAILED)
        assert [e.attempt for e in harness.storage.executions(job_id)] == [1, 2, 3]

    @pytest.mark.parametrize("started", [True, False])
    def test_a_release_gives_the_attempt_back(self, harness: Harness, started: bool) -> None:
        job_id = harness.submit(max_attempts=2)
        harness.end(harness.claim_one(), End.RELEASED, started=started)
        row = harness.storage.get(job_id)
        assert (row.state, row.attempts, row.claims) == (JobState.PENDING, 0, 1)
        again = harness.claim_one()
        assert (again.attempt, again.claims) == (1, 2)

    def test_a_release_of_what_had_not_started_is_no_execution(self, harness: Harness) -> None:
        job_id = harness.submit()
        harness.end(harness.claim_one(), End.RELEASED, started=False)
        assert harness.storage.executions(job_id) == []
        harness.end(harness.claim_one(), End.RELEASED)
        assert [e.state for e in harness.storage.executions(job_id)] == [JobState.CANCELLED]

    def test_a_release_of_a_started_last_attempt_fails_the_job(self, harness: Harness) -> None:
        job_id = harness.submit(max_attempts=1)
        harness.end(harness.claim_one(), End.RELEASED)
        row = harness.storage.get(job_id)
        assert (row.state, row.error, row.attempts) == (JobState.FAILED, "worker shut down", 1)
        assert row.finished_at == harness.clock.now()

    def test_a_release_of_an_unstarted_last_attempt_leaves_it_to_others(self, harness: Harness) -> None:
        job_id = harness.submit(max_attempts=1)
        harness.end(harness.claim_one(), End.RELEASED, started=False)
        assert harness.claimed_ids() == [job_id]

    def test_outcomes_and_the_next_claim_share_one_transaction(self, harness: Harness) -> None:
        first = harness.submit()
        second = harness.submit(parents=[first])
        job = harness.claim_one()
        finished = harness.storage.finish(
            "w1", [outcome(job, End.COMPLETED, harness.clock.now())], ClaimRequest("w1", 5, (TASK,))
        )
        assert finished.claimed is not None
        assert [claimed.id for claimed in finished.claimed.jobs] == [second]

    def test_without_a_request_nothing_is_claimed(self, harness: Harness) -> None:
        harness.submit()
        harness.submit()
        assert harness.end(harness.claim_one()).claimed is None
        assert harness.storage.stats()[JobState.PENDING] == 1

    def test_finishing_nothing_still_claims(self, harness: Harness) -> None:
        job_id = harness.submit()
        harness.register("w1")
        finished = harness.storage.finish("w1", [], ClaimRequest("w1", 5, (TASK,)))
        assert finished.claimed is not None
        assert [job.id for job in finished.claimed.jobs] == [job_id]

    def test_many_ends_of_all_kinds_are_recorded_together(self, harness: Harness) -> None:
        ids = [harness.submit(str(end)) for end in End]
        jobs = harness.claim()
        now = harness.clock.now()
        harness.storage.finish("w1", [outcome(job, end, now) for job, end in zip(jobs, End, strict=True)])
        assert [harness.state(job_id) for job_id in ids] == [
            JobState.COMPLETED,
            JobState.FAILED,
            JobState.TIMEOUT,
            JobState.FAILED,
            JobState.PENDING,
            JobState.CANCELLED,
        ]

    def test_progress_of_a_running_job_is_shown_and_forgotten_with_the_next_attempt(self, harness: Harness) -> None:
        job_id = harness.submit()
        job = harness.claim_one()
        harness.storage.report_progress("w1", [(job.seq, job.claims, 0.25, "a quarter")])
        row = harness.storage.get(job_id)
        assert (row.progress, row.progress_message) == (0.25, "a quarter")
        harness.end(job, End.FAILED, retry_in=0)
        harness.claim_one()
        assert harness.storage.get(job_id).progress is None
