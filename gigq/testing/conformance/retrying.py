"""A person's retry: the job comes back, and with it what fell with it."""

from __future__ import annotations

import pytest

from gigq.errors import IllegalTransition, JobNotFound
from gigq.states import JobState
from gigq.storage.leases import End
from gigq.storage.rows import When
from gigq.testing.conformance.base import StorageTests
from gigq.testing.harness import Harness


class Retrying(StorageTests):
    """`Storage.retry`."""

    @pytest.mark.parametrize("end", [End.FAILED, End.TIMED_OUT, End.CANCELLED])
    def test_a_job_that_ended_badly_starts_again_with_all_its_attempts(self, harness: Harness, end: End) -> None:
        job_id = harness.submit(max_attempts=1)
        harness.run(job_id, end)
        assert harness.storage.retry(job_id) is JobState.PENDING
        row = harness.storage.get(job_id)
        assert (row.state, row.attempts, row.error, row.finished_at) == (JobState.PENDING, 0, None, None)
        job = harness.claim_one()
        assert (job.id, job.attempt, job.claims) == (job_id, 1, 2)
        harness.end(job)
        assert [e.claims for e in harness.storage.executions(job_id)] == [1, 2]

    def test_a_completed_job_cannot_be_retried(self, harness: Harness) -> None:
        job_id = harness.submit()
        harness.run(job_id)
        with pytest.raises(IllegalTransition, match="COMPLETED"):
            harness.storage.retry(job_id)

    def test_a_job_that_has_not_ended_cannot_be_retried(self, harness: Harness) -> None:
        job_id = harness.submit()
        with pytest.raises(IllegalTransition, match="PENDING"):
            harness.storage.retry(job_id)
        harness.claim_one()
        with pytest.raises(IllegalTransition, match="RUNNING"):
            harness.storage.retry(job_id)

    def test_a_branch_that_was_not_taken_cannot_be_retried(self, harness: Harness) -> None:
        parent = harness.submit()
        child = harness.submit(parents={parent: When.FAILURE})
        harness.run(parent)
        with pytest.raises(IllegalTransition, match="is COMPLETED: it runs only when that one fails"):
            harness.storage.retry(child)

    def test_a_dependant_given_back_after_its_parent_ended_otherwise_falls(self, harness: Harness) -> None:
        parent = harness.submit()
        child = harness.submit(parents={parent: When.FAILURE})
        grandchild = harness.submit(parents=[child])
        harness.run(parent, End.FAILED)
        running = harness.claim_one("w2")
        harness.storage.retry(parent)
        harness.run(parent)
        harness.end(running, End.RELEASED, worker="w2")
        assert (running.id, harness.state(child)) == (child, JobState.CANCELLED)
        assert "not needed" in (harness.storage.get(child).error or "")
        assert harness.state(grandchild) is JobState.CANCELLED

    def test_a_wide_graph_that_fell_comes_back_whole(self, harness: Harness) -> None:
        root = harness.submit()
        middle = [harness.submit(parents=[root]) for _ in range(30)]
        last = harness.submit(parents=[root, *middle])
        harness.run(root, End.FAILED)
        harness.storage.retry(root)
        assert {harness.state(job_id) for job_id in (root, last, *middle)} == {JobState.PENDING}
        harness.run(root)
        for job_id in (*middle, last):
            harness.run(job_id)

    def test_an_unknown_job_cannot_be_retried(self, harness: Harness) -> None:
        with pytest.raises(JobNotFound):
            harness.storage.retry("no-such-job")

    def test_a_request_to_cancel_does_not_outlive_the_retry(self, harness: Harness) -> None:
        job_id = harness.submit()
        job = harness.claim_one()
        harness.storage.cancel(job_id, "not today")
        harness.end(job, End.CANCELLED)
        harness.storage.retry(job_id)
        harness.claim_one()
        assert harness.storage.finish("w1", []).cancel == []

    def test_what_fell_with_a_job_comes_back_with_it_all_the_way_down(self, harness: Harness) -> None:
        chain = [harness.submit()]
        for _ in range(5):
            chain.append(harness.submit(parents=[chain[-1]]))
        harness.run(chain[0], End.FAILED)
        harness.storage.retry(chain[0])
        for job_id in chain:
            harness.run(job_id)

    def test_what_a_person_cancelled_does_not_come_back_with_its_parent(self, harness: Harness) -> None:
        parent = harness.submit()
        child = harness.submit(parents=[parent])
        harness.storage.cancel(child, "not today")
        harness.run(parent, End.FAILED)
        harness.storage.retry(parent)
        assert harness.state(child) is JobState.CANCELLED

    def test_what_fell_with_two_comes_back_with_the_last_of_them(self, harness: Harness) -> None:
        parents = [harness.submit(max_attempts=1) for _ in range(2)]
        child = harness.submit(parents=parents)
        for parent in parents:
            harness.run(parent, End.FAILED)
        for parent in parents[::-1]:
            assert harness.state(child) is JobState.CANCELLED
            harness.storage.retry(parent)
        assert (harness.state(child), harness.storage.get(child).unmet) == (JobState.PENDING, 2)

    def test_a_job_cannot_be_retried_while_what_it_needs_has_failed(self, harness: Harness) -> None:
        parent = harness.submit("parent")
        child = harness.submit(parents=[parent])
        harness.run(parent, End.FAILED)
        with pytest.raises(IllegalTransition, match=parent):
            harness.storage.retry(child)
        assert harness.state(child) is JobState.CANCELLED

    def test_a_cancelled_dependant_waits_again_for_a_parent_that_is_still_to_run(self, harness: Harness) -> None:
        parent = harness.submit()
        child = harness.submit(parents=[parent])
        harness.storage.cancel(child, "not today")
        harness.storage.retry(child)
        assert harness.storage.get(child).unmet == 1
        harness.run(parent)
        harness.run(child)

    def test_a_dependant_that_had_been_released_waits_again(self, harness: Harness) -> None:
        parent = harness.submit()
        child = harness.submit(parents={parent: When.FAILURE})
        harness.run(parent, End.FAILED)
        harness.storage.retry(parent)
        assert harness.storage.get(child).unmet == 1
        harness.run(parent)
        assert harness.state(child) is JobState.CANCELLED

    def test_a_dependant_that_has_run_stays_as_it_is(self, harness: Harness) -> None:
        parent = harness.submit()
        child = harness.submit(parents={parent: When.ALWAYS})
        harness.run(parent, End.FAILED)
        harness.run(child)
        harness.storage.retry(parent)
        assert harness.state(child) is JobState.COMPLETED
        harness.run(parent)
        assert harness.state(child) is JobState.COMPLETED

    @pytest.mark.parametrize("end", [End.FAILED, End.LOST, End.RELEASED])
    def test_a_dependant_that_runs_while_its_parent_is_retried_waits_for_it_before_its_next_attempt(
        self, harness: Harness, end: End
    ) -> None:
        parent = harness.submit(max_attempts=1)
        child = harness.submit(parents={parent: When.FAILURE})
        harness.run(parent, End.FAILED)
        running = harness.claim_one()
        assert running.id == child
        harness.storage.retry(parent)
        harness.end(running, end, retry_in=0)
        assert harness.storage.get(child).unmet == 1
        harness.run(parent, End.FAILED)
        harness.run(child)

    def test_a_dependant_that_ran_meanwhile_is_not_held_up_by_a_parent_that_ended_again(self, harness: Harness) -> None:
        parent = harness.submit()
        child = harness.submit(parents={parent: When.ALWAYS})
        harness.run(parent, End.FAILED)
        running = harness.claim_one()
        harness.storage.retry(parent)
        harness.run(parent)
        harness.end(running, End.FAILED, retry_in=0)
        harness.run(child)

    def test_a_job_of_two_revived_parents_waits_for_each_of_them_once(self, harness: Harness) -> None:
        root = harness.submit("root")
        always, success = harness.submit(parents=[root]), harness.submit(parents=[root])
        child = harness.submit(parents={always: When.ALWAYS, success: When.SUCCESS})
        harness.run(root, End.FAILED)
        assert harness.state(child) is JobState.CANCELLED
        harness.storage.retry(root)
        assert harness.storage.get(child).unmet == 2
        for job_id in (root, always, success, child):
            harness.run(job_id)

    def test_a_job_that_fell_before_its_time_still_waits_for_it(self, harness: Harness) -> None:
        parent = harness.submit()
        child = harness.submit(delay=60, parents=[parent])
        harness.run(parent, End.FAILED)
        harness.storage.retry(parent)
        harness.run(parent)
        assert harness.claim() == []
        harness.clock.advance(60)
        assert harness.claimed_ids() == [child]

    def test_a_retry_by_a_person_does_not_wait_for_the_delay_of_a_failed_attempt(self, harness: Harness) -> None:
        job_id = harness.submit()
        harness.end(harness.claim_one(), End.FAILED, retry_in=60)
        harness.storage.cancel(job_id, "not today")
        harness.storage.retry(job_id)
        assert harness.claimed_ids() == [job_id]
