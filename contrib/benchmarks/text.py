"""The report as text for a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from figures import number

WIDTH = 27  # of a system's name


def table(report: Mapping[str, Any]) -> str:
    """Return every figure with its systems, and its goals beside it."""
    lines = [heading(report), ""]
    for figure in report["figures"]:
        lines.append(f"{figure['title']}{', ' + figure['unit'] if figure['unit'] else ''}")
        for row in figure["rows"].values():
            spread = "" if row["least"] == row["most"] else f"{number(row['least'])} … {number(row['most'])}"
            ratio = "" if row["ratio"] is None else f"{number(row['ratio']):>9} ×"
            lines.append(f"  {row['title']:{WIDTH}}{number(row['median']):>10}  {spread:21}{ratio}".rstrip())
        lines += [f"  goal {goal['system']}: {goal['text']}: {verdict(goal['met'])}" for goal in figure["goals"]]
        lines.append("")
    lines += [f"{measure}: not available: {why}" for measure, why in report["missing"].items()]
    lines += [f"{one['measure']}, {one['system']}: failed: {one['why']}" for one in report["failed"]]
    met, all_goals = count_goals(report)
    lines.append(f"{met} of {all_goals} goals met. The last column: how many times better gigq (power) is.")
    return "\n".join(lines)


def heading(report: Mapping[str, Any]) -> str:
    options = report["options"]
    return f"{options['jobs']:,} jobs a measure, {options['rounds']} rounds, {report['machine']}"


def verdict(met: bool) -> str:
    return "met" if met else "NOT met"


def count_goals(report: Mapping[str, Any]) -> tuple[int, int]:
    """Return how many goals were met, and how many there are."""
    goals = [goal["met"] for figure in report["figures"] for goal in figure["goals"]]
    return sum(goals), len(goals)
