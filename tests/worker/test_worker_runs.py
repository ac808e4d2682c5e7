"""The worker as a whole: real processes on a real database."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gigq import App, Job, JobFailed, JobQueue, JobState, JobTimedOut, Worker

APP = """
import os, time
from pathlib import Path
from gigq import App, current_job

app = App(os.environ["GIGQ_URL"])
LEDGER = Path(os.environ["LEDGER"])


@app.task
def note(n):
    with LEDGER.open("a") as ledger:  # one short line: O_APPEND writes it as a whole
        ledger.write(f"{n}\\n")
    return n


@app.task(max_attempts=2)
def slow(seconds):
    with LEDGER.open("a") as ledger:
        ledger.write(f"{os.getpid()} {os.getppid()}\\n")
    if current_job().attempt == 1:
        time.sleep(seconds)
    return current_job().attempt


@app.task(timeout=0.3)
def overrun():
    try:
        time.sleep(30)
    except BaseException:
        pass
    return "swallowed"


@app.task(max_attempts=3)
def poison():
    os._exit(7)
"""


class House:
    """A folder with an app, its database and its workers."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ledger = folder / "ledger"
        self.queue = JobQueue(folder / "jobs.db")
        self.apps: list[App] = []
        self.workers: list[subprocess.Popen[str]] = []
        (folder / "houseapp.py").write_text(APP)

    def app(self) -> App:
        """Return an app that knows the tasks by name only, as application code elsewhere would submit them."""
        app = App(self.queue.url, name="house")
        self.apps.append(app)
        for name in ("note", "slow", "overrun", "poison"):
            app.task(lambda *args: None, name=f"houseapp.{name}")  # type: ignore[call-overload]
        return app

    def work(self, *options: str) -> subprocess.Popen[str]:
        environment = {**os.environ, "GIGQ_URL": self.queue.url, "LEDGER": str(self.ledger)}
        worker = subprocess.Popen(
            [sys.executable, "-m", "gigq", "worker", "houseapp:app", "-c", "2", *options],
            cwd=self.folder,
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.workers.append(worker)
        return worker

    def lines(self) -> list[str]:
        return self.ledger.read_text().splitlines() if self.ledger.exists() else []


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    house = House(tmp_path)
    yield house
    for worker in house.workers:
        if worker.poll() is None:
            worker.kill()
        worker.wait(10)
        if worker.stderr is not None:
            worker.stderr.close()
    house.queue.close()
    for app in house.apps:
        app.queue.close()


def until(condition: Callable[[], object], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true"
        time.sleep(0.01)


def submit(house: House, task: str, *args: object, max_attempts: int = 3, timeout: float | None = None) -> Job[object]:
    job = Job(function=house.app().tasks[f"houseapp.{task}"], args=args, max_attempts=max_attempts, timeout=timeout)
    return house.queue.submit(job)


@pytest.mark.slow
def test_four_workers_run_each_of_4000_jobs_once(house: House) -> None:
    task = house.app().tasks["houseapp.note"]
    jobs = house.queue.submit_many([Job(function=task, args=[n]) for n in range(4000)])
    workers = [house.work("--burst") for _ in range(4)]
    for worker in workers:
        assert worker.wait(60) == 0
    assert sorted(map(int, house.lines())) == list(range(4000))
    assert house.queue.stats()[JobState.COMPLETED] == len(jobs)


@pytest.mark.slow
def test_fault_1_a_killed_child_costs_an_attempt_and_the_job_runs_again(house: House) -> None:
    job = submit(house, "slow", 60, max_attempts=2)
    house.work()
    until(house.lines)
    os.kill(int(house.lines()[0].split()[0]), signal.SIGKILL)
    assert job.get(timeout=10) == 2
    first, second = job.executions
    assert (first.state, second.state) == (JobState.FAILED, JobState.COMPLETED)
    assert "SIGKILL" in (first.error or "")


@pytest.mark.slow
def test_fault_2_a_killed_supervisor_leaves_no_child_and_another_worker_takes_over(house: House) -> None:
    job = submit(house, "slow", 60, max_attempts=2)
    victim = house.work()
    until(house.lines)
    child = int(house.lines()[0].split()[0])
    victim.kill()
    killed_at = time.monotonic()
    victim.wait(10)
    until(lambda: not Path(f"/proc/{child}").exists(), seconds=5)
    assert time.monotonic() - killed_at < 5
    house.work()
    assert job.get(timeout=15) == 2
    assert [execution.state for execution in job.executions] == [JobState.FAILED, JobState.COMPLETED]


@pytest.mark.slow
def test_fault_5_a_stopped_worker_writes_late_and_is_fenced(house: House) -> None:
    job = submit(house, "slow", 0.5, max_attempts=2)
    stopped = house.work()
    until(house.lines)
    os.kill(stopped.pid, signal.SIGSTOP)
    (worker,) = house.queue.workers()
    house.queue.storage.rescue(worker.id, "its lease ran out")
    house.work()
    assert job.get(timeout=15) == 2
    os.kill(stopped.pid, signal.SIGCONT)
    stopped.send_signal(signal.SIGTERM)
    _, log = stopped.communicate(timeout=15)
    assert "fenced" in log
    assert [execution.state for execution in job.executions] == [JobState.FAILED, JobState.COMPLETED]


@pytest.mark.slow
def test_fault_10_a_job_that_kills_its_child_each_time_stops_at_max_attempts(house: House) -> None:
    job = submit(house, "poison", max_attempts=3)
    house.work("--burst").wait(20)
    with pytest.raises(JobFailed, match="status 7"):
        job.get(timeout=1)
    assert len(job.executions) == 3


@pytest.mark.slow
def test_a_job_that_swallows_its_deadline_has_timed_out(house: House) -> None:
    job = submit(house, "overrun", timeout=0.3)
    house.work("--burst").wait(20)
    with pytest.raises(JobTimedOut):
        job.get(timeout=1)


@pytest.mark.slow
@pytest.mark.parametrize("slots", ["1", "2"])
def test_a_running_job_is_stopped_when_somebody_cancels_it(house: House, slots: str) -> None:
    job = submit(house, "slow", 60)
    house.work("-c", slots)  # with one, no slot is free when the cancel arrives
    until(house.lines)
    assert job.cancel() is JobState.RUNNING
    assert job.wait(timeout=10) is JobState.CANCELLED


@pytest.mark.slow
def test_fault_9_the_first_term_drains_and_the_second_gives_back_without_costing_an_attempt(house: House) -> None:
    drained = submit(house, "slow", 1.0)
    worker = house.work()
    until(house.lines)
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(15) == 0
    assert drained.get(timeout=1) == 1

    released = submit(house, "slow", 60)
    worker = house.work()
    until(lambda: len(house.lines()) == 2)
    assert worker.stderr is not None
    worker.send_signal(signal.SIGTERM)
    until(lambda: "stopping" in worker.stderr.readline())
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(15) == 0
    assert (released.state, released.attempts) == (JobState.PENDING, 0)


@pytest.mark.slow
def test_fault_9_the_second_term_ends_a_worker_whose_threads_cannot_be_stopped(house: House) -> None:
    job = submit(house, "slow", 60)
    worker = house.work("-P", "thread")
    until(house.lines)
    assert worker.stderr is not None
    worker.send_signal(signal.SIGTERM)
    until(lambda: "stopping" in worker.stderr.readline())
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(15) == 0
    assert job.state is JobState.RUNNING
    house.work()  # sees that the process has gone
    assert job.get(timeout=20) == 2


@pytest.mark.slow
def test_a_job_that_waits_for_a_failure_runs_although_its_parent_took_the_only_slot_along(house: House) -> None:
    # The child of the parent is being replaced when its end is recorded: no claim goes with that.
    app = house.app()
    for n in range(50):
        app.tasks["houseapp.note"].delay(n)
    parent = app.tasks["houseapp.overrun"].options(timeout=0.3).job()
    after = parent.then(app.tasks["houseapp.note"], when="failure")
    app.submit(after)
    assert house.work("-c", "1", "--burst").wait(30) == 0
    assert (parent.state, after.state) == (JobState.TIMEOUT, JobState.COMPLETED)


def test_a_worker_can_be_started_again_after_a_burst(tmp_path: Path) -> None:
    app = App(tmp_path / "jobs.db")
    task = app.task(lambda: 1, name="one")  # type: ignore[call-overload]
    worker = Worker(app, pool="inline", burst=True)
    for _ in range(2):
        job = task.delay()
        worker.start()
        assert job.get(timeout=15) == 1
        until(lambda: worker._thread is not None and not worker._thread.is_alive())
    worker.stop()
    app.queue.close()


@pytest.mark.slow
def test_fault_32_a_task_that_no_worker_knows_waits_and_says_so(house: House) -> None:
    app = App(house.queue.url, name="house")
    app.task(lambda: None, name="houseapp.tomorrow")  # type: ignore[call-overload]
    job = house.queue.submit(Job(function=app.tasks["houseapp.tomorrow"]))
    house.work()
    until(house.queue.workers)
    assert job.waiting_for == "a worker that knows task 'houseapp.tomorrow': none of the 1 running for this queue does"
    assert job.state is JobState.PENDING


@pytest.mark.slow
@pytest.mark.parametrize("pool", ["process", "async", "thread", "inline"])
def test_a_worker_in_the_submitters_process_runs_tasks_closures_and_outputs(tmp_path: Path, pool: str) -> None:
    app = App(tmp_path / "jobs.db")
    factor = 3

    @app.task
    async def triple(n: int) -> int:
        return n * factor

    with Worker(app, concurrency=2, pool=pool):  # type: ignore[arg-type]
        parts = triple.map([1, 2, 3])
        total = parts.then(lambda values: sum(values) + factor)
        nested = app.queue.submit(Job(function=lambda box: box["a"][0], args=[{"a": [total.output]}]))
        assert nested.get(timeout=15) == 21
    assert app.queue.workers() == []
    app.queue.close()
