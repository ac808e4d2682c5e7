"""The reference is complete: it names everything that there is."""

import importlib.util
import inspect
import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

import gigq
from gigq.cli import main
from gigq.states import TRANSITIONS, JobState
from gigq.storage.sqlite.schema import MIGRATIONS

DOCS = Path(__file__).parents[2] / "docs"


def commands(group: click.Group, path: str = "gigq") -> Iterator[str]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, f"{path} {name}")
        else:
            yield f"{path} {name}"


@pytest.mark.parametrize("name", gigq.__all__)
def test_public_name_is_in_the_reference(name: str) -> None:
    page = (DOCS / "reference" / "api.md").read_text()
    assert re.search(rf"^#+ .*\b{name}\b|`{name}\b", page, re.MULTILINE), f"{name} is missing"


@pytest.mark.parametrize("command", list(commands(main)))
def test_command_is_in_the_reference(command: str) -> None:
    assert command in (DOCS / "reference" / "cli.md").read_text()


@pytest.mark.parametrize("name", ["App", "Job", "JobQueue", "Worker"])
def test_signature_in_the_reference_names_every_parameter(name: str) -> None:
    page = (DOCS / "reference" / "api.md").read_text()
    signature = re.search(rf"^`{name}\((.*)\)`$", page, re.MULTILINE)
    assert signature is not None
    shown = re.findall(r"(?:^|, )\**(\w+)", signature[1])
    assert shown == list(inspect.signature(getattr(gigq, name)).parameters)


def test_every_table_and_column_is_in_the_reference() -> None:
    page = (DOCS / "reference" / "storage.md").read_text()
    db = sqlite3.connect(":memory:")
    for migration in MIGRATIONS:
        db.executescript(migration)
    missing = []
    for (table,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
        section = re.search(rf"^## [\w, ]*\b{table}\b.*?(?=^## |\Z)", page, re.MULTILINE | re.DOTALL)
        for column in db.execute(f"PRAGMA table_info({table})").fetchall():
            if section is None or f"`{column[1]}`" not in section[0]:
                missing.append(f"{table}.{column[1]}")
    db.close()
    assert missing == []


def test_every_transition_is_in_the_reference() -> None:
    page = (DOCS / "reference" / "states.md").read_text()
    rows = {cells[0]: cells[1:] for line in page.splitlines() if len(cells := line.strip("| ").split(" | ")) == 3}
    for (state, event), following in TRANSITIONS.items():
        sources, target = rows[event.value]
        assert state in sources.split(", "), (event, state)
        assert target.partition(":")[0] == following, (event, following)
    assert all(f"| {state} |" in page for state in JobState)


def test_picture_of_the_states_is_current() -> None:
    script = DOCS / "design" / "make_state_picture.py"
    spec = importlib.util.spec_from_file_location("make_state_picture", script)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.PICTURE.read_text() == module.draw(), f"run: python {script.relative_to(DOCS.parent)}"
