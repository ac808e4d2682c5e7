"""The forker and its children end with their supervisor, and the pool outlives its forker."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pool_driver import StartPool, children_of, descriptors, failure_of, is_running, make_job, poll_until

from gigq.errors import WorkerError
from gigq.storage.leases import End
from gigq.worker.pools.forked import STALL_SECONDS

SUPERVISOR = """
import hashlib, os, subprocess, sys, time
from pool_driver import *
from gigq.worker.pools.process import ProcessPool
from gigq.worker.source import ModuleTarget

def note(path):
    with open(path + ".tmp", "w") as file:
        file.write(str(os.getpid()))
    os.rename(path + ".tmp", path)

def spin(path):
    note(path)
    while True:
        pass

def block_in_c(path):
    note(path)
    hashlib.pbkdf2_hmac("sha512", b"x", b"y", 1_000_000_000)

def have_grandchild(path):
    child = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    with open(path + ".grandchild", "w") as file:
        file.write(str(child.pid))
    spin(path)

app = FakeApp(spin, block_in_c, have_grandchild)

if __name__ == "__main__":
    function, path, how = sys.argv[1:]
    source = app if how.startswith("fork") else ModuleTarget("supervisor_program", "app")
    pool = ProcessPool(source, url=None, concurrency=2)
    pool.start()
    if how == "fork, with a sibling" and os.fork() == 0:
        time.sleep(60)  # a process that the program forked, with copies of whatever is open in it
        os._exit(0)
    driver = Driver(pool)
    driver.give(make_job(function, path))
    while True:
        driver.turn()
