"""Measure gigq and its peers on this machine: python contrib/benchmarks/run.py (see README.md)."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import signal
import sqlite3
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from types import FrameType
from typing import Any, Never

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "sides"))  # the measures of gigq alone submit its side's tasks themselves

import chart  # noqa: E402
import page  # noqa: E402
import redis_server  # noqa: E402
import rounds  # noqa: E402
import text  # noqa: E402
from measures import MEASURES  # noqa: E402
from scale import Scale  # noqa: E402
from summary import summarise  # noqa: E402
from systems import SYSTEMS, System, named  # noqa: E402

import gigq  # noqa: E402


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gigq-benchmarks"
    parser = argparse.ArgumentParser(description="Measure gigq and its peers on this machine.")
    measures, systems = [measure.name for measure in MEASURES], [system.name for system in SYSTEMS]
    parser.add_argument("--rounds", type=_positive, default=3, help="default: %(default)s")
    parser.add_argument("--jobs", type=_positive, help=f"jobs of each measure; default: {Scale().jobs:,}")
    parser.add_argument(
        "--only", type=_some_of(measures), default=measures, metavar="A,B", help=f"measures: {', '.join(measures)}"
    )
    parser.add_argument(
        "--systems", type=_some_of(systems), default=systems, metavar="A,B", help=f"systems: {', '.join(systems)}"
    )
    parser.add_argument("--memory-jobs", type=_positive, help=f"default: {Scale().memory_jobs:,}")
    parser.add_argument("--quick", action="store_true", help="tiny numbers: shows that everything runs, not how fast")
    parser.add_argument("--folder", type=Path, help="where databases are made; default: the temporary folder")
    parser.add_argument("--cache", type=Path, default=cache, help="where peers are installed; default: %(default)s")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything that was measured")
    parser.add_argument("--chart", type=Path, metavar="FILE", help="draw an SVG")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write a page; it shows --chart if that is given")
    parser.add_argument("--read", type=Path, metavar="FILE", help="measure nothing: take what --json wrote")
    return parser.parse_args(arguments)


def _positive(given: str) -> int:
    number = int(given)
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected a number of at least 1, got {given}")
    return number


def _some_of(known: Sequence[str]) -> Any:
    def choose(given: str) -> list[str]:
        chosen = given.split(",")
        if strangers := sorted(set(chosen) - set(known)):
            raise argparse.ArgumentTypeError(f"expected some of {', '.join(known)}; got {', '.join(strangers)}")
        return chosen

    return choose


def scale_of(options: argparse.Namespace) -> Scale:
    scale = Scale.quick() if options.quick else Scale()
    wanted = {"jobs": options.jobs, "bulk_jobs": options.jobs, "memory_jobs": options.memory_jobs}
    return replace(scale, **{name: value for name, value in wanted.items() if value is not None})


def command(options: argparse.Namespace) -> str:
    """Return the command that measures the same again, without where files are."""
    words = ["python", "contrib/benchmarks/run.py", "--rounds", options.rounds, "--jobs", scale_of(options).jobs]
    if options.quick:
        words.append("--quick")
    if options.memory_jobs:
        words += ["--memory-jobs", options.memory_jobs]
    for name, chosen, known in (("--only", options.only, MEASURES), ("--systems", options.systems, SYSTEMS)):
        if len(chosen) < len(known):
            words += [name, ",".join(chosen)]
    return " ".join(map(str, words))


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Measure, and return the report."""
    systems = named(options.systems)
    measures = [one for one in MEASURES if one.name in options.only]
    if any(system.store == "redis" for system in systems) and not redis_server.is_installed():
        print("There is no redis-server here (Debian's package: redis-server): its users are left out.", flush=True)
        systems = [system for system in systems if system.store != "redis"]
    started = time.monotonic()
    cache = options.cache.absolute()
    pythons, installed = rounds.install(systems, cache, sys.executable)
    needs_redis = any(system.store == "redis" for system in systems)
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gigq-bench-", dir=options.folder)))
        redis = stack.enter_context(redis_server.RedisServer(folder)) if needs_redis else None
        runner = rounds.Runner(pythons, scale_of(options), redis, folder, cache / "pycache")
        results = rounds.measure_all(measures, systems, runner, options.rounds)
    return {
        "command": command(options),
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "seconds": time.monotonic() - started,
        "machine": machine(redis is not None),
        "versions": {"gigq": gigq.__version__, **installed},
        "options": {"rounds": options.rounds, "jobs": scale_of(options).jobs, "scale": asdict(scale_of(options))},
        "systems": [_described(system) for system in systems],
        "figures": summarise(results.rounds, measures, systems),
        "failed": results.failed,
        "missing": results.missing,
        "others": results.others,
        "rounds": results.rounds,
    }


def _described(system: System) -> dict[str, Any]:
    return {
        "name": system.name,
        "title": system.title,
        "store": system.store,
        "settings": system.settings,
        "requirements": system.requirements,
        "share": [system.share, system.bulk],
    }


def machine(with_redis: bool) -> str:
    """Return what the figures depend on."""
    model = platform.machine()
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    redis = f", Redis {redis_server.version()}" if with_redis else ""
    return (
        f"{len(os.sched_getaffinity(0))} cores ({model}), Linux {platform.release().split('-')[0]}, "
        f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}{redis}"
    )


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(arguments)
    # So that what was started is ended too.
    signal.signal(signal.SIGTERM, _stop)
    report = json.loads(options.read.read_text()) if options.read else measure(options)
    print("\n" + text.table(report))
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n")
    if options.chart:
        options.chart.write_text(chart.draw(report))
    if options.markdown:
        options.markdown.write_text(page.draw(report, options.chart.name if options.chart else None))
    if report["failed"]:
        sys.exit(f"{len(report['failed'])} runs failed")


def _stop(number: int, frame: FrameType | None) -> Never:
    raise SystemExit(128 + number)


if __name__ == "__main__":
    main()
