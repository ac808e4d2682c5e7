"""The harness runs, ends what it starts and draws what it measured. Figures are not checked: machines differ."""

import dataclasses
import importlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any
from xml.etree import ElementTree

import pytest

FOLDER = Path(__file__).parents[2] / "contrib" / "benchmarks"
QUICK = ("--quick", "--rounds", "1")


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], ModuleType]]:
    """Import a module of the harness for this test alone: their names are common."""
    monkeypatch.syspath_prepend(str(FOLDER / "sides"))
    monkeypatch.syspath_prepend(str(FOLDER))
    before = set(sys.modules)
    yield importlib.import_module
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(FOLDER)):
            del sys.modules[name]


def run(output_of: Callable[..., str], folder: Path, *arguments: str) -> tuple[str, dict[str, Any]]:
    (folder / "databases").mkdir()
    shown = output_of(
        folder,
        str(FOLDER / "run.py"),
        *(*QUICK, *arguments, "--folder", "databases", "--cache", "cache"),
        *("--json", "figures.json", "--chart", "figures.svg", "--markdown", "figures.md"),
        timeout=200,
    )
    report: dict[str, Any] = json.loads((folder / "figures.json").read_text())
    return shown, report


@pytest.mark.slow
@pytest.mark.timeout(240)  # two dozen workers start, which takes a minute on a busy machine
def test_every_measure_gives_its_figures(
    output_of: Callable[..., str], tmp_path: Path, load: Callable[[str], ModuleType]
) -> None:
    shown, report = run(output_of, tmp_path, "--systems", "gigq-power")

    assert report["failed"] == []
    measures = [measure for measure in load("measures").MEASURES if measure.name not in report["missing"]]
    assert {figure["name"] for figure in report["figures"]} == {
        figure.name for measure in measures for figure in measure.figures
    }
    for figure in report["figures"]:
        assert set(figure["rows"]) == {"gigq-power"}
        assert figure["title"] in shown
    # Nothing is left behind, and without peers nothing is installed: what is kept is bytecode.
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["pycache"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "cache",
        "databases",
        "figures.json",
        "figures.md",
        "figures.svg",
    ]
    assert list((tmp_path / "databases").iterdir()) == []


@pytest.mark.slow
def test_chart_and_page_show_what_was_measured(output_of: Callable[..., str], tmp_path: Path) -> None:
    _, report = run(output_of, tmp_path, "--systems", "gigq-power,gigq-process", "--only", "enqueue,import")

    chart = "".join(ElementTree.parse(tmp_path / "figures.svg").getroot().itertext())
    page = (tmp_path / "figures.md").read_text()
    assert "Enqueue, one by one" in chart
    assert "gigq (process)" in chart
    assert "![" in page
    assert "(figures.svg)" in page
    assert "--only enqueue,import" in page
    assert "import gigq, over a bare interpreter" in page
    assert f"gigq {report['versions']['gigq']}" in page


