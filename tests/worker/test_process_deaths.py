"""Tasks that are hostile by accident: one failed attempt that names the cause, and nothing else is hurt."""

from __future__ import annotations

import ctypes
import hashlib
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pool_driver import Driver, StartPool, descriptors, failure_of, is_running, make_job, poll_until

from gigq.storage.leases import End


def noop() -> None: ...


def check_others_go_on(driver: Driver) -> None:
    """The pool runs jobs as before, in all its children."""
    all_ended = driver.run(*[make_job("noop") for _ in range(100)])
    assert {ended.end for ended in all_ended} == {End.COMPLETED}


def leave_by_os_exit() -> None:
    os._exit(3)


def leave_by_os_exit_0() -> None:
    os._exit(0)


def segfault() -> None:
    # No core file and no stack trace of pytest's faulthandler: the death is what is wanted.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    import faulthandler

    faulthandler.disable()
    ctypes.string_at(0)


def abort() -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    import faulthandler

    faulthandler.disable()
    os.abort()


def kill_myself() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def terminate_my_group() -> None:
    os.killpg(0, signal.SIGTERM)


def close_everything() -> None:
    os.closerange(0, 65536)


@pytest.mark.parametrize(
    ("function", "cause"),
    [
        (leave_by_os_exit, "exited with status 3 (the task called os._exit?)"),
        (leave_by_os_exit_0, "exited with status 0 (the task called os._exit?)"),
        (segfault, "killed by signal 11 (SIGSEGV)"),
        (abort, "killed by signal 6 (SIGABRT)"),
        (kill_myself, "killed by signal 9 (SIGKILL)"),
        (terminate_my_group, "killed by signal 15 (SIGTERM)"),
        (close_everything, "the task closed gigq's descriptors, so its outcome could not be reported"),
    ],
)
def test_a_death_is_one_lost_attempt_that_names_the_cause(
    start_pool: StartPool, function: Callable[[], None], cause: str
) -> None:  # faults 1, 34, 36
    driver = start_pool(function, noop, concurrency=2)
    check_others_go_on(driver)
    hostile = make_job(function)
    neighbours = [make_job("noop") for _ in range(50)]
    ended, *others = driver.run(hostile, *neighbours)
    assert ended.end is End.LOST
    assert failure_of(ended).message == cause
    assert ended.started_at is not None
    assert {other.end for other in others} == {End.COMPLETED}
    check_others_go_on(driver)
    assert len(driver.ended) == len({ended.job.seq for ended in driver.ended})


def exit_politely() -> None:
    sys.exit("bye")


class MyExit(SystemExit):
    pass


def exit_by_subclass() -> None:
    raise MyExit(4)


def interrupt() -> None:
    raise KeyboardInterrupt


def interrupt_by_signal() -> None:
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(10)


def recurse(n: int = 0) -> int:
    return recurse(n + 1) + 1


def exhaust_memory() -> None:
    bytearray(1 << 62)


class ExitsWhenUnpickled:
    def __reduce__(self) -> tuple[Any, ...]:
        return sys.exit, ("unpickled",)


@pytest.mark.parametrize(
    ("function", "type_name"),
    [
        (exit_politely, "SystemExit"),
        (exit_by_subclass, "MyExit"),
        (interrupt, "KeyboardInterrupt"),
        (interrupt_by_signal, "KeyboardInterrupt"),
        (recurse, "RecursionError"),
        (exhaust_memory, "MemoryError"),
    ],
)
def test_what_leaves_a_function_is_a_failure_and_the_child_lives(
    start_pool: StartPool, function: Callable[..., Any], type_name: str
) -> None:  # faults 34, 38
    driver = start_pool(function, noop)
    pid = driver.run_one(make_job("noop")).pid
    ended = driver.run_one(make_job(function))
    assert ended.end is End.FAILED
    assert failure_of(ended).type == type_name
    assert ended.retryable
    assert driver.run_one(make_job("noop")).pid == pid


def test_unpickling_that_exits_is_a_failure(start_pool: StartPool) -> None:  # fault 31
    driver = start_pool(noop)
    ended = driver.run_one(make_job("noop", ExitsWhenUnpickled()))
    assert ended.end is End.FAILED
    assert failure_of(ended).type == "SystemExit"


