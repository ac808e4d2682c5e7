"""From the measures of all modules to one page of text, the same for the same measures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from measure import Measures

ROWS = 10


def make_report(title: str, modules: Iterable[Measures]) -> str:
    """Return the report as Markdown. Ties are ordered by name, so that nothing depends on who finished first."""
    found = sorted(modules, key=lambda m: m.module)
    largest = sorted(found, key=lambda m: (-m.lines, m.module))[:ROWS]
    hardest = sorted(found, key=lambda m: (-m.complexity, m.module))[:ROWS]
    parts = [
        f"# {title}\n",
        f"{len(found)} modules, {sum(m.lines for m in found)} lines, {sum(m.functions for m in found)} functions, "
        f"{sum(m.classes for m in found)} classes.\n",
        "## The largest\n",
        _table(
            ("module", "lines", "functions", "classes"),
            [(m.module, m.lines, m.functions, m.classes) for m in largest],
        ),
        "## The most complex\n",
        _table(
            ("module", "complexity", "most complex function", "its complexity"),
            [(m.module, m.complexity, m.hardest, m.hardest_complexity) for m in hardest],
        ),
        "## The most imported\n",
        _table(("module", "modules that import it"), count_imports(found)[:ROWS]),
    ]
    if broken := [(m.module, m.problem) for m in found if m.problem]:
        parts += ["## Not valid Python\n", _table(("module", "why"), broken)]
    return "\n".join(parts)


def count_imports(modules: Sequence[Measures]) -> list[tuple[str, int]]:
    """Return each imported module with the number of modules that import it, the most imported first."""
    known = {m.module for m in modules}
    counts: Counter[str] = Counter()
    for m in modules:
        counts.update({_resolve(name, known) for name in m.imports} - {m.module})
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def _resolve(name: str, known: set[str]) -> str:
    """Return the module that an imported name means: `os.path.join` is in `os.path` if that is known, else in `os`."""
    while name not in known and "." in name:
        name = name.rpartition(".")[0]
    return name


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join("| " + " | ".join(str(cell) for cell in line) + " |\n" for line in lines)
