"""Faults 1 to 4: workers, forkers, children and submitters killed at their system calls, some of very many.

`python tests/crash kill-points` makes as many kills as wanted, and says where they hit.
"""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from kill_points import Shooter
from processes import state_of, until
from rig import Rig
from strace import STRACE, Shot, Trace

pytestmark = [
    pytest.mark.slow,
    # Nothing else here stops a process at a chosen system call. Kills at random times need no strace: test_schedules.
    pytest.mark.skipif(STRACE is None, reason="strace is not installed"),
]


IS_OLD = os.uname().machine in ("x86_64", "i686")  # newer machines have only the calls that end in "at"
ACCESS, RMDIR = ("access", "rmdir") if IS_OLD else ("faccessat", "unlinkat")


@pytest.mark.parametrize("target", ["worker", "start", "forker", "child", "submitter"])
def test_fault_02_a_process_killed_at_a_system_call_costs_no_job(rig: Rig, target: str) -> None:
    points = {hit.point for hit in Shooter(rig, seed=2).shoot(6, (target,)) if hit.point is not None}
    assert len(points) > 1
    rig.drain()
    assert rig.check(drained=True).jobs > 50


def test_fault_04_a_worker_killed_between_a_commit_and_what_follows_repeats_nothing(rig: Rig) -> None:
    shooter = Shooter(rig, seed=4)
    # The call that marks the moment after a commit: a worker makes it for nothing else.
    shots = itertools.cycle(Shot(RMDIR, nth) for nth in range(1, 5))
    wanted, hits = {"finish: committed"}, 0
    while wanted:
        hits += 1
        assert hits <= 100, f"no kill hit {wanted}"
        point = shooter.once("worker", next(shots)).point
        wanted -= {point.phase} if point is not None else set()
    rig.drain()
    rig.check(drained=True)


def test_an_acknowledgement_follows_the_sync_of_what_it_acknowledges(rig: Rig) -> None:
    log = rig.folder / "strace.log"
    pid = rig.fork({"do": "submit", "stops": True, "seed": 1, "name": "synced"})
    trace = Trace(pid, "submitter", log)
    rig.let_go(pid)
    trace.end()
    acknowledged = unsynced = 0
    for line in log.read_text().splitlines():
        if "/crash-mark/submit" in line:
            unsynced = 0
        elif line.startswith("pwrite64("):
            unsynced += 1
        elif line.startswith("fdatasync("):
            unsynced = 0
        elif "/crash-mark/acknowledge" in line:
            acknowledged += 1
            assert unsynced == 0, line
    assert acknowledged == len(rig.shapes.SHAPES)


def test_a_trace_names_where_its_shot_hit(tmp_path: Path) -> None:
    code = (
        "import os, signal; os.kill(os.getpid(), signal.SIGSTOP)\nfor _ in range(9): os.access('/crash-mark/here', 0)"
    )
    with subprocess.Popen([sys.executable, "-c", code]) as process:
        until(lambda: state_of(process.pid) == "T")
        trace = Trace(process.pid, "it", tmp_path / "log", Shot(ACCESS, 5))
        process.send_signal(signal.SIGCONT)
        trace.end()
        assert process.wait(10) == -signal.SIGKILL
        assert trace.point() == ("it", "here", ACCESS, 1)
