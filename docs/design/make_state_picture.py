"""Draw docs/reference/states.svg from gigq's own table of transitions.

python docs/design/make_state_picture.py
"""

from __future__ import annotations

from collections import defaultdict
from html import escape
from pathlib import Path

from gigq.states import TRANSITIONS, JobState

PICTURE = Path(__file__).parents[1] / "reference" / "states.svg"

WIDTH, HEIGHT = 900, 590
BOX_WIDTH, BOX_HEIGHT = 130, 44
LINE_HEIGHT = 16

CENTRES = {
    JobState.PENDING: (100, 270),
    JobState.RUNNING: (440, 270),
    JobState.FAILED: (800, 150),
    JobState.COMPLETED: (800, 270),
    JobState.TIMEOUT: (800, 390),
    JobState.CANCELLED: (440, 470),
}

# For each pair of states: the path of the arrow, where its label stands, and how that is aligned. What can be read off
# the table is read off it; where lines run so that they can be told apart is a matter of taste.
ROUTES = {
    (JobState.PENDING, JobState.RUNNING): ("M165 258 L371 258", (268, 248), "middle"),
    (JobState.RUNNING, JobState.PENDING): ("M375 282 L169 282", (268, 302), "middle"),
    (JobState.RUNNING, JobState.COMPLETED): ("M505 270 L731 270", (640, 262), "middle"),
    (JobState.RUNNING, JobState.FAILED): ("M480 248 C520 170 620 150 731 150", (618, 100), "middle"),
    (JobState.RUNNING, JobState.TIMEOUT): ("M480 292 C520 370 620 390 731 390", (672, 378), "middle"),
    (JobState.RUNNING, JobState.CANCELLED): ("M440 292 L440 444", (450, 390), "start"),
    (JobState.PENDING, JobState.CANCELLED): ("M130 292 C150 400 260 458 371 462", (238, 420), "start"),
    (JobState.CANCELLED, JobState.PENDING): ("M375 480 C220 480 105 430 100 296", (300, 496), "middle"),
    (JobState.FAILED, JobState.PENDING): ("M800 128 C800 10 100 10 100 244", (440, 34), "middle"),
    (JobState.TIMEOUT, JobState.PENDING): ("M800 412 C800 610 70 610 70 296", (440, 580), "middle"),
}


def labels() -> dict[tuple[JobState, JobState], list[str]]:
    """Return the events that lead from one state to another, by the two states."""
    found: dict[tuple[JobState, JobState], list[str]] = defaultdict(list)
    for (state, event), following in TRANSITIONS.items():
        found[state, following].append(event.value)
    return dict(found)


def draw() -> str:
    """Return the picture as SVG. Raises KeyError if the table has an arrow that no route is known for."""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        'font-family="sans-serif" font-size="13">',
        "<title>The states of a job and the events that lead from one to another</title>",
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" orient="auto">'
        '<path d="M0 0 L8 4 L0 8 z" fill="#455a64"/></marker></defs>',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
    ]
    for states, events in labels().items():
        path, (x, y), anchor = ROUTES[states]
        parts.append(f'<path d="{path}" fill="none" stroke="#455a64" stroke-width="1.5" marker-end="url(#tip)"/>')
        for number, event in enumerate(events):
            parts.append(f'<text x="{x}" y="{y + number * LINE_HEIGHT}" text-anchor="{anchor}">{escape(event)}</text>')
    for state, (x, y) in CENTRES.items():
        fill = "#eceff1" if state.is_terminal else "#e3f2fd"
        parts.append(
            f'<rect x="{x - BOX_WIDTH // 2}" y="{y - BOX_HEIGHT // 2}" width="{BOX_WIDTH}" height="{BOX_HEIGHT}" '
            f'rx="8" fill="{fill}" stroke="#455a64" stroke-width="1.5"/>'
        )
        parts.append(f'<text x="{x}" y="{y + 5}" text-anchor="middle" font-weight="bold">{state}</text>')
    return "\n".join([*parts, "</svg>", ""])


if __name__ == "__main__":
    PICTURE.write_text(draw(), encoding="utf-8")
