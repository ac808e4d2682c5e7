import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow


def test_quickstart_prints_what_its_readme_shows(
    copy_example: Callable[[str], Path], start: Callable[..., subprocess.Popen[str]]
) -> None:
    folder = copy_example("00_quickstart")
    call = start(folder, "call.py")
    worker = start(folder, "-m", "gigq", "worker", "myapp:app")
    output, _ = call.communicate(timeout=60)
    assert call.returncode == 0, output
    worker.send_signal(signal.SIGINT)
    log, _ = worker.communicate(timeout=60)
    assert worker.returncode == 0, log
    for line in output.splitlines():
        assert line in (folder / "README.md").read_text()
    assert output.endswith("the longest: everything\n")
