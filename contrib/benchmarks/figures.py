"""From what was measured in each round to figures and a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median, quantiles
from typing import Any, NamedTuple

Rounds = Sequence[Mapping[str, Mapping[str, float]]]  # round → system → figure's name → value


class Figure(NamedTuple):
    """One figure that is shown, and which way is better."""

    name: str
    title: str
    unit: str
    higher_is_better: bool


FIGURES = (
    Figure("enqueue", "enqueue, one by one", "jobs/s", True),
    Figure("enqueue_many", "enqueue, many in one call", "jobs/s", True),
    Figure("drain", "drain, from the first enqueue", "jobs/s", True),
    Figure("backlog", "drain, of stored jobs", "jobs/s", True),
    Figure("round_trip_p50", "round trip, p50", "ms", False),
    Figure("round_trip_p99", "round trip, p99", "ms", False),
)


def figures_of(measure: str, count: int, result: Mapping[str, Any]) -> dict[str, float]:
    """Return the figures that one measure gives."""
    if measure != "round_trip":
        return {measure: count / result["seconds"]}
    samples = sorted(1000 * sample for sample in result["samples"])
    cuts = quantiles(samples, n=100, method="inclusive")
    return {"round_trip_p50": cuts[49], "round_trip_p99": cuts[98]}


def summarise(rounds: Rounds, baselines: Sequence[str]) -> dict[str, dict[str, dict[str, float]]]:
    """Return figure → system → median, least, most, and the ratio to each baseline: above 1 is better than it.

    A ratio is the median of the ratios within each round, in which both ran one after the other.
    """
    summary: dict[str, dict[str, dict[str, float]]] = {}
    for figure in FIGURES:
        measured = [found for found in rounds if all(figure.name in row for row in found.values())]
        if not measured:
            continue
        for system in measured[0]:
            values = [found[system][figure.name] for found in measured]
            row = {"median": median(values), "least": min(values), "most": max(values)}
            for baseline in baselines:
                others = [found[baseline][figure.name] for found in measured]
                pairs = (
                    zip(values, others, strict=True) if figure.higher_is_better else zip(others, values, strict=True)
                )
                row[baseline] = median(one / other for one, other in pairs)
            summary.setdefault(figure.name, {})[system] = row
    return summary


def table(summary: Mapping[str, Mapping[str, Mapping[str, float]]], baselines: Sequence[str]) -> str:
    """Return the summary as text."""
    heads = "".join(f"{'/ ' + baseline:>18}" for baseline in baselines)
    lines = [f"{'':32}{'system':18}{'median':>10}{'least':>10}{'most':>10}  {'unit':8}{heads}".rstrip()]
    for figure in FIGURES:
        title = figure.title
        for system, row in summary.get(figure.name, {}).items():
            cells = "".join(f"{row[key]:>10,.{0 if row[key] >= 100 else 2}f}" for key in ("median", "least", "most"))
            ratios = "".join(f"{row[baseline]:>16.2f} x" for baseline in baselines)
            lines.append(f"{title:32}{system:18}{cells}  {figure.unit:8}{ratios}".rstrip())
            title = ""
    return "\n".join(lines)
