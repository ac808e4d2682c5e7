"""The demo runs, and its picture fits 80 columns."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest


@pytest.mark.slow
def test_the_demo_shows_every_attempt_as_a_bar_on_one_axis() -> None:
    environment = {**os.environ, "COLUMNS": "80"}
    done = subprocess.run(
        [sys.executable, "-m", "gigq", "demo"], capture_output=True, text=True, timeout=60, env=environment
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    assert sum("COMPLETED" in line for line in lines) == 17
    (failed,) = [line for line in lines if "FAILED" in line]
    assert failed.startswith("notify")
    assert re.search(r"demo-1 is process \d+, demo-2 is process \d+\.", done.stdout)
    assert "17 jobs, 18 attempts, 1 failed" in done.stdout
    assert lines.index(failed) < next(number for number, line in enumerate(lines) if line.startswith("archive"))
