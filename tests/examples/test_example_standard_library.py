import re
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

LIMIT = 60


def test_report_is_the_same_when_a_worker_is_killed(
    copy_example: Callable[[str], Path], output_of: Callable[..., str]
) -> None:
    folder = copy_example("01_standard_library")
    calm = output_of(folder, "run.py", "--limit", str(LIMIT))
    killed = output_of(folder, "run.py", "--limit", str(LIMIT), "--kill", "--report", "killed.md")

    assert f"report.md is about {LIMIT} modules" in calm
    assert f"{LIMIT} of {LIMIT} modules measured" in calm
    assert re.search(r"worker \d+ was killed", killed), killed
    assert "worker" not in calm.replace("workers", ""), calm
    assert (folder / "report.md").read_bytes() == (folder / "killed.md").read_bytes()


def test_report_names_the_largest_modules(copy_example: Callable[[str], Path], output_of: Callable[..., str]) -> None:
    folder = copy_example("01_standard_library")
    output_of(folder, "run.py", "--limit", "20")
    report = (folder / "report.md").read_text()
    assert report.startswith("# The standard library of Python ")
    assert "20 modules, " in report
    for heading in ("## The largest", "## The most complex", "## The most imported"):
        assert heading in report
    largest = re.findall(r"^\| ([\w.]+) \| (\d+) \| \d+ \| \d+ \|$", report, re.MULTILINE)
    lines = [int(count) for _, count in largest]
    assert len(lines) == 10
    assert lines == sorted(lines, reverse=True)
