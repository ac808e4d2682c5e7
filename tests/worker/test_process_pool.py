"""The pool of processes in good times: starting, running, reporting, stopping."""

from __future__ import annotations

import asyncio
import logging
import os
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from pool_driver import (
    Driver,
    FakeApp,
    StartPool,
    children_of,
    descriptors,
    ends,
    is_running,
    make_job,
    value_of,
)

from gigq.context import current_job
from gigq.storage.leases import End
from gigq.worker.pools.base import Ended
from gigq.worker.pools.process import ProcessPool


def add(a: int, b: int = 1) -> int:
    return a + b


def whoami() -> int:
    return os.getpid()


def test_results_come_back_with_times_and_the_process(start_pool: StartPool) -> None:
    driver = start_pool(whoami)
    before = time.time()
    ended = driver.run_one(make_job("whoami"))
    assert value_of(ended) == ended.pid
    assert ended.pid != os.getpid()
    assert ended.started_at is not None
    assert before - 1 <= ended.started_at <= time.time() + 1
    assert 0 < ended.duration < 5


def test_each_job_gets_its_own_result(start_pool: StartPool) -> None:
    driver = start_pool(add, concurrency=2)
    all_ended = driver.run(*[make_job("add", n, b=1000) for n in range(2000)])
    assert [value_of(ended) for ended in all_ended] == [n + 1000 for n in range(2000)]


def test_functions_travel_with_their_jobs(start_pool: StartPool) -> None:
    factor = 3
    assert value_of(start_pool().run_one(make_job(lambda n: n * factor, 14, by_value=True))) == 42


def test_coroutines_run_one_after_the_other_in_one_loop(start_pool: StartPool) -> None:
    async def loop_of() -> tuple[str, int]:
        await asyncio.sleep(0)
        return current_job().id, id(asyncio.get_running_loop())

    driver = start_pool(loop_of)
    first, second = make_job("loop_of"), make_job("loop_of")
    got = [value_of(ended) for ended in driver.run(first, second)]
    assert [job_id for job_id, _ in got] == [first.id, second.id]
    assert got[0][1] == got[1][1]


def test_what_a_coroutine_leaves_running_ends_with_it(start_pool: StartPool, tmp_path: Path) -> None:
    async def leave(path: str) -> None:
        async def background() -> None:
            try:
                await asyncio.sleep(60)
            finally:
                Path(path).write_text("ended")

        leave.task = asyncio.create_task(background())  # type: ignore[attr-defined]
        await asyncio.sleep(0)

    start_pool(leave).run_one(make_job("leave", str(tmp_path / "left")))
    assert (tmp_path / "left").read_text() == "ended"


def test_progress_arrives_before_the_end_and_a_flood_is_thinned(start_pool: StartPool) -> None:
    def report() -> None:
        for step in range(10_000):
            current_job().progress(step / 10_000, f"step {step}")

    driver = start_pool(report)
    job = make_job("report")
    driver.run_one(job)
    assert 10 <= len(driver.progress) < 2_000
    assert driver.progress[1].job.seq == job.seq
    assert driver.progress[1].message == "step 1"


def test_progress_from_a_thread_of_the_task(start_pool: StartPool) -> None:
    def report() -> None:
        job = current_job()
        thread = threading.Thread(target=lambda: job.progress(0.5, "half"))
        thread.start()
        thread.join()

    driver = start_pool(report)
    driver.run_one(make_job("report"))
    assert [p.message for p in driver.progress] == ["half"]


def test_a_task_that_leaves_an_odd_stdout_behind_has_still_completed(start_pool: StartPool) -> None:
    class Tee:
        def write(self, text: str) -> int:
            return len(text)

        def flush(self) -> None:
            raise NotImplementedError

    def replace() -> int:
        sys.stdout = Tee()  # type: ignore[assignment]
        return 5

    driver = start_pool(replace)
    assert [value_of(driver.run_one(make_job("replace"))) for _ in range(2)] == [5, 5]


def test_what_a_task_prints_is_out_when_its_outcome_is(tmp_path: Path) -> None:
    script = tmp_path / "program.py"
    script.write_text(
        "from pool_driver import *\n"
        "from gigq.worker.pools.process import ProcessPool\n"
        "def shout():\n"
        "    print('heard')\n"
        "pool = ProcessPool(FakeApp(shout), url=None, concurrency=1)\n"
        "print('once')\n"
        "pool.start()\n"
        "assert Driver(pool).run_one(make_job('shout')).end == 'completed'\n"
        "pool.stop()\n"
    )
    done = run_script(script)
    assert done.stdout.split() == ["once", "heard"]


