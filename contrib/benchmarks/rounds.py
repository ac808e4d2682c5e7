"""Run measures in rounds: all systems take turns at each measure, in another order in each round."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import environments
import process_tree
from bench import Bench, Measure, NotAvailable, time_limit
from redis_server import RedisServer
from scale import Scale
from systems import System

BUSY = 0.1  # of the processors in use by others: from there on figures say little


@dataclass(slots=True)
class Results:
    """What was measured so far."""

    rounds: list[dict[str, dict[str, float]]] = field(default_factory=list)  # system → figure → value
    failed: list[dict[str, str]] = field(default_factory=list)  # measure, system, why
    missing: dict[str, str] = field(default_factory=dict)  # measure → why it is not available
    others: list[float] = field(default_factory=list)  # before each round: the part of the processors that was in use


@dataclass(frozen=True, slots=True)
class Runner:
    """Runs one measure with one system."""

    pythons: Mapping[str, str]  # system → interpreter
    scale: Scale
    redis: RedisServer | None
    parent: Path | None  # where the folders of measures are made
    pycache: Path

    def run(self, measure: Measure, system: System, results: Results) -> dict[str, float]:
        """Return figures, none if the measure failed; then `results` say why."""
        with tempfile.TemporaryDirectory(prefix="gigq-bench-", dir=self.parent, ignore_cleanup_errors=True) as folder:
            bench = Bench(
                system,
                Path(folder),
                python=self.pythons[system.name],
                scale=self.scale,
                redis_url=self.redis.url if self.redis is not None else "",
                pycache=self.pycache,
            )
            try:
                with bench, time_limit(measure.seconds):
                    figures = dict(measure.run(bench))
                assert set(figures) == {figure.name for figure in measure.figures}, sorted(figures)
                return figures
            except NotAvailable as error:
                results.missing[measure.name] = str(error)
            except Exception as error:  # whatever it is, it must not cost what the others measure
                why = f"{type(error).__name__}: {error}"
                results.failed.append({"measure": measure.name, "system": system.title, "why": why})
                print(f"{measure.name}, {system.title}: {why}\n{bench.logs()}", flush=True)
            finally:
                if self.redis is not None and system.store == "redis":
                    self.redis.flush()
        return {}


def measure_all(measures: Sequence[Measure], systems: Sequence[System], runner: Runner, rounds: int) -> Results:
    """Measure everything, `rounds` times."""
    results = Results()
    for number in range(rounds):
        results.others.append(process_tree.busy_share(runner.scale.settle_seconds))
        if results.others[-1] > BUSY:
            print(f"This machine is busy ({results.others[-1]:.0%} of it): figures say little.", flush=True)
        found: dict[str, dict[str, float]] = {system.name: {} for system in systems}
        turn = number % len(systems)  # nobody is always first
        order = [*systems[turn:], *systems[:turn]]
        for measure in measures:
            if measure.once and number:
                continue
            started = time.monotonic()
            print(f"round {number + 1} of {rounds}: {measure.name} …", end=" ", flush=True)
            for system in order:
                if (measure.with_peers or system.name in measure.systems) and measure.name not in results.missing:
                    found[system.name].update(runner.run(measure, system, results))
            print(f"{time.monotonic() - started:.1f} s", flush=True)
        results.rounds.append(found)
    return results


def install(systems: Sequence[System], cache: Path, own: str) -> tuple[dict[str, str], dict[str, list[str]]]:
    """Return the interpreter for each system, and what is installed for the peers; install what is not."""
    pythons, installed = {}, {}
    for system in systems:
        if not system.is_peer:
            pythons[system.name] = own
            continue
        name = system.requirements[0].partition("==")[0].partition("[")[0]
        pythons[system.name] = environments.interpreter(cache, name, system.requirements)
        installed[name] = environments.versions(pythons[system.name])
    return pythons, installed
