"""What a measure gives: figures with a unit, which way is better, and the goals that they are held against."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import quantiles


@dataclass(frozen=True, slots=True)
class Goal:
    """What a figure of gigq should reach: a bound, or so many times a figure of the peers."""

    bound: float
    against: str = ""  # "": the bound is absolute; "sqlite": times the best peer on SQLite; "any": times the best peer
    systems: tuple[str, ...] = ("gigq-power",)


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure."""

    name: str
    title: str
    unit: str
    higher_is_better: bool
    goals: tuple[Goal, ...] = ()


@dataclass(frozen=True, slots=True)
class Verdict:
    """A goal, and whether it was met."""

    system: str
    text: str
    met: bool


def percentiles(samples: Sequence[float], *wanted: int, scale: float = 1.0) -> list[float]:
    """Return percentiles of `samples`, of which there must be two, each times `scale`."""
    cuts = quantiles(samples, n=100, method="inclusive")
    return [scale * cuts[percent - 1] for percent in wanted]


def verdicts(
    figure: Figure, medians: Mapping[str, float], peers: Mapping[str, str], titles: Mapping[str, str]
) -> list[Verdict]:
    """Judge a figure. `medians` by system, `peers` the store of each peer; goals without a figure are left out."""
    found = []
    for goal in figure.goals:
        for system in goal.systems:
            if system not in medians:
                continue
            value, bound, text = medians[system], goal.bound, f"{sign(figure)} {number(goal.bound)} {figure.unit}"
            if goal.against:
                field = [name for name, store in peers.items() if name in medians and goal.against in ("any", store)]
                if not field:
                    continue
                best = (max if figure.higher_is_better else min)(field, key=lambda name: medians[name])
                bound = goal.bound * medians[best] if figure.higher_is_better else medians[best] / goal.bound
                times = value / medians[best] if figure.higher_is_better else medians[best] / value
                kind = "peer" if goal.against == "any" else "SQLite peer"
                text = f"≥ {goal.bound:g} × the best {kind} ({titles[best]}): {times:.1f} ×"
            met = value >= bound if figure.higher_is_better else value <= bound
            found.append(Verdict(system, text.strip(), met))
    return found


def sign(figure: Figure) -> str:
    return "≥" if figure.higher_is_better else "≤"


def number(value: float) -> str:
    """Return a figure with three significant digits, or all of those before the point."""
    if value == 0:
        return "0"
    size = abs(value)
    text = f"{value:,.{0 if size >= 100 else 1 if size >= 10 else 2 if size >= 0.1 else 3}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
