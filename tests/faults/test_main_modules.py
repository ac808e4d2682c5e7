"""Tasks of the program itself: started by its path, with `-m`, from standard input, or anew by a spawned process."""

from __future__ import annotations

import pytest
from workshop import Workshop, attempts, until

from gigq import JobState

pytestmark = pytest.mark.slow  # each starts a worker, or shares one with its neighbours

AGAIN = "@app.task\ndef double(n):  # a notebook's cell that was changed and run again\n    return 2 * n + 1"

MYAPP = """
from gigq import App

app = App("jobs.db")

@app.task
def double(n):
    return 2 * n

@app.task
def describe(name, *, times=1):
    return "-".join([name] * times)

if __name__ == "__main__":
    print(double.delay(21).id)
    print(describe.delay("a", times=double(1)).id)
"""

SPAWNING = """
import multiprocessing
from gigq import App, Job, JobQueue

app = App("jobs.db")
queue = JobQueue("jobs.db")

@app.task
def double(n):
    return 2 * n

def triple(n):
    return 3 * n

def submit(how):
    job = double.delay(21) if how == "task" else queue.submit(Job(function=triple, args=[14], max_attempts=1))
    print(job.id, flush=True)

if __name__ == "__main__":
    import sys
    process = multiprocessing.get_context("spawn").Process(target=submit, args=sys.argv[1:])
    process.start()
    process.join()
    assert process.exitcode == 0
"""

NO_FILE = """
from gigq import App, Worker
app = App("jobs.db")

@app.task
def double(n):
    return 2 * n

{again}

with Worker(app, concurrency=2):
    print(double.delay(21).get(20))
print(double.delay(21).id)
"""


@pytest.mark.parametrize("how", ["path", "-m"])
def test_fault_51_tasks_of_a_program_are_those_that_a_worker_imports(workshop: Workshop, how: str) -> None:
    (workshop.folder / "myapp.py").write_text(MYAPP)
    ids = workshop.run(*(["myapp.py"] if how == "path" else ["-m", "myapp"])).split()
    jobs = [workshop.queue.get(job_id) for job_id in ids]
    workshop.work("myapp:app")
    assert [job.get(20) for job in jobs] == [42, "a-a"]
    assert {tuple(attempts(job)) for job in jobs} == {(JobState.COMPLETED,)}


@pytest.mark.parametrize("how", ["task", "value"])
def test_fault_51_a_spawned_process_submits_what_a_worker_knows(workshop: Workshop, how: str) -> None:
    (workshop.folder / "spawning.py").write_text(SPAWNING)
    job = workshop.queue.get(workshop.run("spawning.py", how).strip())
    workshop.work("spawning:app")
    until(lambda: job.state is not JobState.PENDING or job.waiting_for != "its turn: it is next")
    assert job.waiting_for is None
    assert job.get(20) == 42


@pytest.mark.parametrize(
    ("how", "again", "result"),
    [
        ("-c", "", 42),
        ("-c", AGAIN, 43),
        ("-", "", 42),
    ],
    ids=["notebook", "notebook, changed", "standard input"],
)
def test_fault_51_a_program_without_a_file_runs_its_own_tasks_and_says_who_must_run_them(
    workshop: Workshop, how: str, again: str, result: int
) -> None:
    program = NO_FILE.format(again=again)
    printed, job_id = workshop.run(*(["-c", program] if how == "-c" else ["-"]), stdin=program).split()
    assert int(printed) == result
    job = workshop.queue.get(job_id)
    workshop.work("shop:app")
    assert job.waiting_for == "a worker that knows task '__main__.double': none of the 1 running for this queue does"
