"""Workers that come, go and die, and jobs that nobody needs any more."""

from __future__ import annotations

import pytest

from gigq.errors import JobNotFound
from gigq.payload import Failure
from gigq.states import JobState
from gigq.storage.leases import Claimed, ClaimRequest, End
from gigq.storage.rows import When
from gigq.testing.conformance.base import StorageTests
from gigq.testing.harness import TASK, Harness, new_job, outcome, worker_row


class Upkeep(StorageTests):
    """`register`, `heartbeat`, `rescue`, `unregister` and `prune`."""

    def test_a_worker_reads_back_as_it_registered(self, harness: Harness) -> None:
        row = worker_row("w1", harness.clock.now(), address="somewhere")._replace(queues=("a", "b"))
        harness.storage.register(row)
        assert harness.storage.workers() == [row]

    def test_each_heartbeat_raises_the_beat(self, harness: Harness) -> None:
        harness.register()
        harness.clock.advance(2)
        assert harness.storage.heartbeat("w1")
        assert harness.storage.heartbeat("w1")
        (worker,) = harness.storage.workers()
        assert (worker.beat, worker.beat_at) == (2, harness.clock.now())

    def test_a_worker_that_others_took_for_dead_learns_it_and_can_register_again(self, harness: Harness) -> None:
        harness.register()
        harness.storage.rescue("w1", "silent for 10 s")
        assert not harness.storage.heartbeat("w1")
        assert harness.storage.workers() == []
        harness.register()
        assert harness.storage.heartbeat("w1")

    def test_a_worker_that_others_took_for_dead_claims_nothing_before_it_knows(self, harness: Harness) -> None:
        harness.register()
        harness.storage.rescue("w1", "silent for 10 s")
        job_id = harness.submit()
        assert harness.claim("w1") == []
        assert harness.storage.finish("w1", [], ClaimRequest("w1", 1, (TASK,))).claimed == Claimed([], None)
        harness.register()
        assert [job.id for job in harness.claim("w1")] == [job_id]

    def test_a_worker_that_stops_leaves_no_job_behind(self, harness: Harness) -> None:
        harness.register()
        job_id = harness.submit()
        harness.claim_one("w1")
        harness.storage.unregister("w1")
        row = harness.storage.get(job_id)
        assert (row.state, row.error) == (JobState.PENDING, "WorkerLost: its worker stopped without giving it back")

    def test_a_worker_that_never_registered_has_no_heartbeat(self, harness: Harness) -> None:
        assert not harness.storage.heartbeat("nobody")

    def test_a_worker_that_stopped_is_not_listed(self, harness: Harness) -> None:
        harness.register("w1")
        harness.clock.advance(1)
        harness.register("w2")
        harness.storage.unregister("w1")
        assert [worker.id for worker in harness.storage.workers()] == ["w2"]

    def test_a_rescue_puts_back_all_that_the_worker_held_and_counts_the_attempts(self, harness: Harness) -> None:
        harness.register("w1")
        retried, last = harness.submit(max_attempts=2), harness.submit(max_attempts=1)
        harness.claim("w1")
        other = harness.submit()
        harness.claim("w2")
        harness.clock.advance(10)
        rescued = {r.id: r.state for r in harness.storage.rescue("w1", "silent for 10 s")}
        assert rescued == {retried: JobState.PENDING, last: JobState.FAILED}
        assert harness.state(other) is JobState.RUNNING
        row = harness.storage.get(retried)
        assert (row.attempts, row.due_at, row.error) == (1, None, "WorkerLost: silent for 10 s")
        (execution,) = harness.storage.executions(retried)
        assert (execution.worker, execution.state, execution.finished_at) == (
            "w1",
            JobState.FAILED,
            harness.clock.now(),
        )
        assert Failure.from_json(execution.error or "").type == "WorkerLost"
        assert [job.id for job in harness.claim("w3")] == [retried]

    def test_a_second_rescue_finds_nothing(self, harness: Harness) -> None:
        harness.register()
        harness.submit()
        harness.claim_one()
        assert len(harness.storage.rescue("w1", "silent")) == 1
        assert harness.storage.rescue("w1", "silent") == []

    def test_an_end_that_was_committed_before_the_rescue_stays(self, harness: Harness) -> None:
        harness.register()
        job_id = harness.submit()
        harness.run(job_id)
        assert harness.storage.rescue("w1", "silent") == []
        assert harness.state(job_id) is JobState.COMPLETED

    def test_a_job_that_kills_each_of_its_workers_stops_at_max_attempts(self, harness: Harness) -> None:
        job_id = harness.submit(max_attempts=3)
        deaths = 0
        while harness.claim(f"w{deaths}"):
            harness.storage.rescue(f"w{deaths}", "gone")
            deaths += 1
        assert deaths == 3
        assert harness.state(job_id) is JobState.FAILED

    def test_prune_deletes_what_ended_long_enough_ago_with_all_that_belongs_to_it(self, harness: Harness) -> None:
        old = harness.submit()
        harness.run(old, result=b"result")
        harness.clock.advance(60)
        young, pending = harness.submit(), harness.submit()
        harness.run(young)
        assert harness.storage.prune(60) == 1
        for ask in (harness.storage.get, harness.storage.arguments, harness.storage.result):
            with pytest.raises(JobNotFound):
                ask(old)
        assert harness.storage.executions(old) == []
        assert set(harness.storage.states([young, pending])) == {young, pending}

    @pytest.mark.parametrize("when", list(When))
    def test_prune_spares_what_an_unfinished_job_may_need(self, harness: Harness, when: When) -> None:
        parent, other = harness.submit(), harness.submit(task="other.task")
        child = harness.submit(parents={parent: when, other: When.SUCCESS})
        harness.submit("the newest")
        harness.run(parent, End.FAILED if when is When.FAILURE else End.COMPLETED, result=b"needed")
        harness.clock.advance(60)
        assert harness.storage.prune(0) == 0
        harness.storage.cancel(child, "not today")
        assert harness.storage.prune(0) == 2
        assert harness.storage.states([parent, child]) == {}

    def test_prune_never_lets_a_late_writer_hit_a_new_job(self, harness: Harness) -> None:
        harness.register()
        harness.submit(max_attempts=1)
        job = harness.claim_one()
        harness.storage.rescue("w1", "silent")
        harness.storage.prune(0)
        harness.register()
        new = harness.submit()
        again = harness.claim_one()
        assert again.id == new
        assert len(harness.end(job).fenced) == 1
        assert harness.state(new) is JobState.RUNNING

    def test_prune_deletes_more_than_one_transaction_takes(self, harness: Harness) -> None:
        jobs = [new_job() for _ in range(1200)]
        harness.storage.submit(jobs)
        ended = [outcome(job, End.COMPLETED, harness.clock.now()) for job in harness.claim(limit=1200)]
        harness.storage.finish("w1", ended)
        harness.submit("the newest")
        assert harness.storage.prune(0) == 1200

    def test_what_fell_keeps_all_that_it_needs_to_come_back(self, harness: Harness) -> None:
        good, bad = harness.submit(), harness.submit()
        child = harness.submit(parents=[good, bad])
        harness.run(good, result=b"needed")
        harness.clock.advance(60)
        harness.run(bad, End.FAILED)
        assert harness.storage.prune(30) == 0
        harness.storage.retry(bad)
        harness.run(bad)
        assert (harness.state(child), harness.storage.result(good)) == (JobState.PENDING, b"needed")

    def test_a_graph_that_fell_is_pruned_from_its_end(self, harness: Harness) -> None:
        root = harness.submit()
        child = harness.submit(parents=[root])
        harness.submit(parents=[child])
        harness.run(root, End.FAILED)
        harness.submit("the newest")
        assert harness.storage.prune(0) == 3
