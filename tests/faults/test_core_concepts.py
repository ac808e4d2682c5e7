"""The workflow of the core concepts, typed as it stands there, and worked by another process."""

from __future__ import annotations

import json

import pytest
from workshop import Workshop, attempts

from gigq import JobState

pytestmark = pytest.mark.slow  # each starts a worker, or shares one with its neighbours

FUNCTIONS = """
import json, sqlite3, time
from pathlib import Path
from gigq import Job, JobQueue, Workflow

FOLDER = Path(__file__).parent

def said(step):
    with open(FOLDER / "steps", "a") as file:
        file.write(step + "\\n")

def download_data():
    (FOLDER / "data.json").write_text(json.dumps([3, 1, 2]))
    said("download")

def process_data():
    (FOLDER / "sorted.json").write_text(json.dumps(sorted(json.loads((FOLDER / "data.json").read_text()))))
    said("process")

def generate_report():
    (FOLDER / "report").write_text(str(sum(json.loads((FOLDER / "sorted.json").read_text()))))
    said("report")

def send_notifications():
    (FOLDER / "notification").write_text((FOLDER / "sorted.json").read_text())
    said("notify")

def archive_results():
    said("archive")
    return {name: (FOLDER / name).read_text() for name in ("report", "notification")}

queue = JobQueue("jobs.db")
"""

AS_IT_STANDS = """
workflow = Workflow("data_pipeline")

download_job = Job(name="download", function=download_data)
process_job = Job(name="process", function=process_data)
report_job = Job(name="report", function=generate_report)
notify_job = Job(name="notify", function=send_notifications)
archive_job = Job(name="archive", function=archive_results)

workflow.add_job(download_job)
workflow.add_job(process_job, depends_on=[download_job])
workflow.add_job(report_job, depends_on=[process_job])
workflow.add_job(notify_job, depends_on=[process_job])
workflow.add_job(archive_job, depends_on=[report_job, notify_job])

workflow.submit_all(queue)
"""


def test_the_workflow_of_the_core_concepts_completes_in_order(workshop: Workshop) -> None:
    (workshop.folder / "pipeline.py").write_text(FUNCTIONS + AS_IT_STANDS)
    workshop.run("pipeline.py")
    jobs = {job.name: job for job in workshop.queue.list(workflow="data_pipeline")}
    assert list(reversed(jobs)) == ["download", "process", "report", "notify", "archive"]
    assert {job.state for job in jobs.values()} == {JobState.PENDING}
    assert jobs["archive"].waiting_for is not None

    workshop.work("jobs.db", concurrency=2)
    assert jobs["archive"].get(20) == {"report": "6", "notification": "[1, 2, 3]"}
    assert {job.state for job in jobs.values()} == {JobState.COMPLETED}
    assert {tuple(attempts(job)) for job in jobs.values()} == {(JobState.COMPLETED,)}
    steps = (workshop.folder / "steps").read_text().split()
    assert sorted(steps[2:4]) == ["notify", "report"]
    assert (steps[:2], steps[4:]) == (["download", "process"], ["archive"])
    for job in jobs.values():
        (own,) = job.executions
        for parent_id in job.dependencies:
            (before,) = workshop.queue.executions(parent_id)
            assert own.started_at is not None
            assert before.finished_at <= own.started_at
    listed = json.loads(workshop.run("-m", "gigq", "jobs", "list", "--workflow", "data_pipeline", "--json"))
    assert [row["state"] for row in listed] == ["COMPLETED"] * 5
