"""Try to make gigq lose a job: `python tests/crash COMMAND`. See docs/design/crash-testing.md."""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from types import FrameType

sys.path.insert(0, str(Path(__file__).parents[1]))  # where tests have what they share

import campaigns
import fan_in
from report import Report
from strace import STRACE

# What continuous integration runs, beside the small part in the default run of the tests.
CI_KILL_POINTS, CI_SCHEDULES, CI_CUTS, CI_PARENTS = 500, 200, 2000, 100_000
LOAD_JOBS = 20_000  # of one load in a soak


def main() -> None:
    options = _options()
    if STRACE is None and options.command in ("kill-points", "ci"):
        sys.exit("strace is needed for kill points, and it is not installed; schedules, cuts and soak run without")
    report = Report()
    signal.signal(signal.SIGTERM, _interrupt)
    folder = Path(tempfile.mkdtemp(prefix="gigq-crash-"))
    try:
        _run(options, folder, report)
    except KeyboardInterrupt:
        print("\ninterrupted: this is what was done until then")
    except BaseException:
        report.show()
        print(f"\nthe database, its ledgers and the workers' logs are in {folder}", flush=True)
        raise
    shutil.rmtree(folder)
    report.show()


def _run(options: argparse.Namespace, folder: Path, report: Report) -> None:
    seed = options.seed
    print(f"seed {seed}", flush=True)
    if options.command == "kill-points":
        campaigns.kill_points(folder, report, seed=seed, count=options.count)
    elif options.command == "schedules":
        campaigns.random_schedules(folder, report, seed=seed, count=options.count)
    elif options.command == "cuts":
        campaigns.cuts(folder, report, seed=seed, count=options.count)
    elif options.command == "soak":
        _soak(options, folder, report)
    else:
        campaigns.kill_points(folder, report, seed=seed, count=CI_KILL_POINTS)
        campaigns.random_schedules(folder, report, seed=seed, count=CI_SCHEDULES)
        campaigns.cuts(folder, report, seed=seed, count=CI_CUTS)
        fan_in.run(folder / "fan-in", parents=CI_PARENTS, kills=3)
        report.progress(f"{CI_PARENTS:,} parents of one job, with 3 kills")
        assert report.between() >= 20, "too few points between claim and finish"
        assert report.inside() >= 20, "too few points inside commits"


def _soak(options: argparse.Namespace, folder: Path, report: Report) -> None:
    """Alternate kill points, load and schedules, until there were enough of all or the time is over."""
    until = report.started_at + options.hours * 3600
    seed, loaded = options.seed, 0
    while time.monotonic() < until:
        wants_points = STRACE is not None and report.points.total() < options.kill_points
        if not wants_points and loaded >= options.jobs:
            return
        if wants_points:
            left = options.kill_points - report.points.total()
            campaigns.kill_points(folder, report, seed=seed, count=min(campaigns.HITS_OF_ONE_RIG, left))
        if loaded < options.jobs:
            count = min(LOAD_JOBS, options.jobs - loaded)
            campaigns.load(folder, report, seed=seed, jobs=count)
            loaded += count
            report.progress(f"{loaded:,} of {options.jobs:,} jobs of the load, {report.kills} kills")
        campaigns.random_schedules(folder, report, seed=seed, count=5)
        seed += 1000


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python tests/crash", description="Try to make gigq lose a job.")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, count, text in (
        ("kill-points", CI_KILL_POINTS, "processes killed at their system calls"),
        ("schedules", CI_SCHEDULES, "random schedules; the seed that a failure prints replays it"),
        ("cuts", CI_CUTS, "write-ahead logs cut at any byte"),
    ):
        command = commands.add_parser(name, help=text)
        command.add_argument("--count", type=int, default=count)
    commands.add_parser("ci", help="all of these, as often as before each merge")
    soak = commands.add_parser("soak", help="kill points, load and schedules, for hours; Ctrl-C ends with a report")
    soak.add_argument("--kill-points", type=int, default=10_000)
    soak.add_argument("--hours", type=float, default=1.0)
    soak.add_argument("--jobs", type=int, default=1_000_000)
    for command in commands.choices.values():
        command.add_argument("--seed", type=int, default=int(time.time()) if command is soak else 1)
    return parser.parse_args()


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    main()
