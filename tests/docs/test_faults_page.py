"""The page about faults names each of them, and no test that does not exist."""

from __future__ import annotations

import ast
import functools
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "design" / "faults.md").read_text()
NUMBERS = [*map(str, range(1, 52)), *(f"S{number}" for number in range(1, 8))]
OPEN = ("PostgreSQL, not built yet", "dashboard, not built yet")

ROWS = {
    cells[0].strip(): cells for cells in (line.strip("|").split("|") for line in PAGE.splitlines()) if len(cells) == 4
}
NAMED = sorted(set(re.findall(r"`([\w/]+\.py)::(\w+)`", PAGE)))


@functools.cache
def names_in(file: str) -> set[str]:
    tree = ast.parse((ROOT / file).read_text())
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)}


@pytest.mark.parametrize("number", NUMBERS)
def test_each_fault_has_a_row_with_tests_or_says_what_is_missing(number: str) -> None:
    _, happens, does, tests = ROWS[number]
    assert happens.strip()
    assert "::" in tests or any(f"*{text}*" in tests for text in OPEN)
    assert does.strip() or f"*{OPEN[0]}*" in tests or f"*{OPEN[1]}*" in tests


@pytest.mark.parametrize(("file", "name"), NAMED)
def test_what_the_page_names_exists(file: str, name: str) -> None:
    assert name in names_in(file)


def test_every_test_that_is_named_for_a_fault_stands_in_its_row() -> None:
    missing = []
    for file in sorted((ROOT / "tests").rglob("test_*.py")):
        relative = str(file.relative_to(ROOT))
        for name in names_in(relative):
            named = re.match(r"test_fault_(\d+)_", name)
            if named and f"`{relative}::{name}`" not in ROWS[str(int(named[1]))][3]:
                missing.append(f"{int(named[1])}: {relative}::{name}")
    assert missing == []
