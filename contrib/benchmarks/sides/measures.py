"""What the sides of all systems have in common. Plain Python: it runs in each system's own environment."""

import os
import signal
import time

LONGEST_SECONDS = 120.0
POLL_SECONDS = 0.005  # each look costs the system under test a little, and each pause is uncertainty of the result


def each(enqueue, count):
    """Time `enqueue(count)` alone."""
    started = time.perf_counter()
    enqueue(count)
    return {"seconds": time.perf_counter() - started}


def round_trips(call, count):
    """Time `call(n)`, which submits a job and waits for its result, n, for each of `count` numbers."""
    samples = []
    for n in range(count):
        started = time.perf_counter()
        value = call(n)
        samples.append(time.perf_counter() - started)
        assert value == n, (value, n)
    return {"samples": samples}


def wait_for(completed, count):
    """Return once `completed()` says `count`; more would be a job that was counted twice."""
    deadline = time.monotonic() + LONGEST_SECONDS
    while (done := completed()) < count:
        if time.monotonic() > deadline:
            raise SystemExit(f"only {done} of {count} jobs were completed after {LONGEST_SECONDS:g} s")
        time.sleep(POLL_SECONDS)
    assert done == count, (done, count)


def drain(enqueue, completed, count):
    """Time from before the first enqueue to the last commit, with a worker that is running and idle."""
    before = completed()
    started = time.perf_counter()
    enqueue(count)
    enqueued = time.perf_counter()
    wait_for(completed, before + count)
    return {"seconds": time.perf_counter() - started, "enqueue_seconds": enqueued - started}


def backlog(enqueue, completed, count, worker_pid):
    """Time the worker alone: it is stopped while jobs are stored, and the clock runs from when it goes on."""
    before = completed()
    processes = descendants(worker_pid)
    for pid in processes:
        os.kill(pid, signal.SIGSTOP)
    try:
        enqueue(count)
    finally:
        started = time.perf_counter()
        for pid in processes:
            os.kill(pid, signal.SIGCONT)
    wait_for(completed, before + count)
    return {"seconds": time.perf_counter() - started, "processes": len(processes)}


def descendants(pid):
    """Return a process id and those of all its descendants."""
    children = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/stat") as file:
                    parent = int(file.read().rpartition(")")[2].split()[1])
            except OSError:  # it has just ended
                continue
            children.setdefault(parent, []).append(int(entry))
    found = [pid]
    for process in found:
        found += children.get(process, [])
    return found