def test_a_result_that_cannot_be_pickled_is_not_tried_again(start_pool: StartPool) -> None:  # fault 27
    def make() -> Any:
        return threading.Lock()

    ended = start_pool(make).run_one(make_job("make"))
    assert ended.end is End.FAILED
    assert not ended.retryable
    assert "lock" in failure_of(ended).message


def write_rubbish() -> None:
    for fd in range(200, 1100):  # where gigq's are; lower ones would show up in the tests' output
        try:
            os.set_blocking(fd, False)
            os.write(fd, b"rubbish" * 10)
        except OSError:
            continue


def test_rubbish_in_low_descriptors_hits_nothing_of_gigq(start_pool: StartPool) -> None:  # fault 36
    of_pytest = {int(fd) for fd in descriptors()}

    def write_low() -> None:
        for fd in set(range(3, 301)) - of_pytest:
            try:
                os.set_blocking(fd, False)
                os.write(fd, b"rubbish")
            except OSError:
                continue

    driver = start_pool(write_low)
    assert driver.run_one(make_job("write_low")).end is End.COMPLETED


def test_rubbish_in_the_channel_is_a_failed_attempt_of_its_writer_alone(start_pool: StartPool) -> None:  # fault 36
    driver = start_pool(write_rubbish, noop)
    check_others_go_on(driver)
    # Known to be short: the jobs after it are in the same child, and their outcomes behind the rubbish.
    driver.pool._estimates.record(make_job("write_rubbish"), 0.000_01)  # type: ignore[attr-defined]
    jobs = [make_job("noop") for _ in range(20)]
    hostile = make_job("write_rubbish")
    all_ended = {ended.job.seq: ended for ended in driver.run(*jobs[:10], hostile, *jobs[10:])}
    ended = all_ended.pop(hostile.seq)
    assert ended.end is End.LOST
    assert failure_of(ended).message == "the task wrote to gigq's channel"
    assert {other.end for other in all_ended.values()} == {End.COMPLETED}
    assert driver.run_one(make_job("noop")).pid != ended.pid


def test_a_task_that_reads_tokens_loses_nobodys_job(start_pool: StartPool) -> None:
    def read_all() -> None:
        for fd in range(3, 1100):
            try:
                os.set_blocking(fd, False)
                os.read(fd, 80)
            except OSError:
                continue

    driver = start_pool(read_all, noop)
    check_others_go_on(driver)
    driver.pool._estimates.record(make_job("read_all"), 0.000_01)  # type: ignore[attr-defined]
    jobs = [make_job("read_all"), *[make_job("noop") for _ in range(30)]]
    driver.run(*jobs)
    assert len(driver.ended) == len({ended.job.seq for ended in driver.ended})
    check_others_go_on(driver)


def test_an_atexit_hook_that_hangs_keeps_nobody(start_pool: StartPool) -> None:  # fault 35
    def register() -> None:
        import atexit

        atexit.register(time.sleep, 1000)

    driver = start_pool(register)
    pid = driver.run_one(make_job("register")).pid
    assert pid is not None
    started = time.monotonic()
    driver.pool.stop()
    assert time.monotonic() - started < 2
    assert not is_running(pid)
    driver.pool.start()  # for the fixture, which stops it


def leave_a_grandchild(path: str, then: str) -> None:
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(1000)"
    process = subprocess.Popen([sys.executable, "-c", code])
    Path(path).write_text(str(process.pid))
    if then == "die":
        os._exit(1)


def test_grandchildren_die_with_a_child(start_pool: StartPool, tmp_path: Path) -> None:  # fault 35
    path = tmp_path / "pid"
    driver = start_pool(leave_a_grandchild)
    assert driver.run_one(make_job("leave_a_grandchild", str(path), "die")).end is End.LOST
    poll_until(lambda: not is_running(int(path.read_text())), timeout=1)


def block_in_c(path: str) -> None:
    Path(path).write_text(str(os.getpid()))
    hashlib.pbkdf2_hmac("sha512", b"x", b"y", 1_000_000_000)


def wait_for_a_grandchild(path: str) -> None:
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    Path(path).write_text(str(process.pid))
    process.wait()


