"""The report as a page of the documentation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from figures import number
from rounds import BUSY
from text import count_goals

PEER_TABLES = (
    ("Throughput, jobs/s", ("drain", "backlog", "enqueue", "enqueue_many")),
    ("Waiting, ms", ("round_trip_p50", "round_trip_p99", "latency_p50", "latency_p99", "latency_load")),
    ("Starting and idling", ("startup", "idle")),
)
HEADS = {
    "drain": "drain",
    "backlog": "drain of stored jobs",
    "enqueue": "enqueue, one by one",
    "enqueue_many": "enqueue, many at once",
    "round_trip_p50": "round trip, p50",
    "round_trip_p99": "round trip, p99",
    "latency_p50": "start under half load, p50",
    "latency_p99": "start under half load, p99",
    "latency_load": "the half load, jobs/s",
    "startup": "start to first finished job, s",
    "idle": "idle, % of a core",
}

BUSY_NOTE = (
    "**Other programs kept this machine busy during the run.** A quiet one gives better figures for nearly",
    "everything; the systems took turns, so their ratios still say something.",
    "",
)

READING = """\
- All systems take turns at each measure, in another order in each round, so that a slow minute of the machine hits all
  of them. A figure is the median over the rounds. Ratios say more than figures: another machine has other figures.
- In brackets: how many times better gigq is with its default, `durability="power"`. Below 1 the other one is better.
- A drain ends when as many results are stored as jobs were enqueued. Each job stores one, in every system.
- *Drain*: from before the first enqueue, by each system's fastest way, to the last commit, with an idle worker. *Of
  stored jobs*: the worker alone; it is stopped while they are stored.
- *Enqueue* runs without a worker.
- *Start under half load*: from the moment for which a call is planned to the start of its job, at half the rate that
  one caller and the worker manage together; each system at its own rate.
- *Idle*: the processor time of all processes of the worker. The time that Redis itself takes is not in it.
- Redis runs on the same machine, without persistence: what it has acknowledged is gone when it stops. `gigq (power)`,
  `huey (fsync)` and `potatoq (durable)` survive a power cut, `gigq (process)` and `potatoq` the end of every process.
"""


def draw(report: Mapping[str, Any], picture: str | None) -> str:
    """Return the page; `picture` is the name of the chart's file beside it."""
    figures = {figure["name"]: figure for figure in report["figures"]}
    options = report["options"]
    met, goals = count_goals(report)
    lines = [
        "<!-- Written by contrib/benchmarks/run.py, which the page names below: change that and run it again. -->",
        "# Benchmarks",
        "",
        "gigq and other task queues on one machine, in one run: jobs that do nothing, two worker processes each.",
        "",
    ]
    if picture:
        lines += [f"![Bars for each system: throughput, waits, start and idle cost]({picture})", ""]
    lines += ["```console", f"$ {report['command']}", "```", ""]
    lines += [
        f"Run on {report['date']} in {report['seconds'] / 60:.0f} minutes: {options['rounds']} rounds of "
        f"{options['jobs']:,} jobs a measure (fewer for slow systems) on {report['machine']}. "
        f"Before the rounds other programs used {_spread(report['others'])} of the processors. "
        "`contrib/benchmarks/README.md` says how each measure works.",
        "",
        *(BUSY_NOTE if max(report["others"]) > BUSY else ()),
        "## How to read it",
        "",
        READING,
    ]
    for title, names in PEER_TABLES:
        lines += _peers(title, [figures[name] for name in names if name in figures])
    lines += _goals(report, met, goals)
    lines += _settings(report)
    return "\n".join(lines).rstrip() + "\n"


def _spread(shares: Sequence[float]) -> str:
    least, most = f"{min(shares):.0%}", f"{max(shares):.0%}"
    return least if least == most else f"{least} to {most}"


def _peers(title: str, figures: Sequence[Mapping[str, Any]]) -> list[str]:
    if not figures:
        return []
    systems: dict[str, str] = {name: row["title"] for figure in figures for name, row in figure["rows"].items()}
    lines = [f"## {title}", "", f"| system | {' | '.join(HEADS[figure['name']] for figure in figures)} |"]
    lines.append("|---|" + "---:|" * len(figures))
    for name, system in systems.items():
        cells = [_cell(figure["rows"].get(name)) for figure in figures]
        ours = name.startswith("gigq")
        lines.append(f"| {'**' + system + '**' if ours else system} | {' | '.join(cells)} |")
    return [*lines, ""]


def _cell(row: Mapping[str, Any] | None) -> str:
    if row is None:
        return "failed"
    return number(row["median"]) + ("" if row["ratio"] is None else f" ({number(row['ratio'])} ×)")


def _goals(report: Mapping[str, Any], met: int, goals: int) -> list[str]:
    """Return the table of gigq's own figures, and of the goals of all."""
    lines = ["## gigq and its goals", "", f"{met} of {goals} goals were met.", ""]
    lines += ["| measure | median | least to most | goal | met |", "|---|---:|---:|---|---|"]
    for figure in report["figures"]:
        by_system = {row["title"]: row for row in figure["rows"].values() if not row["peer"]}
        judged = {goal["system"] for goal in figure["goals"]}
        for system, row in by_system.items():
            if figure["with_peers"] and system not in judged:
                continue
            mine = [goal for goal in figure["goals"] if goal["system"] == system] or [None]
            for place, goal in enumerate(mine):
                spread = "" if row["least"] == row["most"] else f"{number(row['least'])} to {number(row['most'])}"
                title = figure["title"] + (f", {system}" if len(judged) > 1 else "")
                unit = f" {figure['unit']}" if figure["unit"] else ""
                first = f"| {title} | {number(row['median'])}{unit} | {spread}" if place == 0 else "| | |"
                wanted, verdict = ("", "") if goal is None else (goal["text"], "yes" if goal["met"] else "**no**")
                lines.append(f"{first} | {wanted} | {verdict} |")
    lines += [f"\nNot measured: {measure}, since {why}." for measure, why in report["missing"].items()]
    lines += [f"\nFailed: {one['measure']} with {one['system']}." for one in report["failed"]]
    return [*lines, ""]


def _settings(report: Mapping[str, Any]) -> list[str]:
    lines = ["## Settings", "", "| system | version | settings |", "|---|---|---|"]
    for system in report["systems"]:
        version = ", ".join(system["requirements"]) or f"gigq {report['versions']['gigq']}"
        lines.append(f"| {system['title']} | {version} | {system['settings']} |")
    return lines
