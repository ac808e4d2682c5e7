"""From what was measured in each round to one report, which everything else is drawn from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import Any

from bench import Measure
from figures import verdicts
from systems import System

OURS = "gigq-power"  # what the ratios compare with

Rounds = Sequence[Mapping[str, Mapping[str, float]]]  # round → system → figure → value


def summarise(rounds: Rounds, measures: Iterable[Measure], systems: Sequence[System]) -> list[dict[str, Any]]:
    """Return each figure with a row for each system: median, least, most, and how many times better gigq is.

    A ratio is the median of the ratios within each round, in which both ran one after the other; above 1 gigq with its
    default durability is better than the system of the row.
    """
    titles = {system.name: system.title for system in systems}
    peers = {system.name: system.store for system in systems if system.is_peer}
    found = []
    for measure in measures:
        for figure in measure.figures:
            rows: dict[str, dict[str, Any]] = {}
            for system in systems:
                values = [done[system.name][figure.name] for done in rounds if figure.name in done[system.name]]
                if values:
                    ratio = _ratio(rounds, figure.name, system.name, higher_is_better=figure.higher_is_better)
                    rows[system.name] = {
                        "title": system.title,
                        "peer": system.is_peer,
                        "median": median(values),
                        "least": min(values),
                        "most": max(values),
                        "ratio": ratio,
                    }
            if rows:
                judged = verdicts(figure, {name: row["median"] for name, row in rows.items()}, peers, titles)
                found.append(
                    {
                        "name": figure.name,
                        "measure": measure.name,
                        "title": figure.title,
                        "unit": figure.unit,
                        "higher_is_better": figure.higher_is_better,
                        "with_peers": measure.with_peers,
                        "rows": rows,
                        "goals": [
                            {"system": titles[goal.system], "text": goal.text, "met": goal.met} for goal in judged
                        ],
                    }
                )
    return found


def _ratio(rounds: Rounds, figure: str, system: str, *, higher_is_better: bool) -> float | None:
    pairs = [
        (done[OURS][figure], done[system][figure])
        for done in rounds
        if figure in done.get(OURS, {}) and figure in done[system]
    ]
    if system == OURS or not pairs or any(0 in pair for pair in pairs):
        return None
    return median(ours / other if higher_is_better else other / ours for ours, other in pairs)
