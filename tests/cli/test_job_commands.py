"""`jobs show`, `cancel`, `retry` and `why`: what they say of one job."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

from cli_runner import Run

from gigq import Job, JobQueue, Worker
from gigq.testing.clock import FakeClock
from gigq.testing.harness import Harness, new_job


def compute(n: int) -> float:
    return n / 0


def test_a_page_about_a_job_has_what_went_before_it_and_how_it_went(queue: JobQueue, run: Run) -> None:
    first = queue.submit(Job("first", compute, args=[1], max_attempts=1, description="Add it up.", timeout=30))
    second = first.then(print)
    Worker(queue, pool="inline", burst=True, soft_timeouts=True).run()
    page = run("jobs", "show", first.id).output
    assert page.splitlines()[0] == "first  FAILED"
    assert "  call         compute(1) (sent with the job)\n" in page
    assert "  description  Add it up.\n" in page
    assert "  attempts     1 of 1\n" in page
    assert "  timeout      30 s\n" in page
    assert [line for line in page.splitlines() if line and line[0] != " "][1:] == [
        "What",
        "How",
        "When",
        "Needed by",
        "Attempts",
    ]
    assert f"{second.id}  CANCELLED  print, on success" in page
    assert "ZeroDivisionError: division by zero" in page.splitlines()[-1]
    assert f"{first.id}  FAILED     first, on success" in run("jobs", "show", second.id).output

    document = json.loads(run("jobs", "show", second.id, "--json").output)
    assert document["dependencies"] == [{"id": first.id, "when": "success"}]
    assert document["executions"] == []


def test_a_page_about_a_running_job_names_its_worker(queue: JobQueue, run: Run) -> None:
    harness = Harness(queue.storage, FakeClock())
    job_id = harness.submit()
    job = harness.claim_one()
    queue.storage.report_progress("w1", [(job.seq, job.claims, 0.25, "a \x1b[31mquarter")])
    page = run("jobs", "show", job_id).output
    assert "worker       name of w1\n" in page
    assert "progress     25% a \\x1b[31mquarter\n" in page


def test_a_page_shows_an_error_that_is_not_in_gigqs_form(queue: JobQueue, run: Run, tmp_path: Path) -> None:
    harness = Harness(queue.storage, FakeClock())
    job_id = harness.submit()
    harness.run(job_id)
    db = sqlite3.connect(tmp_path / "jobs.db")
    for error in ("by hand \x1b[2J", '{"kind": 1}', "[]", "null"):
        with db:
            db.execute("UPDATE job_executions SET error = ?", (error,))
        assert error.replace("\x1b", "\\x1b") in run("jobs", "show", job_id).output
    db.close()


def test_a_page_names_the_first_of_many_dependants(queue: JobQueue, run: Run) -> None:
    harness = Harness(queue.storage, FakeClock())
    parent = harness.submit("parent")
    for _ in range(25):
        harness.submit("child", parents=[parent])
    page = run("jobs", "show", parent).output
    assert page.count("child, on success") == 20
    assert "and 5 more: --json has them all" in page


def test_a_job_due_after_the_end_of_the_calendar_can_be_looked_at(queue: JobQueue, run: Run) -> None:
    job = new_job("patient", delay=1e15)
    queue.storage.submit([job])
    assert "s since 1970, in 1157407" in run("jobs", "show", job.id).output
    assert "due in " in run("why", job.id).output


def test_why_says_what_a_pending_job_waits_for(queue: JobQueue, run: Run) -> None:
    job = queue.submit(Job("lonely", print))
    assert "it waits for a worker: none is running" in run("why", job.id).stdout


def test_a_reason_to_cancel_is_kept(queue: JobQueue, run: Run) -> None:
    job = queue.submit(Job("some", print))
    assert run("jobs", "cancel", job.id, "--reason", "wrong file").output == f"{job.id} CANCELLED\n"
    assert job.error == "wrong file"


def test_cancel_says_whether_it_has_happened(queue: JobQueue, run: Run) -> None:
    harness = Harness(queue.storage, FakeClock())
    done, running = harness.submit(), harness.submit()
    harness.run(done)
    harness.claim_one()
    assert run("jobs", "cancel", done).output == f"{done} COMPLETED: it had ended already\n"
    assert run("jobs", "cancel", running).output == f"{running} RUNNING: its worker stops it\n"
    assert "is being cancelled" in run("jobs", "list").output


def test_prune_says_how_many_it_deleted(queue: JobQueue, run: Run) -> None:
    for count, text in ((1, "1 job"), (2, "2 jobs"), (0, "0 jobs")):
        for _ in range(count):
            queue.cancel(queue.submit(Job("some", print)).id)
        queue.submit(Job("the newest, which is spared", print))
        assert run("prune", "--older-than", "0s").output == f"{text} deleted\n"


def test_retry_of_what_has_not_failed_is_one_clear_line(queue: JobQueue, run: Run) -> None:
    job = queue.submit(Job("some", print))
    result = run("jobs", "retry", job.id)
    assert (result.exit_code, result.output.count("\n")) == (1, 1)
