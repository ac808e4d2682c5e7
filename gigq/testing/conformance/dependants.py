"""What the end of a job does to those that depend on it, all the way down."""

from __future__ import annotations

import pytest

from gigq.states import JobState
from gigq.storage.leases import End
from gigq.storage.rows import When
from gigq.testing.conformance.base import StorageTests
from gigq.testing.harness import Harness, new_job, outcome

_ENDS = [End.COMPLETED, End.FAILED, End.TIMED_OUT, End.CANCELLED]


class Dependants(StorageTests):
    """Release and fall of dependants."""

    @pytest.mark.parametrize("end", _ENDS)
    @pytest.mark.parametrize("when", list(When))
    def test_a_dependant_runs_after_the_end_it_waits_for_and_is_cancelled_after_any_other(
        self, harness: Harness, when: When, end: End
    ) -> None:
        parent = harness.submit("parent")
        child = harness.submit("child", parents={parent: when})
        harness.run(parent, end)
        row = harness.storage.get(child)
        if when.is_met_by(harness.state(parent)):
            assert (row.state, row.unmet) == (JobState.PENDING, 0)
            assert harness.claimed_ids() == [child]
        else:
            assert row.state is JobState.CANCELLED
            assert row.finished_at == harness.clock.now()
            assert parent in (row.error or "")
            assert harness.claimed_ids() == []

    def test_a_branch_that_was_not_taken_says_that_it_is_not_needed(self, harness: Harness) -> None:
        parent = harness.submit()
        child = harness.submit(parents={parent: When.FAILURE})
        harness.run(parent)
        assert (harness.storage.get(child).error or "").startswith("not needed")

    def test_a_job_waits_for_all_of_its_parents(self, harness: Harness) -> None:
        parents = [harness.submit(str(number)) for number in range(3)]
        child = harness.submit("child", parents=parents)
        for left, parent in zip((2, 1, 0), parents, strict=True):
            harness.run(parent)
            assert harness.storage.get(child).unmet == left
        harness.run(child)

    def test_parents_that_end_in_one_batch_are_all_counted(self, harness: Harness) -> None:
        parents = [harness.submit() for _ in range(3)]
        child = harness.submit(parents=parents)
        jobs = harness.claim()
        harness.storage.finish("w1", [outcome(job, End.COMPLETED, harness.clock.now()) for job in jobs])
        assert harness.claimed_ids() == [child]

    def test_a_retried_attempt_moves_no_dependant(self, harness: Harness) -> None:
        parent = harness.submit()
        child = harness.submit(parents=[parent])
        failure = harness.submit(parents={parent: When.FAILURE})
        harness.end(harness.claim_one(), End.FAILED, retry_in=0)
        for dependant in (child, failure):
            assert harness.state(dependant) is JobState.PENDING
            assert harness.storage.get(dependant).unmet == 1

    def test_a_bad_end_cancels_all_the_way_down(self, harness: Harness) -> None:
        root = harness.submit()
        chain = [root]
        for _ in range(30):
            chain.append(harness.submit(parents=[chain[-1]]))
        harness.run(root, End.FAILED)
        assert {harness.state(job_id) for job_id in chain[1:]} == {JobState.CANCELLED}
        assert all(chain[i - 1] in (harness.storage.get(chain[i]).error or "") for i in range(1, len(chain)))

    def test_a_job_that_waits_for_any_end_stops_the_fall(self, harness: Harness) -> None:
        root = harness.submit()
        middle = harness.submit(parents=[root])
        cleanup = harness.submit(parents={middle: When.ALWAYS})
        after = harness.submit(parents=[cleanup])
        harness.run(root, End.FAILED)
        assert harness.state(middle) is JobState.CANCELLED
        assert harness.claimed_ids() == [cleanup]
        assert harness.storage.get(after).unmet == 1

    def test_a_person_who_cancels_a_job_cancels_what_needs_it(self, harness: Harness) -> None:
        root = harness.submit()
        success, failure, always = (harness.submit(parents={root: when}) for when in When)
        harness.storage.cancel(root, "not today")
        assert harness.state(success) is JobState.CANCELLED
        assert harness.state(failure) is JobState.CANCELLED
        assert harness.claimed_ids() == [always]

    def test_a_dependant_that_a_person_cancelled_stays_so_when_its_parent_ends(self, harness: Harness) -> None:
        parent = harness.submit()
        child = harness.submit(parents=[parent])
        harness.storage.cancel(child, "not today")
        harness.run(parent)
        assert harness.state(child) is JobState.CANCELLED
        assert harness.storage.get(child).error == "not today"

    def test_one_parent_of_many_that_ends_badly_is_enough(self, harness: Harness) -> None:
        good, bad, waiting = harness.submit(), harness.submit(), harness.submit(task="other.task")
        child = harness.submit(parents=[good, bad, waiting])
        harness.run(good)
        harness.run(bad, End.FAILED)
        assert harness.state(child) is JobState.CANCELLED

    def test_the_outcome_and_the_release_commit_together_for_every_reader(
        self, harness: Harness, elsewhere: Harness
    ) -> None:
        parent = harness.submit()
        child = harness.submit(parents=[parent])
        harness.run(parent)
        assert elsewhere.state(parent) is JobState.COMPLETED
        assert elsewhere.storage.get(child).unmet == 0
        assert len(elsewhere.storage.executions(parent)) == 1

    def test_a_lost_job_on_its_last_attempt_cancels_what_needs_it(self, harness: Harness) -> None:
        harness.register()
        parent = harness.submit(max_attempts=1)
        child = harness.submit(parents=[parent])
        harness.claim_one()
        harness.storage.rescue("w1", "silent for 10 s")
        assert harness.state(parent) is JobState.FAILED
        assert harness.state(child) is JobState.CANCELLED

    def test_a_job_of_many_parents_is_released_once(self, harness: Harness) -> None:
        parents = [new_job() for _ in range(500)]
        child = new_job(parents=[parent.id for parent in parents])
        harness.storage.submit([*parents, child])
        while jobs := harness.claim(limit=100):
            harness.storage.finish("w1", [outcome(job, End.COMPLETED, harness.clock.now()) for job in jobs])
        assert harness.state(child.id) is JobState.COMPLETED
        assert len(harness.storage.executions(child.id)) == 1
