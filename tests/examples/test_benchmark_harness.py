"""The harness of contrib/benchmarks runs and counts right; its figures are nobody's business here."""

import importlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

FOLDER = Path(__file__).parents[2] / "contrib" / "benchmarks"
FIGURES = {"enqueue", "enqueue_many", "drain", "backlog", "round_trip_p50", "round_trip_p99"}


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(str(FOLDER))
    yield importlib.import_module("figures")
    monkeypatch.delitem(sys.modules, "figures")


@pytest.mark.slow
def test_every_measure_of_gigq_gives_its_figures(output_of: Callable[..., str], tmp_path: Path) -> None:
    arguments = ["--only-gigq", "--rounds", "1", "--jobs", "50", "--folder", str(tmp_path)]
    shown = output_of(tmp_path, str(FOLDER / "run.py"), *arguments, "--json", "figures.json", timeout=100)
    written = json.loads((tmp_path / "figures.json").read_text())

    assert set(written["summary"]) == FIGURES
    for systems in written["summary"].values():
        assert set(systems) == {"gigq (power)", "gigq (process)"}
        assert all(row["median"] > 0 for row in systems.values())
    assert "round trip, p99" in shown
    assert list(tmp_path.iterdir()) == [tmp_path / "figures.json"]


@pytest.mark.slow
def test_worker_that_ignores_its_signal_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    systems = importlib.import_module("systems")
    monkeypatch.setattr(systems, "STOP_SECONDS", 0.1)
    code = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); signal.pause()"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, start_new_session=True)
    assert process.stdout is not None
    process.stdout.readline()
    systems.stop(process, systems.signal.SIGTERM)
    process.stdout.close()
    assert process.returncode == -systems.signal.SIGKILL


def test_ratio_above_one_is_better(figures: ModuleType) -> None:
    rounds = [
        {"ours": {"drain": 30.0, "round_trip_p50": 2.0}, "peer": {"drain": 10.0, "round_trip_p50": 8.0}},
        {"ours": {"drain": 50.0, "round_trip_p50": 1.0}, "peer": {"drain": 10.0, "round_trip_p50": 2.0}},
    ]
    summary = figures.summarise(rounds, ["peer"])
    assert summary["drain"]["ours"] == {"median": 40.0, "least": 30.0, "most": 50.0, "peer": 4.0}
    assert summary["round_trip_p50"]["ours"]["peer"] == 3.0
    assert "4.00 x" in figures.table(summary, ["peer"])


def test_figures_of_a_measure(figures: ModuleType) -> None:
    assert figures.figures_of("drain", 100, {"seconds": 0.5}) == {"drain": 200.0}
    trips = figures.figures_of("round_trip", 101, {"samples": [n / 1000 for n in range(101)]})
    assert trips == {"round_trip_p50": pytest.approx(50.0), "round_trip_p99": pytest.approx(99.0)}
