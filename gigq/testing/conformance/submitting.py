"""Storing new jobs: all or none, in order, with parents that must exist."""

from __future__ import annotations

import pytest

from gigq.errors import AlreadySubmitted, DependencyError, JobNotFound
from gigq.states import JobState
from gigq.storage.leases import End
from gigq.storage.rows import When
from gigq.testing.conformance.base import StorageTests
from gigq.testing.harness import Harness, new_job


class Submitting(StorageTests):
    """`Storage.submit`."""

    def test_a_submitted_job_reads_back_as_it_was_given(self, harness: Harness) -> None:
        job = new_job(
            "pack", queue="q", priority=7, max_attempts=5, timeout=2.5, policy='{"a": 1}', workflow=("flow", "f1")
        )
        harness.storage.submit([job])
        row = harness.storage.get(job.id)
        for field in {*row._fields} & {*job._fields}:
            assert getattr(row, field) == getattr(job, field), field
        assert (row.state, row.attempts, row.claims, row.unmet) == (JobState.PENDING, 0, 0, 0)
        assert row.submitted_at == harness.clock.now()
        assert (row.worker, row.due_at, row.claimed_at, row.finished_at, row.error) == (None,) * 5
        assert harness.storage.arguments(job.id) == b"arguments"

    def test_jobs_are_numbered_in_the_order_of_submission(self, harness: Harness) -> None:
        jobs = [new_job(str(number)) for number in range(5)]
        harness.storage.submit(jobs[:3])
        harness.storage.submit(jobs[3:])
        seqs = [harness.storage.get(job.id).seq for job in jobs]
        assert seqs == sorted(seqs)

    def test_submitting_nothing_stores_nothing(self, harness: Harness) -> None:
        harness.storage.submit([])
        assert sum(harness.storage.stats().values()) == 0

    def test_parents_may_stand_anywhere_in_the_batch(self, harness: Harness) -> None:
        parent = new_job("parent")
        child = new_job("child", parents=[parent.id])
        harness.storage.submit([child, parent])
        assert harness.claimed_ids() == [parent.id]
        assert harness.storage.get(child.id).unmet == 1

    def test_an_unknown_parent_stores_none_of_the_batch(self, harness: Harness) -> None:
        good, bad = new_job("good"), new_job("bad", parents=["no-such-job"])
        with pytest.raises(DependencyError, match="no-such-job"):
            harness.storage.submit([good, bad])
        assert harness.storage.states([good.id, bad.id]) == {}

    def test_an_id_that_is_stored_already_stores_none_of_the_batch(self, harness: Harness) -> None:
        first = harness.submit()
        other = new_job("other")
        with pytest.raises(AlreadySubmitted):
            harness.storage.submit([other, new_job("again", id=first)])
        assert harness.storage.states([other.id]) == {}
        assert harness.storage.get(first).name == "job"

    def test_one_id_twice_in_a_batch_stores_none_of_it(self, harness: Harness) -> None:
        job = new_job()
        with pytest.raises(AlreadySubmitted):
            harness.storage.submit([job, job])
        with pytest.raises(JobNotFound):
            harness.storage.get(job.id)

    def test_a_failed_submission_leaves_the_storage_usable(self, harness: Harness) -> None:
        with pytest.raises(DependencyError):
            harness.storage.submit([new_job(parents=["no-such-job"])])
        assert harness.claimed_ids() == []
        job = harness.submit()
        assert harness.claimed_ids() == [job]

    def test_a_parent_that_has_completed_holds_nobody_back(self, harness: Harness) -> None:
        parent = harness.submit()
        harness.run(parent)
        child = harness.submit(parents=[parent])
        assert harness.storage.get(child).unmet == 0
        assert harness.claimed_ids() == [child]

    def test_a_parent_that_has_failed_cancels_the_new_job_with_the_reason(self, harness: Harness) -> None:
        parent = harness.submit("parent")
        harness.run(parent, End.FAILED)
        child = new_job("child", parents=[parent])
        grandchild = new_job("grandchild", parents=[child.id])
        harness.storage.submit([grandchild, child])
        row = harness.storage.get(child.id)
        assert row.state is JobState.CANCELLED
        assert row.error is not None
        assert parent in row.error
        assert "FAILED" in row.error
        assert harness.state(grandchild.id) is JobState.CANCELLED
        assert row.finished_at == harness.clock.now()

    def test_an_ended_parent_settles_new_jobs_only(self, harness: Harness) -> None:
        parent, other = harness.submit("parent"), harness.submit("other")
        older = harness.submit("older", parents=[parent, other])
        harness.run(parent)
        newer = harness.submit("newer", parents=[parent, other])
        assert harness.storage.get(older).unmet == 1
        assert harness.storage.get(newer).unmet == 1

    def test_a_job_that_waits_for_success_and_for_another_failure_falls_with_the_first_bad_end(
        self, harness: Harness
    ) -> None:
        good, other = harness.submit("good"), harness.submit("other")
        harness.run(good)
        child = harness.submit(parents={good: When.FAILURE, other: When.SUCCESS})
        assert harness.state(child) is JobState.CANCELLED
        assert "not needed" in (harness.storage.get(child).error or "")
