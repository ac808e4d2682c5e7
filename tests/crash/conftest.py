"""A rig for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from rig import Rig


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with Rig(tmp_path) as rig:
        yield rig


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out the mutations, which take minutes, unless they are named on the command line, as .ci/run does."""
    is_named = any("test_mutations" in arg for arg in config.args)
    return True if collection_path.name == "test_mutations.py" and not is_named else None
