"""What the children of `gigq worker` have of its command: the log, and the options of the interpreter."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow  # each starts a worker

APP = """
import logging, sys
from gigq import App

app = App("jobs.db")
log = logging.getLogger("shop")

@app.task
def pack(number: int) -> list[object]:
    log.debug("looking for box %d", number)
    log.info("packing %d", number)
    log.warning("no paper for %d", number)
    return [sys.flags.optimize, sys.flags.dev_mode, sys._xoptions.get("mine"), "error::UserWarning" in sys.warnoptions]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "shop.py").write_text(APP)
    run(tmp_path, "-c", "from shop import pack; print(pack.delay(7).id)")
    return tmp_path


def run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, *command], cwd=folder, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done


def work(folder: Path, *options: str) -> list[str]:
    return run(folder, "-m", "gigq", "worker", "shop:app", "--burst", "-c", "1", *options).stderr.splitlines()


def test_what_a_task_logs_looks_like_the_workers_own_lines(folder: Path) -> None:
    lines = work(folder, "--name", "night-shift")
    (packing,) = [line for line in lines if "packing 7" in line]
    assert packing.split(maxsplit=2)[2] == "INFO    night-shift  packing 7"
    assert any(line.endswith("WARNING night-shift  no paper for 7") for line in lines)
    assert not any("looking" in line for line in lines)


def test_what_a_task_logs_is_json_where_the_log_is(folder: Path) -> None:
    records = [json.loads(line) for line in work(folder, "--log-format", "json", "--log-level", "debug", "-n", "w1")]
    mine = [(record["level"], record["message"], record["worker"]) for record in records if record["logger"] == "shop"]
    assert mine == [
        ("debug", "looking for box 7", "w1"),
        ("info", "packing 7", "w1"),
        ("warning", "no paper for 7", "w1"),
    ]


def test_the_level_of_the_worker_is_that_of_its_tasks(folder: Path) -> None:
    lines = work(folder, "--log-level", "error")
    assert lines == []


def test_an_app_that_sets_up_logging_itself_keeps_it(folder: Path) -> None:
    with open(folder / "shop.py", "a") as module:
        module.write('\nlogging.basicConfig(format="%(levelname)s from the app: %(message)s", level="WARNING")\n')
    lines = work(folder)
    assert "WARNING from the app: no paper for 7" in lines
    assert not any("packing" in line for line in lines)


def test_children_run_with_the_options_of_the_workers_interpreter(folder: Path) -> None:
    options = ("-O", "-X", "dev", "-X", "mine=7", "-W", "error::UserWarning")
    run(folder, *options, "-m", "gigq", "worker", "shop:app", "--burst", "-c", "1")
    job = "from shop import app; print(app.queue.list()[0].get(1))"
    assert run(folder, "-c", job).stdout.strip() == "[1, True, '7', True]"
