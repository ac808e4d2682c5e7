"""Which jobs a worker gets, and in which order."""

from __future__ import annotations

import random

from gigq.states import JobState
from gigq.storage.leases import ClaimRequest
from gigq.storage.rows import INLINE_BYTES
from gigq.testing.conformance.base import StorageTests
from gigq.testing.harness import TASK, Harness, new_job


class Claiming(StorageTests):
    """`Storage.claim`."""

    def test_a_claim_runs_the_job_and_counts_the_attempt_before_it_begins(self, harness: Harness) -> None:
        job_id = harness.submit(max_attempts=2)
        job = harness.claim_one("w7")
        row = harness.storage.get(job_id)
        assert (row.state, row.worker, row.attempts, row.claims) == (JobState.RUNNING, "w7", 1, 1)
        assert row.claimed_at == harness.clock.now()
        assert (job.id, job.seq, job.attempt, job.claims, job.max_attempts) == (job_id, row.seq, 1, 1, 2)
        assert job.arguments == b"arguments"

    def test_a_job_is_claimed_once(self, harness: Harness, elsewhere: Harness) -> None:
        harness.submit()
        assert len(harness.claim("w1")) == 1
        assert elsewhere.claim("w2") == []

    def test_high_priority_goes_first_then_what_was_submitted_first(self, harness: Harness) -> None:
        jobs = [new_job(str(number), priority=random.Random(number).choice([-1, 0, 5])) for number in range(20)]
        harness.storage.submit(jobs)
        expected = sorted(jobs, key=lambda job: -job.priority)  # stable: submission order within a priority
        assert harness.claimed_ids(limit=20) == [job.id for job in expected]

    def test_the_order_holds_across_queues_and_tasks(self, harness: Harness) -> None:
        low = harness.submit(queue="a", priority=1)
        other = new_job(queue="b", task="shop.send", priority=1)
        harness.storage.submit([other])
        high = harness.submit(queue="c", priority=2)
        claimed = harness.claim(limit=3, tasks=(TASK, "shop.send"))
        assert [job.id for job in claimed] == [high, low, other.id]

    def test_a_dependant_keeps_its_place_in_the_order_of_submission(self, harness: Harness) -> None:
        parent = harness.submit()
        dependant = harness.submit(parents=[parent])
        later = harness.submit()
        harness.run(parent)
        assert harness.claimed_ids() == [dependant, later]

    def test_no_more_than_the_limit_is_claimed(self, harness: Harness) -> None:
        for _ in range(5):
            harness.submit()
        assert len(harness.claim(limit=3)) == 3
        assert harness.storage.stats()[JobState.PENDING] == 2

    def test_a_limit_of_0_claims_nothing_and_still_says_what_is_due_next(self, harness: Harness) -> None:
        harness.submit()
        harness.submit(delay=5)
        claimed = harness.storage.claim(ClaimRequest("w1", 0, (TASK,)))
        assert claimed.jobs == []
        assert claimed.next_due_at == harness.clock.now() + 5

    def test_only_the_queues_that_were_named_are_served(self, harness: Harness) -> None:
        harness.submit(queue="a")
        wanted = harness.submit(queue="b")
        assert [job.id for job in harness.claim(queues=["b", "c"])] == [wanted]
        assert harness.claim(queues=[]) == []

    def test_only_tasks_that_the_worker_knows_are_claimed(self, harness: Harness) -> None:
        unknown = harness.submit(task="gone.task", priority=9)
        known = harness.submit()
        assert harness.claimed_ids() == [known]
        assert harness.storage.get(unknown).attempts == 0
        assert [job.id for job in harness.claim(tasks=["gone.task"])] == [unknown]

    def test_a_delayed_job_waits_for_its_time_and_then_takes_its_place(self, harness: Harness) -> None:
        harness.register("w1")
        delayed = harness.submit(delay=10)
        harness.clock.advance(9.5)
        now = harness.submit()
        claimed = harness.storage.claim(ClaimRequest("w1", 10, (TASK,)))
        assert [job.id for job in claimed.jobs] == [now]
        assert claimed.next_due_at == harness.clock.now() + 0.5
        later = harness.submit()
        harness.clock.advance(0.5)
        assert harness.claimed_ids() == [delayed, later]

    def test_an_instant_in_the_past_is_due_at_once(self, harness: Harness) -> None:
        job = harness.submit(run_at=harness.clock.now() - 100)
        assert harness.claimed_ids() == [job]

    def test_nothing_is_due_next_when_no_job_waits_for_its_time(self, harness: Harness) -> None:
        harness.submit()
        assert harness.storage.claim(ClaimRequest("w1", 1, (TASK,))).next_due_at is None

    def test_a_job_whose_time_has_come_still_waits_for_its_parents(self, harness: Harness) -> None:
        parent = harness.submit(task="slow.task")
        child = harness.submit(delay=1, parents=[parent])
        harness.clock.advance(2)
        assert harness.claimed_ids() == []
        (job,) = harness.claim(tasks=["slow.task"])
        harness.end(job)
        assert harness.claimed_ids() == [child]

    def test_a_job_whose_parents_have_ended_still_waits_for_its_time(self, harness: Harness) -> None:
        parent = harness.submit()
        child = harness.submit(delay=5, parents=[parent])
        harness.run(parent)
        assert harness.claimed_ids() == []
        harness.clock.advance(5)
        assert harness.claimed_ids() == [child]

    def test_more_jobs_due_at_once_than_one_claim_promotes_are_all_claimed_in_the_end(self, harness: Harness) -> None:
        jobs = [new_job(delay=1) for _ in range(1500)]
        harness.storage.submit(jobs)
        harness.clock.advance(1)
        claimed = [*harness.claim(limit=2000), *harness.claim(limit=2000)]
        assert {job.id for job in claimed} == {job.id for job in jobs}

    def test_more_lanes_than_one_statement_can_name_keep_the_order(self, harness: Harness) -> None:
        jobs = [new_job(queue=f"q{number}", priority=number % 7) for number in range(600)]
        harness.storage.submit(jobs)
        expected = sorted(jobs, key=lambda job: -job.priority)[:5]
        assert harness.claimed_ids(limit=5) == [job.id for job in expected]

    def test_large_arguments_stay_behind_and_can_be_read(self, harness: Harness) -> None:
        small = new_job(arguments=b"s" * INLINE_BYTES)
        large = new_job(arguments=b"l" * (INLINE_BYTES + 1))
        harness.storage.submit([small, large])
        assert [job.arguments for job in harness.claim()] == [small.arguments, None]
        assert harness.storage.arguments(large.id) == large.arguments