def run_script(script: Path) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([os.path.dirname(__file__), os.getcwd()])
    done = subprocess.run(
        [sys.executable, str(script)],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=script.parent,
    )
    assert done.returncode == 0, done.stderr
    return done


def test_functions_of_main_work(tmp_path: Path) -> None:  # fault 51
    script = tmp_path / "program.py"
    script.write_text(
        "from pool_driver import *\n"
        "from gigq.worker.pools.process import ProcessPool\n"
        "class Thing: pass\n"
        "def make():\n"
        "    return Thing()\n"
        "pool = ProcessPool(FakeApp(make), url=None, concurrency=1)\n"
        "pool.start()\n"
        "ended = Driver(pool).run_one(make_job('make'))\n"
        "assert ended.end == 'completed', ended\n"
        "pool.stop()\n"
    )
    run_script(script)


@pytest.mark.slow
def test_a_pool_can_start_in_a_thread_of_a_busy_program(start_pool: StartPool) -> None:
    stop = threading.Event()
    lock = threading.Lock()

    def make_noise() -> None:
        while not stop.is_set():
            with lock:
                logging.getLogger("noise").debug("noise")

    noise = [threading.Thread(target=make_noise) for _ in range(4)]
    for thread in noise:
        thread.start()
    ended: list[Ended] = []

    def work() -> None:
        driver = start_pool(add, concurrency=2)
        ended.extend(driver.run(*[make_job("add", n) for n in range(20)]))

    worker = threading.Thread(target=work)
    worker.start()
    worker.join(30)
    stop.set()
    for thread in noise:
        thread.join()
    assert ends(ended) == ["completed"] * 20


# -- hygiene


def test_nothing_is_left_after_stop() -> None:
    before = descriptors()
    children = children_of(os.getpid())
    pool = ProcessPool(FakeApp(add, whoami), url=None, concurrency=3)
    pool.start()
    driver = Driver(pool)
    pids = {value_of(ended) for ended in driver.run(*[make_job("whoami") for _ in range(50)])}
    assert pool.is_idle()
    pool.stop()
    assert descriptors() == before
    assert not any(is_running(pid) for pid in pids)
    assert children_of(os.getpid()) == children


def test_stop_ends_running_jobs(tmp_path: Path) -> None:
    def spin(path: str) -> None:
        Path(path).write_text(str(os.getpid()))
        while True:
            pass

    pool = ProcessPool(FakeApp(spin), url=None, concurrency=1)
    pool.start()
    driver = Driver(pool)
    driver.give(make_job("spin", str(tmp_path / "pid")))
    driver.until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text())
    pid = int((tmp_path / "pid").read_text())
    pool.stop()
    assert not is_running(pid)


def test_two_pools_in_one_program_do_not_hold_each_other(start_pool: StartPool) -> None:
    first = ProcessPool(FakeApp(whoami), url=None, concurrency=1)
    first.start()
    pid = value_of(Driver(first).run_one(make_job("whoami")))
    second = start_pool(whoami)
    started = time.monotonic()
    first.stop()
    assert time.monotonic() - started < 2
    assert not is_running(pid)
    assert value_of(second.run_one(make_job("whoami"))) != pid


def test_a_task_of_one_pool_cannot_disturb_another_pool(start_pool: StartPool) -> None:
    of_pytest = {int(fd) for fd in descriptors()}

    def write_rubbish() -> None:
        for fd in set(range(3, 1100)) - of_pytest:
            try:
                if stat.S_ISFIFO(os.fstat(fd).st_mode) or stat.S_ISSOCK(os.fstat(fd).st_mode):
                    os.set_blocking(fd, False)
                    os.write(fd, b"rubbish" * 20)
                    os.read(fd, 100)
            except OSError:
                continue

    first = start_pool(whoami)
    pid = value_of(first.run_one(make_job("whoami")))
    second = start_pool(write_rubbish)
    assert second.run_one(make_job("write_rubbish")).end is End.LOST
    assert value_of(first.run_one(make_job("whoami"))) == pid


def test_an_idle_pool_does_not_turn(start_pool: StartPool) -> None:
    driver = start_pool(add)
    driver.run_one(make_job("add", 1))
    assert driver.pool.tend() is None
    assert driver.pool.events() == []
    assert driver.pool.tend() is None
