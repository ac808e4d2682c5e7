"""Measure gigq beside Huey on this machine: python contrib/benchmarks/run.py (see README.md)."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sqlite3
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import systems
from figures import figures_of, summarise, table

MEASURES = ("enqueue", "enqueue_many", "drain", "backlog", "round_trip")
ROUND_TRIPS_PER_JOB = 1 / 25  # each takes about as long as 25 jobs do in bulk


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gigq-benchmarks"
    parser = argparse.ArgumentParser(description="Measure gigq beside Huey on this machine.")
    parser.add_argument("--rounds", type=_positive, default=5, help="default: %(default)s")
    parser.add_argument("--jobs", type=_positive, default=10_000, help="jobs of each measure; default: %(default)s")
    parser.add_argument(
        "--measures",
        nargs="+",
        choices=MEASURES,
        default=list(MEASURES),
        metavar="MEASURE",
        help=f"some of: {' '.join(MEASURES)}",
    )
    parser.add_argument("--only-gigq", action="store_true", help="no peer, nothing is installed")
    parser.add_argument("--folder", type=Path, help="where databases are made; default: the temporary folder")
    parser.add_argument("--cache", type=Path, default=cache, help="where peers are installed; default: %(default)s")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything that was measured")
    return parser.parse_args(arguments)


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected a number of at least 1, got {text}")
    return number


def measure_round(
    under_test: Sequence[systems.System], measures: Sequence[str], jobs: int, parent: Path | None
) -> dict[str, dict[str, float]]:
    """Measure each system once. Systems take turns at each measure, so that a slow minute hits all of them."""
    found: dict[str, dict[str, float]] = {system.name: {} for system in under_test}
    for measure in measures:
        count = max(100, int(jobs * ROUND_TRIPS_PER_JOB)) if measure == "round_trip" else jobs
        for system in under_test:
            with tempfile.TemporaryDirectory(prefix="gigq-bench-", dir=parent) as folder:
                result = system.measure(measure, count, Path(folder))
            found[system.name].update(figures_of(measure, count, result))
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(arguments)
    under_test = [systems.gigq("power"), systems.gigq("process")]
    peers = [] if options.only_gigq else [systems.huey(options.cache, fsync=fsync) for fsync in (True, False)]
    under_test += peers
    baselines = [peer.name for peer in peers]
    rounds = []
    for number in range(options.rounds):
        print(f"round {number + 1} of {options.rounds}", flush=True)
        turn = number % len(under_test)  # nobody is always first
        order = [*under_test[turn:], *under_test[:turn]]
        found = measure_round(order, options.measures, options.jobs, options.folder)
        rounds.append({system.name: found[system.name] for system in under_test})
    summary = summarise(rounds, baselines)
    print(
        f"\n{options.jobs} jobs a measure, {options.rounds} rounds, {systems.PROCESSES} worker processes, {machine()}\n"
    )
    print(table(summary, baselines))
    if options.json:
        options.json.write_text(json.dumps(report(options, summary, rounds), indent=1) + "\n")


def machine() -> str:
    return (
        f"{len(os.sched_getaffinity(0))} cores, Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, "
        f"load {os.getloadavg()[0]:.1f}"
    )


def report(options: argparse.Namespace, summary: Any, rounds: Any) -> dict[str, Any]:
    return {
        "machine": machine(),
        "platform": platform.platform(),
        "jobs": options.jobs,
        "peer": None if options.only_gigq else systems.HUEY,
        "summary": summary,
        "rounds": rounds,
    }


if __name__ == "__main__":
    main()
