"""The app: one task that measures a module, and one that puts all measures into a report."""

from __future__ import annotations

from pathlib import Path

from measure import Measures, measure_file
from report import make_report

from gigq import App

app = App("index.db")


@app.task(timeout=60)
def measure(module: str, path: str) -> Measures:
    """Measure one module."""
    return measure_file(module, path)


@app.task(timeout=60)
def write_report(modules: list[Measures], title: str, path: str) -> int:
    """Write the report; return how many modules it is about."""
    # Written beside and renamed: a worker that is killed here leaves no half report, and doing it twice does no harm.
    draft = Path(path + ".draft")
    draft.write_text(make_report(title, modules), encoding="utf-8")
    draft.replace(path)
    return len(modules)
