"""The report as a picture: one panel of bars for each figure that peers are measured with, as SVG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from statistics import median
from typing import Any

from figures import number

WIDTH = 980
MARGIN = 24
COLUMNS = 2
GAP = 40
LABEL_WIDTH = 168
VALUE_WIDTH = 74
BAR = 13
ROW = 21
PANEL_HEAD = 50
HEAD = 92

INK, PALE, LINE, PAPER = "#1d2b2a", "#5f6d6c", "#dfe6e5", "#ffffff"
OURS, OURS_TOO = "#00796b", "#4db0a4"
COLOURS = {"sqlite": "#8498a6", "redis": "#d3b184"}
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif"

CUT = 4  # a bar that would make the panel longer than so many times its middle one is cut


def draw(report: Mapping[str, Any]) -> str:
    """Return the picture."""
    figures = [figure for figure in report["figures"] if figure["with_peers"] and figure["name"] != "latency_load"]
    stores = {system["name"]: system["store"] for system in report["systems"]}
    width = (WIDTH - 2 * MARGIN - (COLUMNS - 1) * GAP) // COLUMNS
    parts = []
    top = HEAD
    for first in range(0, len(figures), COLUMNS):
        row = figures[first : first + COLUMNS]
        for column, figure in enumerate(row):
            parts.append(_panel(figure, stores, MARGIN + column * (width + GAP), top, width))
        top += PANEL_HEAD + ROW * max(len(figure["rows"]) for figure in row) + 14
    height = top + 22
    foot = f"{report['machine']}; {report['options']['rounds']} rounds, {report['date']}"
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
            f'font-family="{FONT}" role="img" aria-label="gigq beside other task queues">',
            f'<rect width="{WIDTH}" height="{height}" fill="{PAPER}"/>',
            _text(MARGIN, 36, "gigq beside other task queues", size=21, weight=600),
            _text(
                MARGIN,
                57,
                "Jobs that do nothing, two worker processes each. Thin lines span all rounds.",
                fill=PALE,
            ),
            _legend(),
            *parts,
            _text(MARGIN, height - 14, foot, size=11, fill=PALE),
            "</svg>\n",
        ]
    )


def _legend() -> str:
    entries = (
        (OURS, "gigq, survives power loss"),
        (OURS_TOO, "gigq, survives process death"),
        (COLOURS["sqlite"], "peer on SQLite"),
        (COLOURS["redis"], "peer on Redis, without persistence"),
    )
    parts, left = [], MARGIN
    for colour, label in entries:
        parts.append(f'<rect x="{left}" y="68" width="11" height="11" rx="2" fill="{colour}"/>')
        parts.append(_text(left + 17, 78, label, size=12))
        left += 34 + int(6.6 * len(label))
    return "\n".join(parts)


def _panel(figure: Mapping[str, Any], stores: Mapping[str, str], left: int, top: int, width: int) -> str:
    rows = sorted(figure["rows"].items(), key=lambda row: row[1]["median"], reverse=figure["higher_is_better"])
    most = _axis([row["median"] for _, row in rows], may_cut=not figure["higher_is_better"])
    room = width - LABEL_WIDTH - VALUE_WIDTH
    better = "more is better" if figure["higher_is_better"] else "less is better"
    parts = [
        f'<line x1="{left}" y1="{top}" x2="{left + width}" y2="{top}" stroke="{LINE}"/>',
        _text(left, top + 21, figure["title"], size=14, weight=600),
        _text(left, top + 38, f"{figure['unit']}, {better}", size=11.5, fill=PALE),
    ]
    for place, (name, row) in enumerate(rows):
        y = top + PANEL_HEAD + place * ROW
        ours = not row["peer"]
        colour = COLOURS[stores[name]] if row["peer"] else OURS if name == "gigq-power" else OURS_TOO
        start = left + LABEL_WIDTH
        length = max(1.5, room * min(1, row["median"] / most)) if most else 1.5
        weight = 600 if ours else 400
        parts.append(_text(start - 8, y + 11, row["title"], size=12, weight=weight, anchor="end"))
        parts.append(f'<rect x="{start}" y="{y}" width="{length:.1f}" height="{BAR}" rx="2" fill="{colour}"/>')
        if row["median"] > most:
            parts.append(_break(start + room - 16, y))
        elif row["least"] < row["most"]:
            ends = [start + room * min(1.06, row[end] / most) for end in ("least", "most")]
            middle = y + BAR / 2
            parts.append(
                f'<line x1="{ends[0]:.1f}" y1="{middle}" x2="{ends[1]:.1f}" y2="{middle}" stroke="{INK}" '
                'stroke-opacity="0.55" stroke-width="1.2"/>'
            )
        reach = max(length, room * min(1.06, row["most"] / most) if most and row["median"] <= most else 0)
        parts.append(_text(start + reach + 7, y + 11, number(row["median"]), size=12, weight=weight))
    return "\n".join(parts)


def _axis(values: Sequence[float], *, may_cut: bool) -> float:
    """Return the value that fills a panel."""
    most = max(values)
    return min(most, CUT * median(values)) if may_cut and median(values) > 0 else most


def _break(x: float, y: float) -> str:
    """Return the mark of a bar that is longer than shown."""
    return "".join(
        f'<path d="M{x + shift:.1f} {y + BAR + 2} l5 {-BAR - 4}" stroke="{PAPER}" stroke-width="2.5"/>'
        for shift in (0, 6)
    )


def _text(
    x: float, y: float, text: str, *, size: float = 13, weight: int = 400, fill: str = INK, anchor: str = "start"
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" font-weight="{weight}" fill="{fill}" '
        f'text-anchor="{anchor}">{escape(text)}</text>'
    )