@pytest.mark.parametrize("function", [block_in_c, wait_for_a_grandchild])
def test_a_child_killed_from_outside_is_a_lost_attempt_at_once(
    start_pool: StartPool, tmp_path: Path, function: Callable[..., None]
) -> None:  # fault 1
    path = tmp_path / "pid"
    driver = start_pool(function, noop)
    pid = driver.run_one(make_job("noop")).pid
    assert pid is not None
    job = make_job(function, str(path))
    driver.give(job)
    driver.until(lambda: path.exists() and path.read_text())
    os.kill(pid, signal.SIGKILL)
    started = time.monotonic()
    driver.until(driver.pool.is_idle)
    ended = driver.ended[-1]
    assert ended.end is End.LOST
    assert failure_of(ended).message == "killed by signal 9 (SIGKILL)"
    assert driver.run_one(make_job("noop")).end is End.COMPLETED
    assert time.monotonic() - started < 1
    poll_until(lambda: not is_running(int(path.read_text())), timeout=1)


def test_a_forked_copy_of_the_task_takes_no_part(start_pool: StartPool) -> None:
    def fork() -> int:
        return os.fork()  # the copy returns from the function as well

    driver = start_pool(fork, noop)
    for _ in range(5):
        assert driver.run_one(make_job("fork")).end is End.COMPLETED
    check_others_go_on(driver)
    assert len(driver.ended) == len({ended.job.seq for ended in driver.ended})


@pytest.mark.slow
def test_a_forked_copy_does_not_end_its_parents_deadline(start_pool: StartPool) -> None:
    def fork() -> None:
        pid = os.fork()
        if pid:
            os.waitpid(pid, 0)
            time.sleep(100)

    assert start_pool(fork).run_one(make_job("fork", timeout=0.1)).end is End.TIMED_OUT


def test_multiprocessing_works_in_a_task(start_pool: StartPool) -> None:
    def use_processes() -> list[int]:
        import multiprocessing

        with multiprocessing.get_context("fork").Pool(2) as pool:
            return pool.map(abs, [-1, -2])

    driver = start_pool(use_processes, noop)
    assert driver.run_one(make_job("use_processes")).end is End.COMPLETED
    check_others_go_on(driver)


def test_threads_left_behind_do_not_hurt_the_next_job(start_pool: StartPool) -> None:  # fault 35
    def leave_threads() -> None:
        for _ in range(3):
            threading.Thread(target=time.sleep, args=(1000,)).start()

    driver = start_pool(leave_threads, noop)
    assert driver.run_one(make_job("leave_threads")).end is End.COMPLETED
    check_others_go_on(driver)


def test_changed_surroundings_do_not_stop_the_child(start_pool: StartPool, tmp_path: Path) -> None:  # fault 37
    def change() -> None:
        import locale

        os.chdir("/")
        os.environ.clear()
        os.umask(0o777)
        locale.setlocale(locale.LC_ALL, "C")
        for sig in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
            signal.signal(sig, signal.SIG_IGN)
        sys.stdout = sys.stderr = None  # type: ignore[assignment]

    driver = start_pool(change, noop)
    assert driver.run_one(make_job("change")).end is End.COMPLETED
    check_others_go_on(driver)


@pytest.mark.slow
def test_a_flood_on_standard_output_passes(tmp_path: Path) -> None:  # fault 30, with less of it
    from test_process_pool import run_script

    script = tmp_path / "program.py"
    script.write_text(
        "from pool_driver import *\n"
        "from gigq.worker.pools.process import ProcessPool\n"
        "def flood():\n"
        "    for _ in range(300):\n"
        "        print('x' * 100_000)\n"
        "pool = ProcessPool(FakeApp(flood), url=None, concurrency=1)\n"
        "pool.start()\n"
        "assert Driver(pool).run_one(make_job('flood')).end == 'completed'\n"
        "pool.stop()\n"
    )
    assert len(run_script(script).stdout) == 300 * 100_001


def test_an_idle_child_that_is_killed_is_replaced(start_pool: StartPool) -> None:  # fault 1
    driver = start_pool(noop)
    pid = driver.run_one(make_job("noop")).pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    poll_until(lambda: not is_running(pid))
    ended = driver.run_one(make_job("noop"))
    assert ended.end is End.COMPLETED
    assert ended.pid != pid


@pytest.mark.slow
def test_a_thousand_children_one_after_the_other(start_pool: StartPool) -> None:  # fault 39
    driver = start_pool(leave_by_os_exit, concurrency=2)
    all_ended = driver.run(*[make_job("leave_by_os_exit") for _ in range(1000)], timeout=60)
    assert {ended.end for ended in all_ended} == {End.LOST}
    assert len({ended.job.seq for ended in driver.ended}) == len(driver.ended) == 1000
