"""An object whose unpickling leaves a mark goes everywhere: only the child that runs a job ever loads it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from workshop import Workshop, attempts, until

from gigq import Job, JobState

pytestmark = pytest.mark.slow  # each starts a worker, or shares one with its neighbours

CANCELLED, COMPLETED, FAILED, PENDING = JobState.CANCELLED, JobState.COMPLETED, JobState.FAILED, JobState.PENDING

# Evaluated while unpickling: writes the process id into a file, and is `print` from then on.
EXPLODE = "[open({path!r}, 'a').write(str(__import__('os').getpid()) + '\\n'), print][1]"


class Field:
    """Jobs with bombs in them, each with its own mark."""

    def __init__(self, workshop: Workshop) -> None:
        self.workshop = workshop
        self.shop = workshop.load("hostile")
        self.jobs: dict[str, Job[Any]] = {}

    def bomb(self, name: str) -> Any:
        return self.shop.Loads(*self.charge(name))

    def charge(self, name: str) -> tuple[Any, str]:
        return eval, EXPLODE.format(path=str(self.workshop.folder / f"{name}.mark"))

    def lay(self, name: str, job: Job[Any]) -> Job[Any]:
        self.jobs[name] = self.workshop.queue.submit(job)
        return job

    def marks(self, name: str) -> list[int]:
        path = self.workshop.folder / f"{name}.mark"
        return [int(line) for line in path.read_text().split()] if path.exists() else []

    def check(self) -> None:
        """Each mark was made by a process that ran its job, once for each attempt."""
        for name, job in self.jobs.items():
            assert self.marks(name) == [execution.pid for execution in job.executions], name

    def run_all_commands(self) -> str:
        """Run every command that looks at jobs, and return what they print."""
        commands = [
            ["jobs", "list"],
            ["stats"],
            ["workers"],
            ["doctor"],
            ["doctor", "--full"],
            ["prune", "--older-than", "1d"],
        ]
        for job in self.jobs.values():
            commands += [["jobs", "show", job.id], ["why", job.id]]
        commands += [[*words, "--json"] for words in commands if words[0] not in ("prune", "why")]
        commands += [["jobs", "list", "--state", state, "--task", "shop.echo"] for state in JobState]
        code = "import json, sys; from gigq.cli import main\nfor words in json.loads(sys.argv[1]):\n"
        code += "    sys.argv[1:] = words\n    main(standalone_mode=False)"
        # One interpreter for many commands: starting one for each would take ten seconds.
        return self.workshop.run("-c", code, json.dumps(commands))

    def change(self, *words: str) -> str:
        return self.workshop.run("-m", "gigq", "jobs", *words)


@pytest.fixture
def field(workshop: Workshop) -> Field:
    return Field(workshop)


def test_no_command_loads_what_waits(field: Field) -> None:
    bomb, shop = field.bomb, field.shop
    field.lay("argument", shop.echo.job({"deep": [bomb("argument")]}))
    field.lay("keyword", shop.echo.job(value=bomb("keyword")))
    field.lay("function", Job("called", bomb("function")))
    field.lay("late", shop.echo.options(delay=3600).job(bomb("late")))
    field.lay("child", Job("child", print, args=[bomb("child")], dependencies=[field.jobs["late"]]))
    before = field.run_all_commands()
    assert before.count(field.jobs["argument"].id) > 4
    ids = [job.id for job in field.jobs.values()]
    assert field.change("cancel", *ids).count("CANCELLED") == len(ids)
    field.run_all_commands()
    assert field.change("retry", *ids[:-1]).count("PENDING") == len(ids) - 1
    assert {job.state for job in field.jobs.values()} == {PENDING}
    field.change("cancel", *ids)
    assert "5 jobs deleted" not in field.workshop.run("-m", "gigq", "prune", "--older-than", "1h")
    # All but the newest, and what that fell with.
    assert "3 jobs deleted" in field.workshop.run("-m", "gigq", "prune", "--older-than", "0s")
    assert list(field.workshop.folder.glob("*.mark")) == []


def test_only_the_children_that_run_jobs_load_them(field: Field) -> None:
    bomb, shop, workshop = field.bomb, field.shop, field.workshop
    echoed = field.lay("echoed", shop.add.options(max_attempts=1).job(bomb("echoed")))
    called = field.lay("function", Job("called", bomb("function")))
    failing = field.lay("failing", shop.fail.job(bomb("failing")))
    cancelled = field.lay("cancelled", shop.hold.job("never", bomb("cancelled")))
    made = workshop.queue.submit(Job("makes", shop.Loads, args=field.charge("result")))
    stranger = field.lay("stranger", Job("stranger", print, args=[bomb("stranger")], queue="elsewhere"))

    workshop.work("shop:app", "-Q", "default", concurrency=3)
    assert called.get(20) is None
    assert echoed.wait(20) is FAILED  # `print` is no number
    assert failing.wait(20) is FAILED
    assert made.wait(20) is COMPLETED
    until(lambda: field.marks("cancelled"))
    field.run_all_commands()
    assert "RUNNING" in field.change("cancel", cancelled.id)
    assert cancelled.wait(10) is CANCELLED
    assert "PENDING" in field.change("retry", failing.id)
    assert failing.wait(20) is FAILED
    assert len(field.marks("failing")) == len(attempts(failing)) == 4
    assert (stranger.state, field.marks("stranger")) == (PENDING, [])
    field.run_all_commands()
    field.check()

    assert field.marks("result") == []  # nobody has asked for it
    reader = field.lay("result", Job("reads", print, args=[made.output]))
    assert reader.get(20) is None
    assert field.marks("result") == [reader.executions[0].pid]
    field.run_all_commands()
    field.check()


def test_a_worker_that_does_not_know_the_task_leaves_its_bomb_alone(field: Field) -> None:
    (field.workshop.folder / "other.py").write_text("from gigq import App\napp = App(name='other')\n")
    shop, workshop = field.shop, field.workshop
    job = field.lay("unknown", shop.echo.job(field.bomb("unknown")))
    ignorant = workshop.work("other:app")
    after = workshop.queue.submit(Job("after", print))
    assert after.get(20) is None
    assert job.state is PENDING
    field.run_all_commands()
    assert field.marks("unknown") == []
    workshop.work("shop:app")
    assert job.wait(20) is COMPLETED
    field.check()
    assert ignorant.poll() is None
