"""Index the standard library of the running Python with two worker processes.

python run.py [--limit N] [--kill] [--report FILE]
"""

from __future__ import annotations

import argparse
import os
import platform
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Sequence
from pathlib import Path

from indexer import app, measure, write_report

from gigq import Job, group

WORKERS = 2
POLL_SECONDS = 0.05


def standard_library() -> list[tuple[str, str]]:
    """Return (dotted name, path) of every module that is written in Python, in order of their names."""
    folder = Path(sysconfig.get_path("stdlib"))
    found = []
    for path in folder.rglob("*.py"):
        parts = path.relative_to(folder).with_suffix("").parts
        # Other folders lie in there as well, site-packages above all.
        if parts[0] in sys.stdlib_module_names:
            found.append((".".join(parts[:-1] if parts[-1] == "__init__" else parts), str(path)))
    return sorted(found)


def main() -> None:
    parser = argparse.ArgumentParser(description="Index the standard library with two worker processes.")
    parser.add_argument("--limit", type=int, help="only the first N modules")
    parser.add_argument("--kill", action="store_true", help="kill one of the workers half-way (SIGKILL)")
    parser.add_argument("--report", default="report.md", help="the file to write (default: %(default)s)")
    options = parser.parse_args()

    modules = standard_library()[: options.limit]
    measured = group(*(measure.job(name, path) for name, path in modules))
    title = f"The standard library of Python {platform.python_version()}"
    report = measured.then(write_report, title, os.path.abspath(options.report))
    app.submit(report)  # with all jobs that it needs, in one transaction

    command = [sys.executable, "-m", "gigq", "worker", "indexer:app", "--concurrency", "2", "--log-level", "warning"]
    here = Path(__file__).parent
    workers = [subprocess.Popen(command, cwd=here) for _ in range(WORKERS)]
    try:
        watch(list(measured), workers, kill_at=len(modules) // 2 if options.kill else None)
        count = report.get(timeout=120)
    finally:
        for worker in workers:
            worker.terminate()  # they finish what they have begun
        for worker in workers:
            worker.wait()
    print(f"{options.report} is about {count} modules")
    if options.kill:
        again = sum(job.attempts > 1 for job in measured)
        print(f"{again} jobs of the killed worker were run again")


def watch(jobs: Sequence[Job[object]], workers: list[subprocess.Popen[bytes]], kill_at: int | None) -> None:
    """Show how far the jobs are until all have ended. With `kill_at`, kill a worker when so many have."""
    unfinished = list(jobs)
    while unfinished:
        time.sleep(POLL_SECONDS)
        unfinished = [job for job in unfinished if not job.state.is_terminal]
        done = len(jobs) - len(unfinished)
        print(f"\r{done:5} of {len(jobs)} modules measured", end="", flush=True)
        if kill_at is not None and done >= kill_at:
            kill(workers.pop())
            kill_at = None
        if all(worker.poll() is not None for worker in workers):
            raise SystemExit("\nno worker is left")
    print()


def kill(worker: subprocess.Popen[bytes]) -> None:
    """Kill one process, as the kernel does when memory runs out: it cannot say good-bye."""
    os.kill(worker.pid, signal.SIGKILL)
    worker.wait()
    print(f"\nworker {worker.pid} was killed")


if __name__ == "__main__":
    main()
