"""Several threads, several processes, and the children of forks."""

from __future__ import annotations

import os
import threading
import traceback
import warnings
from collections import Counter
from collections.abc import Callable

import pytest

from gigq.states import JobState
from gigq.storage.leases import End
from gigq.testing.conformance.base import StorageTests
from gigq.testing.harness import Harness, new_job, outcome


def exit_code_of_fork(work: Callable[[], None]) -> int:
    """Run `work` in the child of a fork; return 0 if it returned, 1 if it raised."""
    with warnings.catch_warnings():
        # From Python 3.12 on, forking a process with threads warns: here that is the point.
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        code = 1
        try:
            work()
            code = 0
        except BaseException:  # the child must not return into pytest, whatever happened
            traceback.print_exc()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


class Processes(StorageTests):
    """Concurrent use."""

    @pytest.mark.slow
    def test_threads_that_compete_claim_each_job_once(self, harness: Harness, elsewhere: Harness) -> None:
        harness.storage.submit([new_job() for _ in range(400)])
        claimed: Counter[str] = Counter()
        errors: list[BaseException] = []

        def work(worker: str, mine: Harness) -> None:
            try:
                while jobs := mine.claim(worker, limit=7):
                    claimed.update(job.id for job in jobs)
                    ends = [outcome(job, End.COMPLETED, mine.clock.now()) for job in jobs]
                    assert mine.storage.finish(worker, ends).fenced == []
            except BaseException as error:
                errors.append(error)

        threads = [
            threading.Thread(target=work, args=(f"w{number}", (harness, elsewhere)[number % 2])) for number in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert errors == []
        assert len(claimed) == 400
        assert set(claimed.values()) == {1}
        assert harness.storage.stats()[JobState.COMPLETED] == 400

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
    def test_the_child_of_a_fork_uses_the_storage_and_so_does_its_parent(self, harness: Harness) -> None:
        harness.submit("before")

        def child() -> None:
            job = harness.claim_one("child")
            assert harness.end(job, worker="child").fenced == []
            harness.submit("by the child")

        assert exit_code_of_fork(child) == 0
        harness.submit("after")
        assert harness.storage.stats()[JobState.COMPLETED] == 1
        assert [job.name for job in harness.claim()] == ["by the child", "after"]

    def test_a_storage_that_was_closed_opens_again(self, harness: Harness) -> None:
        job_id = harness.submit()
        harness.storage.close()
        assert harness.state(job_id) is JobState.PENDING
