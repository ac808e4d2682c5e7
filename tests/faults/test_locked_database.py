"""Another program holds the write lock: workers keep time and lose nothing, submitters get a typed error."""

from __future__ import annotations

import signal
import subprocess
import time

import pytest
from workshop import Workshop, attempts, until

from gigq import JobState, StorageBusy

pytestmark = pytest.mark.slow  # each starts a worker, or shares one with its neighbours

COMPLETED, RUNNING, TIMEOUT = JobState.COMPLETED, JobState.RUNNING, JobState.TIMEOUT

LOCKED_SECONDS = 3.5  # for workers with a lease of 1 s and a patience of 3 s

CALLER = """
import asyncio, sys, time
from shop import add

async def main():
    loop, blocks = asyncio.get_running_loop(), []

    def waited_for_a_processor():  # nanoseconds: a busy machine is not what blocks the loop
        return int(open("/proc/thread-self/schedstat").read().split()[1])

    async def tick():
        while True:
            began, waited = time.perf_counter(), waited_for_a_processor()
            await asyncio.sleep(0.001)
            blocks.append(time.perf_counter() - began - 0.001 - (waited_for_a_processor() - waited) / 1e9)

    first = await add.adelay(0)
    await first
    ticker = asyncio.create_task(tick())
    await asyncio.sleep(0.01)
    print("ready", flush=True)
    await loop.run_in_executor(None, sys.stdin.readline)  # locked now
    submitting = [asyncio.create_task(add.adelay(n)) for n in range(20)]
    await asyncio.sleep(0.2)
    assert not any(task.done() for task in submitting)
    print("blocked", flush=True)
    jobs = await asyncio.gather(*submitting)
    assert await asyncio.gather(*jobs) == list(range(20))
    ticker.cancel()
    assert len(blocks) > 50
    print(max(blocks))

asyncio.run(main())
"""


def test_fault_21_deadlines_fire_and_results_wait_while_the_database_is_locked(workshop: Workshop) -> None:
    shop = workshop.load("shop")
    workshop.work(concurrency=2)
    done, late = shop.hold.delay("go"), shop.hold.options(timeout=0.5).delay("never")
    workshop.pid_of("begin", "go")
    workshop.pid_of("begin", "never")
    began = time.monotonic()
    with workshop.locked():
        workshop.let_go("go")
        until(lambda: workshop.lines("end", "go"))
        until(lambda: time.monotonic() - began > 0.7)
        assert {done.state, late.state} == {RUNNING}
    assert done.get(10) == "first"
    assert late.wait(10) is TIMEOUT
    (attempt,) = late.executions
    assert attempt.started_at is not None
    assert 0.5 <= attempt.finished_at - attempt.started_at < 0.6
    assert (attempts(done), attempts(late)) == ([COMPLETED], [TIMEOUT])


def test_fault_21_a_lock_longer_than_lease_and_patience_costs_no_lease_and_no_attempt(workshop: Workshop) -> None:
    shop = workshop.load("shop")
    workers = [workshop.work(concurrency=1, scaled=True) for _ in range(2)]
    jobs = [shop.hold.options(max_attempts=1).delay(name) for name in ("one", "two")]
    waiting = shop.add.map(range(20))
    for name in ("one", "two"):
        workshop.pid_of("begin", name)
    shop.app.queue.storage._database._busy_seconds = 0.5  # 30, which nobody waits for in a test
    with workshop.locked():
        began = time.monotonic()
        with pytest.raises(StorageBusy, match=r"stayed locked for 0\.5 s by another program; nothing was stored"):
            shop.add.delay(404)
        assert time.monotonic() - began < 1.5
        workshop.let_go("one")
        until(lambda: all("the database refuses" in worker.log for worker in workers))
        until(lambda: time.monotonic() - began > LOCKED_SECONDS)
    assert waiting.get(10) == list(range(20))
    assert jobs[0].get(10) == "first"
    workshop.let_go("two")
    assert jobs[1].get(10) == "first"
    assert {tuple(attempts(job)) for job in [*jobs, *waiting]} == {(COMPLETED,)}
    assert workshop.queue.stats()[COMPLETED] == len(workshop.queue.list()) == 22
    for worker in workers:
        assert worker.poll() is None
        assert "took back" not in worker.log
        assert "fenced" not in worker.log


def test_fault_21_a_supervisor_that_is_told_to_end_while_the_database_is_locked_ends_afterwards(
    workshop: Workshop,
) -> None:
    shop = workshop.load("shop")
    worker = workshop.work(concurrency=1)
    job = shop.hold.delay("go")
    workshop.pid_of("begin", "go")
    with workshop.locked():
        worker.send_signal(signal.SIGTERM)
        workshop.let_go("go")
        until(lambda: workshop.lines("end", "go"))
        with pytest.raises(subprocess.TimeoutExpired):  # it still holds a result that is recorded nowhere
            worker.wait(0.5)
    assert worker.wait(10) == 0
    assert (job.state, attempts(job)) == (COMPLETED, [COMPLETED])


def test_fault_50_an_event_loop_goes_on_while_the_database_is_locked(workshop: Workshop) -> None:
    workshop.work(concurrency=1)
    (workshop.folder / "caller.py").write_text(CALLER)
    caller = workshop.start("caller.py", log="caller", stdin=subprocess.PIPE)
    assert caller.stdin is not None
    until(lambda: "ready" in caller.log)
    with workshop.locked():
        caller.stdin.write(b"locked\n")
        caller.stdin.close()
        until(lambda: "blocked" in caller.log or caller.poll() is not None)
    assert caller.wait(20) == 0, caller.log
    assert float(caller.log.split()[-1]) < 0.05