"""


@pytest.fixture
def supervise(tmp_path: Path) -> Iterator[object]:
    """A function that starts a supervisor in a process of its own, and returns it with the pids below it."""
    (tmp_path / "supervisor_program.py").write_text(SUPERVISOR)
    here = os.path.dirname(__file__)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([here, os.path.dirname(os.path.dirname(here))])}
    started: list[subprocess.Popen[bytes]] = []

    def start(function: str, how: str) -> tuple[subprocess.Popen[bytes], list[int]]:
        path = tmp_path / "pid"
        process = subprocess.Popen(
            [sys.executable, "supervisor_program.py", function, str(path), how],
            cwd=tmp_path,
            env=environment,
            start_new_session=True,
        )
        started.append(process)
        poll_until(path.exists)
        (forker,) = [pid for pid in children_of(process.pid) if children_of(pid)]
        below = [forker, *children_of(forker)]
        assert int(path.read_text()) in below
        grandchild = tmp_path / "pid.grandchild"
        if grandchild.exists():
            below.append(int(grandchild.read_text()))
        return process, below

    yield start
    for process in started:
        process.kill()
        process.wait()


@pytest.mark.slow
@pytest.mark.parametrize("how", ["fork", "module", "fork, with a sibling"])
@pytest.mark.parametrize("function", ["spin", "block_in_c", "have_grandchild"])
def test_no_child_outlives_a_killed_supervisor(supervise, function: str, how: str) -> None:  # type: ignore[no-untyped-def] # fault 2
    process, below = supervise(function, how)
    siblings = children_of(process.pid) - set(below)
    os.kill(process.pid, signal.SIGKILL)
    seconds = poll_until(lambda: not any(is_running(pid) for pid in below))
    for pid in siblings:
        os.kill(pid, signal.SIGKILL)
    assert seconds < 0.1


@pytest.mark.slow
@pytest.mark.parametrize("how", ["fork", "module"])
def test_ctrl_c_reaches_the_supervisor_alone(supervise, how: str) -> None:  # type: ignore[no-untyped-def]
    process, below = supervise("spin", how)
    # A terminal signals the process group in its foreground.
    assert os.getpgid(process.pid) == process.pid
    assert all(os.getsid(pid) != os.getsid(process.pid) for pid in below)


@pytest.mark.slow
def test_ignored_signals_do_not_reach_programs_that_a_task_starts(start_pool: StartPool) -> None:
    def run() -> str:
        code = "import signal; print(signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGHUP))"
        return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout

    from gigq.payload import loads

    ended = start_pool(run).run_one(make_job("run"))
    assert ended.result is not None
    assert loads(ended.result, lambda job_id: None).split() == ["0", "0"]  # SIG_DFL


@pytest.mark.slow
def test_a_dead_forker_is_replaced_and_its_running_job_is_lost(start_pool: StartPool, tmp_path: Path) -> None:
    def spin(path: str) -> None:
        Path(path).write_text(str(os.getpid()))
        while True:
            pass

    def noop() -> None: ...

    driver = start_pool(spin, noop, concurrency=2)
    path = tmp_path / "pid"
    job = make_job("spin", str(path))
    driver.give(job)
    driver.until(lambda: path.exists() and path.read_text())
    os.kill(driver.pool._crew._link.pid, signal.SIGKILL)  # type: ignore[attr-defined]
    driver.until(driver.pool.is_idle)
    (ended,) = driver.ended
    assert ended.end is End.LOST
    assert failure_of(ended).message == "killed, because the process that forked it died"
    poll_until(lambda: not is_running(int(path.read_text())), timeout=1)
    assert {e.end for e in driver.run(*[make_job("noop") for _ in range(20)])} == {End.COMPLETED}


@pytest.mark.slow
def test_a_supervisor_that_was_stopped_for_long_loses_nothing(start_pool: StartPool) -> None:
    def big() -> bytes:
        return bytes(1_000_000)

    driver = start_pool(big)
    pid = driver.run_one(make_job("big")).pid
    driver.pool.give([make_job("big")])
    # Nobody reads: the child waits in the middle of its outcome, and for longer than a stuck one may. (With a shorter
    # time for those, a child that merely did not get its turn on a busy machine was taken for one.)
    time.sleep(1.2 * STALL_SECONDS)
    driver.until(driver.pool.is_idle)
    assert [ended.end for ended in driver.ended] == [End.COMPLETED] * 2
    assert driver.ended[1].pid == pid


@pytest.mark.slow
def test_a_forker_that_is_stopped_does_not_save_a_job_from_its_deadline(start_pool: StartPool, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    from gigq.worker.pools import crew, forked

    monkeypatch.setattr(crew, "UNKILLED_SECONDS", 0.2)
    monkeypatch.setattr(forked, "GRACE_SECONDS", 0.1)

    def spin() -> None:
        while True:
            pass

    def noop() -> None: ...

    driver = start_pool(spin, noop)
    pid = driver.run_one(make_job("noop")).pid
    assert pid is not None
    os.kill(driver.pool._crew._link.pid, signal.SIGSTOP)  # type: ignore[attr-defined]
    ended = driver.run_one(make_job("spin", timeout=0.1))
    assert ended.end is End.TIMED_OUT
    assert ended.pid == pid
    assert not is_running(pid)
    assert driver.run_one(make_job("spin", timeout=0.1)).end is End.TIMED_OUT


@pytest.mark.slow
def test_a_child_that_dies_while_the_forker_is_stopped_is_noticed(  # type: ignore[no-untyped-def]
    start_pool: StartPool, monkeypatch, tmp_path: Path
) -> None:
    from gigq.worker.pools import crew

    monkeypatch.setattr(crew, "UNKILLED_SECONDS", 0.2)
    path = tmp_path / "pid"

    def spin() -> None:
        path.write_text(str(os.getpid()))
        while True:
            pass

    def noop() -> None: ...

    driver = start_pool(spin, noop)
    driver.give(make_job("spin"))
    driver.until(lambda: path.exists() and path.read_text())
    os.kill(driver.pool._crew._link.pid, signal.SIGSTOP)  # type: ignore[attr-defined]
    os.kill(int(path.read_text()), signal.SIGKILL)
    driver.until(driver.pool.is_idle)
    assert [ended.end for ended in driver.ended] == [End.LOST]
    assert driver.run_one(make_job("noop")).end is End.COMPLETED


@pytest.mark.slow
def test_a_child_whose_task_closes_everything_and_goes_on_is_not_taken_for_dead(  # type: ignore[no-untyped-def]
    start_pool: StartPool, monkeypatch
) -> None:
    from gigq.worker.pools import crew

    monkeypatch.setattr(crew, "UNKILLED_SECONDS", 0.05)

    def close_everything() -> None:
        os.closerange(3, 65536)
        time.sleep(0.5)

    def noop() -> None: ...

    driver = start_pool(close_everything, noop)
    forker = driver.pool._crew._link.pid  # type: ignore[attr-defined]
    assert "closed gigq's descriptors" in failure_of(driver.run_one(make_job("close_everything"))).message
    assert driver.run_one(make_job("noop")).end is End.COMPLETED
    assert driver.pool._crew._link.pid == forker  # type: ignore[attr-defined]


@pytest.mark.slow
def test_a_fork_that_fails_is_tried_again_and_no_job_is_lost(start_pool: StartPool, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    supervisor, real_fork, failures = os.getpid(), os.fork, [2]

    def fork() -> int:
        if os.getpid() != supervisor and failures[0]:
            failures[0] -= 1
            raise BlockingIOError(11, "no more processes")
        return real_fork()

    def noop() -> None: ...

    monkeypatch.setattr(os, "fork", fork)
    driver = start_pool(noop)
    ended = driver.run_one(make_job("noop"))
    assert ended.end is End.COMPLETED


@pytest.mark.slow
def test_children_that_cannot_be_made_for_want_of_descriptors_are_made_later(
    start_pool: StartPool, monkeypatch
) -> None:  # type: ignore[no-untyped-def]
    def die() -> None:
        os._exit(1)

    def noop() -> None: ...

    driver = start_pool(die, noop)
    before = descriptors()
    real_pipe, failures = os.pipe, [1, 0]  # the second pipe of the first attempt

    def pipe() -> tuple[int, int]:
        if failures and failures.pop() == 1:
            raise OSError(24, "Too many open files")
        return real_pipe()

    monkeypatch.setattr(os, "pipe", pipe)
    lost = make_job("die")
    driver.give(lost)
    driver.until(lambda: driver.ended)
    assert driver.run_one(make_job("noop")).end is End.COMPLETED
    assert len(descriptors()) == len(before)


def test_a_forker_that_dies_again_and_again_is_an_error(start_pool: StartPool) -> None:
    def noop() -> None: ...

    driver = start_pool(noop)

    def kill_forkers() -> None:
        for _ in range(10):
            pid = driver.pool._crew._link.pid  # type: ignore[attr-defined]
            os.kill(pid, signal.SIGKILL)
            driver.until(lambda pid=pid: driver.pool._crew._link.pid != pid)  # type: ignore[attr-defined, misc]

    with pytest.raises(WorkerError, match="the forker process died 6 times"):
        kill_forkers()


def test_a_forker_whose_supervisor_dies_first_ends_without_a_word() -> None:
    """A supervisor may be killed while it starts, or while it replaces a forker."""
    code = """
import os, socket
from gigq import App
from gigq.worker.forker import run_forked

ours, theirs = socket.socketpair()
ours.close()
run_forked(theirs, os.getppid(), App("never-opened.db"), None)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
