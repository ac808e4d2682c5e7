"""Jobs named by a part of their id."""

from __future__ import annotations

import pytest
from cli_runner import Run
from click import ClickException

from gigq import Job, JobQueue, JobState
from gigq.cli.ids import whole_id
from gigq.errors import JobNotFound
from gigq.testing.harness import new_job

IDS = [
    "01a20dc7-93e1-763e-9f8a-a37186056c82",
    "01a20dc7-93e1-7e8f-8187-991ccaa419fe",
    "01b00000-0000-7000-8000-991ccaa419fe",
]


@pytest.fixture
def stored(queue: JobQueue) -> JobQueue:
    queue.storage.submit([new_job(id=job_id) for job_id in IDS])
    return queue


@pytest.mark.parametrize("part", [IDS[0], IDS[0][:18], "01a20dc7-93e1-76", "86056c82", IDS[0][1:]])
def test_a_beginning_or_an_end_that_one_job_has_is_enough(stored: JobQueue, part: str) -> None:
    assert whole_id(stored.storage, part) == IDS[0]


def test_a_few_characters_are_enough_as_a_beginning_but_not_as_an_end(stored: JobQueue) -> None:
    assert whole_id(stored.storage, "01b0") == IDS[2]
    with pytest.raises(JobNotFound):
        whole_id(stored.storage, "6c82")


@pytest.mark.parametrize("part", ["01a20dc7-93e1-7", "01a2", "991ccaa419fe"])
def test_a_part_that_several_jobs_have_is_an_error_that_names_them(stored: JobQueue, part: str) -> None:
    with pytest.raises(ClickException, match=f"several ids (begin|end) with {part}") as caught:
        whole_id(stored.storage, part)
    assert IDS[1] in caught.value.message
    assert "and more" not in caught.value.message


def test_of_many_alike_two_are_named(stored: JobQueue) -> None:
    stored.storage.submit([new_job(id=IDS[0][:-1] + last) for last in "abc"])
    with pytest.raises(ClickException, match="and more"):
        whole_id(stored.storage, "01a20dc7")


def test_an_id_that_another_one_begins_with_is_itself(stored: JobQueue) -> None:
    stored.storage.submit([new_job(id="short"), new_job(id="shorter")])
    assert whole_id(stored.storage, "short") == "short"


@pytest.mark.parametrize("part", ["", "01a", "\x1b["])
def test_less_than_four_characters_are_refused(stored: JobQueue, part: str) -> None:
    with pytest.raises(ClickException, match="at least its first 4 or its last 8 characters") as caught:
        whole_id(stored.storage, part)
    assert "\x1b" not in caught.value.message


@pytest.mark.parametrize("part", ["%%%%%%%%", "________", "01a20dc7-93e1-763e-9f8a-a37186056c82x", "01A20DC7"])
def test_an_unknown_part_is_no_job(stored: JobQueue, part: str) -> None:
    with pytest.raises(JobNotFound):
        whole_id(stored.storage, part)


def test_every_command_about_a_job_takes_a_part(queue: JobQueue, run: Run) -> None:
    job = queue.submit(Job("some", print))
    end = job.id[-8:]
    assert job.id in run("jobs", "show", end).output
    assert "some is PENDING" in run("why", end).output
    assert run("jobs", "cancel", end).output == f"{job.id} CANCELLED\n"
    assert run("jobs", "retry", end).output == f"{job.id} PENDING\n"


def test_a_slip_in_the_last_id_changes_nothing(queue: JobQueue, run: Run) -> None:
    job = queue.submit(Job("some", print))
    result = run("jobs", "cancel", job.id, "no-such-job")
    assert (result.exit_code, result.output.count("\n")) == (1, 1)
    assert "no job 'no-such-job' in this database" in result.output
    assert job.state is JobState.PENDING