@pytest.fixture
def stubborn() -> Iterator[subprocess.Popen[bytes]]:
    """A process that ignores TERM, with a child of another session that does too."""
    code = (
        "import os, signal, subprocess, sys\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "again = subprocess.Popen([sys.executable, '-c', 'import signal; signal.pause()'], start_new_session=True)\n"
        "print(again.pid, flush=True)\n"
        "signal.pause()\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, start_new_session=True)
    yield process
    if process.poll() is None:
        process.kill()
        process.wait()
    assert process.stdout is not None
    process.stdout.close()


@pytest.mark.slow
def test_process_is_killed_with_all_that_it_started(
    stubborn: subprocess.Popen[bytes], load: Callable[[str], ModuleType]
) -> None:
    processes = load("process_tree")
    assert stubborn.stdout is not None
    stubborn.stdout.readline()
    both = processes.tree(stubborn.pid)
    processes.kill_tree(stubborn)
    assert len(both) == 2
    assert [process for process in both if processes.runs(process)] == []
    assert stubborn.returncode == -signal.SIGKILL


@pytest.mark.slow
def test_process_whose_parent_has_died_is_killed_too(load: Callable[[str], ModuleType], tmp_path: Path) -> None:
    code = (
        "import os, signal, time\n"
        "if os.fork() == 0:\n"
        "    os.setsid()\n"
        "    open('orphan', 'w').write(str(os.getpid()))\n"
        "    signal.pause()\n"
        "while not os.path.exists('orphan') or not os.path.getsize('orphan'):\n"
        "    time.sleep(0.001)\n"
    )
    processes = load("process_tree")
    orphans: list[Any] = []

    def work(bench: Any) -> dict[str, float]:
        assert bench.start([sys.executable, "-c", code]).wait(10) == 0
        orphans.extend(processes.tree(int((bench.folder / "orphan").read_text())))
        return {"probe": 1.0}

    probe = Probe(load, tmp_path, work)
    probe.measure = dataclasses.replace(probe.measure, seconds=20.0)
    assert probe.run() == {"probe": 1.0}
    assert [processes.runs(orphan) for orphan in orphans] == [False]


class Probe:
    """Stands for what a runner needs of a system, and a measure that does `work`."""

    def __init__(
        self, load: Callable[[str], ModuleType], folder: Path, work: Callable[[Any], dict[str, float]]
    ) -> None:
        rounds, bench, figures, systems = (load(name) for name in ("rounds", "bench", "figures", "systems"))
        scale = load("scale").Scale.quick()
        self.system = systems.SYSTEMS[0]
        self.runner = rounds.Runner({self.system.name: sys.executable}, scale, None, folder, folder.parent / "pycache")
        self.measure = bench.Measure("probe", (figures.Figure("probe", "Probe", "", True),), work, 0.5)
        self.results = rounds.Results()

    def run(self) -> dict[str, float]:
        found: dict[str, float] = self.runner.run(self.measure, self.system, self.results)
        return found


@pytest.mark.slow
def test_measure_that_takes_too_long_fails_and_its_processes_end(
    load: Callable[[str], ModuleType], tmp_path: Path
) -> None:
    started: list[subprocess.Popen[bytes]] = []

    def work(bench: Any) -> dict[str, float]:
        started.append(bench.start([sys.executable, "-c", "import signal; signal.pause()"]))
        time.sleep(60)
        return {"probe": 1.0}

    probe = Probe(load, tmp_path, work)
    assert probe.run() == {}
    assert [failure["why"] for failure in probe.results.failed] == ["MeasureTimeout: took longer than 0.5 s"]
    assert started[0].returncode == -signal.SIGKILL
    assert list(tmp_path.iterdir()) == []


def test_measure_that_is_not_available_is_no_failure(load: Callable[[str], ModuleType], tmp_path: Path) -> None:
    not_available = load("bench").NotAvailable

    def work(bench: Any) -> dict[str, float]:
        raise not_available("there is no such pool")

    probe = Probe(load, tmp_path, work)
    assert probe.run() == {}
    assert probe.results.failed == []
    assert probe.results.missing == {"probe": "there is no such pool"}


@pytest.mark.slow
def test_peers_that_need_redis_are_left_out_where_there_is_none(
    load: Callable[[str], ModuleType],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    harness = load("run")
    monkeypatch.setenv("PATH", "")
    given = [
        "--quick",
        "--rounds",
        "1",
        "--only",
        "import",
        "--systems",
        "gigq-power,rq",
        "--folder",
        str(tmp_path),
        "--cache",
        str(tmp_path),
    ]
    report = harness.measure(harness.parse(given))
    assert "no redis-server" in capsys.readouterr().out
    assert [system["name"] for system in report["systems"]] == ["gigq-power"]


def report_of(load: Callable[[str], ModuleType], name: str, rounds: list[dict[str, float]]) -> dict[str, Any]:
    """Return the summary of one figure; `rounds` give the values of some systems."""
    measure = next(m for m in load("measures").MEASURES if name in [figure.name for figure in m.figures])
    names = list(rounds[0])
    found = [{system: {name: value} for system, value in values.items()} for values in rounds]
    (figure,) = load("summary").summarise(found, [measure], load("systems").named(names))
    return dict(figure)


def test_ratio_above_one_says_that_gigq_is_better(load: Callable[[str], ModuleType]) -> None:
    more = report_of(load, "drain", [{"gigq-power": 30.0, "rq": 10.0}, {"gigq-power": 50.0, "rq": 10.0}])
    assert more["rows"]["gigq-power"]["median"] == 40.0
    assert (more["rows"]["rq"]["least"], more["rows"]["rq"]["most"]) == (10.0, 10.0)
    assert more["rows"]["rq"]["ratio"] == 4.0
    less = report_of(load, "round_trip_p50", [{"gigq-power": 2.0, "rq": 8.0}])
    assert less["rows"]["rq"]["ratio"] == 4.0


def test_goals_compare_with_a_bound_and_with_the_best_peers(load: Callable[[str], ModuleType]) -> None:
    values = {"gigq-power": 31_000.0, "huey-fsync": 2_000.0, "potatoq": 2_500.0, "taskiq": 7_000.0}
    goals = report_of(load, "drain", [values])["goals"]
    assert [goal["met"] for goal in goals] == [True, True, False]
    assert "potatoq, SQLite): 12.4 ×" in goals[1]["text"]
    assert "taskiq, Redis): 4.4 ×" in goals[2]["text"]
    assert report_of(load, "round_trip_p50", [{"gigq-power": 2.6}])["goals"][0]["met"] is False


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0, "0"), (0.004567, "0.005"), (0.9731, "0.97"), (3.0, "3"), (12.345, "12.3"), (98765.4, "98,765")],
)
def test_number_is_shown_with_what_matters(load: Callable[[str], ModuleType], value: float, shown: str) -> None:
    assert load("figures").number(value) == shown
