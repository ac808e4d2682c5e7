"""What can be asked about jobs."""

from __future__ import annotations

import pytest

from gigq.errors import JobNotFound
from gigq.reasons import why_pending
from gigq.states import JobState
from gigq.storage.leases import End
from gigq.storage.rows import When
from gigq.testing.conformance.base import StorageTests
from gigq.testing.harness import TASK, Harness, new_job


class Questions(StorageTests):
    """`get`, `find`, `stats` and their like; none of them changes anything."""

    def test_an_unknown_job_is_an_error_wherever_one_is_needed(self, harness: Harness) -> None:
        for ask in (harness.storage.get, harness.storage.arguments, harness.storage.result):
            with pytest.raises(JobNotFound) as caught:
                ask("no-such-job")
            assert caught.value.job_id == "no-such-job"
        assert harness.storage.states(["no-such-job"]) == {}
        assert harness.storage.executions("no-such-job") == []

    def test_states_of_many_jobs_come_in_one_answer(self, harness: Harness) -> None:
        done, pending = harness.submit(), harness.submit()
        harness.run(done)
        states = harness.storage.states([pending, "no-such-job", done])
        assert states == {done: JobState.COMPLETED, pending: JobState.PENDING}

    def test_find_gives_the_newest_first_and_no_more_than_the_limit(self, harness: Harness) -> None:
        ids = [harness.submit() for _ in range(5)]
        assert [row.id for row in harness.storage.find(limit=3)] == ids[:1:-1]

    def test_find_matches_all_conditions(self, harness: Harness) -> None:
        done = harness.submit(queue="a")
        harness.run(done)
        harness.submit(queue="b")
        wanted = harness.submit(queue="a", task="other.task", workflow=("flow", "f1"))
        harness.submit(queue="a", workflow=("flow", "f2"))

        def found(**conditions: str) -> int:
            return len(harness.storage.find(**conditions))  # type: ignore[arg-type]  # state is a str too

        assert found() == 4
        assert [found(state=state) for state in (JobState.COMPLETED, JobState.PENDING, JobState.FAILED)] == [1, 3, 0]
        assert [found(queue=queue) for queue in ("a", "b", "c")] == [3, 1, 0]
        assert [found(task=task) for task in (TASK, "other.task")] == [3, 1]
        assert [found(workflow=workflow) for workflow in ("flow", "f1", "f2", "nothing")] == [2, 1, 1, 0]
        (row,) = harness.storage.find(state=JobState.PENDING, queue="a", task="other.task", workflow="flow", limit=10)
        assert row.id == wanted

    def test_ids_are_found_by_how_they_begin_and_end(self, harness: Harness) -> None:
        ids = ["01a2-7%-bb", "01a2-7_-cc", "01a3-70-bb", "01a2-7é-dd"]
        harness.storage.submit([new_job(id=job_id) for job_id in ids])
        find = harness.storage.find_ids
        assert find() == sorted(ids, reverse=True)
        assert find(start="01a2-7", limit=2) == ["01a2-7é-dd", "01a2-7_-cc"]
        assert [find(start=start) for start in ("01a3", ids[0])] == [[ids[2]], [ids[0]]]
        assert [find(start=start) for start in ("%", "01a2-7?", "02")] == [[], [], []]
        assert find(end="bb") == ["01a3-70-bb", "01a2-7%-bb"]
        assert [find(start="01a2", end=end) for end in ("bb", "_-cc", ids[0])] == [[ids[0]], [ids[1]], [ids[0]]]
        assert find(end="%cc") == []

    def test_stats_count_every_job_once(self, harness: Harness) -> None:
        assert harness.storage.stats() == dict.fromkeys(JobState, 0)
        completed, failed, timeout, running = (harness.submit(str(number)) for number in range(4))
        harness.run(completed)
        harness.run(failed, End.FAILED)
        harness.run(timeout, End.TIMED_OUT)
        harness.claim_one()
        harness.storage.cancel(harness.submit(), "not today")
        harness.submit("ready")
        harness.submit("delayed", delay=5)
        harness.submit("blocked", parents=[running])
        harness.submit("blocked and delayed", parents=[running], delay=5)
        assert harness.storage.stats() == {
            JobState.PENDING: 4,
            JobState.RUNNING: 1,
            JobState.COMPLETED: 1,
            JobState.FAILED: 1,
            JobState.CANCELLED: 1,
            JobState.TIMEOUT: 1,
        }

    def test_relatives_are_found_both_ways_with_what_they_wait_for(self, harness: Harness) -> None:
        first, second = harness.submit("first"), harness.submit("second")
        child = harness.submit("child", parents={first: When.ALWAYS, second: When.SUCCESS})
        assert [(row.id, when) for row, when in harness.storage.parents(child)] == [
            (first, When.ALWAYS),
            (second, When.SUCCESS),
        ]
        assert [(row.id, when) for row, when in harness.storage.dependants(first)] == [(child, When.ALWAYS)]
        assert harness.storage.parents(first) == []

    def test_executions_tell_the_whole_story_of_a_job(self, harness: Harness) -> None:
        job_id = harness.submit()
        starts = []
        for end in (End.FAILED, End.TIMED_OUT, End.COMPLETED):
            job = harness.claim_one()
            starts.append(harness.clock.now())
            harness.end(job, end, reason=None if end is End.COMPLETED else "boom", retry_in=0)
            harness.clock.advance(1)
        executions = harness.storage.executions(job_id)
        assert [e.state for e in executions] == [JobState.FAILED, JobState.TIMEOUT, JobState.COMPLETED]
        assert [e.started_at for e in executions] == starts
        assert [e.error is None for e in executions] == [False, False, True]

    def test_unfinished_sees_only_what_such_a_worker_could_run(self, harness: Harness) -> None:
        unfinished = harness.storage.unfinished
        assert not unfinished([TASK], None)
        harness.submit(queue="a")
        assert unfinished([TASK], None)
        assert unfinished([TASK], ["a"])
        assert not unfinished([TASK], ["b"])
        assert not unfinished(["other.task"], None)
        harness.end(harness.claim_one(), End.FAILED, retry_in=60)
        assert unfinished([TASK], ["a"])
        assert not unfinished([TASK], ["b"])

    def test_ready_before_counts_what_comes_first_in_the_same_queue(self, harness: Harness) -> None:
        harness.submit()
        harness.submit(queue="other")
        job_id = harness.submit()
        harness.submit(priority=1)
        harness.submit()
        assert harness.storage.ready_before(job_id) == 2

    def test_a_pending_job_says_what_it_waits_for(self, harness: Harness) -> None:
        def why(job_id: str) -> str | None:
            return why_pending(harness.storage, harness.storage.get(job_id), harness.clock.now)

        parent = harness.submit("parent")
        assert why(parent) == "a worker: none is running"
        harness.register()
        assert why(parent) == "its turn: it is next"
        assert f"parent ({parent}, PENDING)" in (why(harness.submit(parents=[parent])) or "")
        assert (why(harness.submit(delay=5)) or "").startswith("its time, due in 5 s")
        assert why(harness.submit()) == "its turn: 1 ready jobs of its queue come first"
        assert "'gone.task'" in (why(harness.submit(task="gone.task")) or "")
        job = harness.claim_one()
        assert why(job.id) is None
        harness.end(job, End.FAILED, retry_in=9)
        assert (why(job.id) or "").startswith("attempt 2 of 3, due in 9 s")

    def test_a_watch_notices_what_others_commit(self, harness: Harness, elsewhere: Harness) -> None:
        watch = harness.storage.watch()
        assert not watch.wait(0)
        elsewhere.submit()
        assert any(watch.wait(0.01) for _ in range(500))
        assert not watch.wait(0)
