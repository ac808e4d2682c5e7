"""What gigq costs in memory, and what importing it takes."""

from __future__ import annotations

import os
import subprocess
import time
from typing import Any

import process_tree
from bench import Bench, Measure, MeasureError
from figures import Figure, Goal
from gigq_side import make_app

from gigq import JobState

MEGABYTE = 1_000_000
FED_AT_ONCE = 10_000
SAMPLES = 10


def memory(bench: Bench) -> dict[str, float]:
    """Run many jobs and look at the memory of the worker's processes in between."""
    total = bench.scale.memory_jobs
    app = make_app(bench.folder / "bench.db", "power")
    noop: Any = app.tasks["noop"]
    noop.map(range(bench.scale.warm_up_jobs))
    worker = bench.worker()
    fed, next_sample = bench.scale.warm_up_jobs, total // SAMPLES
    supervisor: list[float] = []
    children: list[float] = []
    while len(supervisor) < SAMPLES:
        stats = app.queue.stats()
        done = stats[JobState.COMPLETED]
        while done >= next_sample and len(supervisor) < SAMPLES:
            first, *others = process_tree.tree(worker.pid)
            supervisor.append(process_tree.resident_bytes(first) / MEGABYTE)
            children.append(max(process_tree.resident_bytes(other) for other in others) / MEGABYTE)
            next_sample += total // SAMPLES
        if fed < total and stats[JobState.PENDING] < 2 * FED_AT_ONCE:
            count = min(FED_AT_ONCE, total - fed)
            noop.map(range(count))
            fed += count
        else:
            time.sleep(0.05)
    app.queue.close()
    return {
        "memory_supervisor": max(supervisor),
        "memory_growth": supervisor[-1] / supervisor[0],
        "memory_child": max(children),
    }


def imports(bench: Bench) -> dict[str, float]:
    """Take the processor time of a bare interpreter and of one that imports gigq, in turns."""
    bare: list[float] = []
    importing: list[float] = []
    for number in range(bench.scale.imports + 1):
        for code, samples in (("pass", bare), ("import gigq", importing)):
            process = subprocess.Popen([bench.python, "-c", code], cwd=bench.folder, env=bench.environment())
            _, status, used = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            if status:
                raise MeasureError(f"python -c {code!r} exits with {process.returncode}")
            if number:  # the first one may compile
                samples.append(1000 * (used.ru_utime + used.ru_stime))
    return {"import": min(importing) - min(bare), "import_bare": min(bare)}  # the least disturbed ones


MEASURES = (
    Measure(
        "memory",
        (
            Figure("memory_supervisor", "Memory of the supervisor, at most", "MB", False, (Goal(60),)),
            Figure("memory_growth", "Memory of the supervisor, last tenth / first tenth", "", False, (Goal(1.1),)),
            Figure("memory_child", "Memory of the biggest other process", "MB", False),
        ),
        memory,
        400,
        once=True,
    ),
    Measure(
        "import",
        (
            Figure("import", "import gigq, over a bare interpreter", "ms of CPU", False, (Goal(60),)),
            Figure("import_bare", "The bare interpreter", "ms of CPU", False),
        ),
        imports,
        60,
        once=True,
    ),
)
