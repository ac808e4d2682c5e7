from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

PRINTED = "archived: notifications.txt, report.txt\nOslo 13\nRome 7\nLima 4\n"


@pytest.mark.parametrize("script", ["explicit.py", "with_app.py"])
def test_both_styles_of_the_workflow_print_the_same(
    script: str, copy_example: Callable[[str], Path], output_of: Callable[..., str]
) -> None:
    folder = copy_example("02_workflow")
    output = output_of(folder, script)
    assert output.endswith(PRINTED)  # above it may stand the worker's log
    assert PRINTED in (folder / "README.md").read_text()


def test_explicit_workflow_can_be_listed_afterwards(
    copy_example: Callable[[str], Path], output_of: Callable[..., str]
) -> None:
    folder = copy_example("02_workflow")
    output_of(folder, "explicit.py")
    listing = output_of(folder, "-m", "gigq", "jobs", "list", "--db", "explicit.db")
    for name in ("download", "process", "report", "notify", "archive"):
        assert name in listing
