"""The pure half of examples/01_standard_library, on sources small enough to count by hand."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

FOLDER = Path(__file__).parents[2] / "examples" / "01_standard_library"

SOURCE = """\
import os.path
from . import sibling
from ..upper import name

if os.name:
    flag = 1

class Thing:
    def one(self, a):
        return 1 if a and a > 1 else [x for x in a if x]

    def two(self):
        def inner():
            while True:
                break
        return inner
"""


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[ModuleType, ModuleType]]:
    monkeypatch.syspath_prepend(str(FOLDER))
    measure, report = importlib.import_module("measure"), importlib.import_module("report")
    yield measure, report
    for name in ("measure", "report"):
        monkeypatch.delitem(sys.modules, name)


def test_source_is_measured(example: tuple[ModuleType, ModuleType], tmp_path: Path) -> None:
    path = tmp_path / "mod.py"
    path.write_text(SOURCE)
    measures = example[0].measure_file("pack.sub.mod", str(path))
    assert (measures.lines, measures.functions, measures.classes) == (16, 3, 1)
    # one: 1 + conditional + and + comprehension; two: 1; inner: 1 + while; outside: if
    assert measures.complexity == 4 + 1 + 2 + 1
    assert (measures.hardest, measures.hardest_complexity) == ("Thing.one:9", 4)
    assert measures.imports == ("os.path", "pack.sub.sibling", "pack.upper.name")


def test_broken_source_is_a_result(example: tuple[ModuleType, ModuleType], tmp_path: Path) -> None:
    path = tmp_path / "mod.py"
    path.write_text("print 'old'\n")
    measures = example[0].measure_file("mod", str(path))
    assert measures.lines == 1
    assert measures.problem.startswith("SyntaxError: ")


def test_report_does_not_depend_on_the_order_of_results(example: tuple[ModuleType, ModuleType]) -> None:
    measure, report = example
    modules = [measure.Measures(name, 10, imports=("os.path.join", "a")) for name in ("os.path", "a", "b", "c")]
    text = report.make_report("title", modules)
    assert text == report.make_report("title", reversed(modules))
    assert report.count_imports(modules) == [("a", 3), ("os.path", 3)]
