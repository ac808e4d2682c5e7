"""The pool of processes in good times: starting, running, reporting, stopping."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from pool_driver import (
    Driver,
    FakeApp,
    StartPool,
    children_of,
    descriptors,
    ends,
    failure_of,
    is_running,
    make_job,
    poll_until,
)

from gigq.context import current_job
from gigq.errors import TargetError, WorkerError
from gigq.job import Job
from gigq.payload import loads
from gigq.queue import JobQueue
from gigq.storage.base import BY_VALUE, ClaimRequest, End, Outcome
from gigq.testing.harness import worker_row
from gigq.worker.pools.base import Ended
from gigq.worker.pools.process import ProcessPool
from gigq.worker.source import ModuleTarget


def add(a: int, b: int = 1) -> int:
    return a + b


def whoami() -> int:
    return os.getpid()


def value_of(ended: Ended) -> Any:
    assert ended.end is End.COMPLETED, ended
    return None if ended.result is None else loads(ended.result, lambda job_id: None)


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


# -- apps in other places


@pytest.fixture
def module_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(
        "PYTHONPATH",
        os.pathsep.join([os.path.dirname(__file__), os.path.dirname(os.path.dirname(os.path.dirname(__file__)))]),
    )
    return tmp_path


APP = """
from pool_driver import FakeApp
from gigq.retry import RetryPolicy
def add(a, b):
    return a + b
app = FakeApp(add, url="sqlite:////nowhere.db")
"""


@pytest.mark.slow
def test_a_module_is_imported_by_the_forker_and_never_here(module_folder: Path) -> None:
    (module_folder / "elsewhere_app.py").write_text(APP)
    pool = ProcessPool(ModuleTarget("elsewhere_app", "app"), url=None, concurrency=1)
    hello = pool.start()
    try:
        assert hello.url == "sqlite:////nowhere.db"
        assert hello.durability == "process"
        assert list(hello.tasks) == ["add"]
        assert value_of(Driver(pool).run_one(make_job("add", 1, 2))) == 3
        assert "elsewhere_app" not in sys.modules
    finally:
        pool.stop()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("import no_such_thing", "No module named 'no_such_thing'"),
        ("1 / 0", "ZeroDivisionError"),
        ("import sys; sys.exit(3)", "SystemExit: 3"),
        ("import os; os._exit(3)", "died meanwhile"),
        ("app = 5", "must be a gigq App, got int"),
    ],
)
def test_an_app_that_cannot_be_loaded_is_one_clear_error(module_folder: Path, code: str, message: str) -> None:
    (module_folder / "broken_app.py").write_text(code)
    before = descriptors()
    with pytest.raises(TargetError, match=message) as caught:
        ProcessPool(ModuleTarget("broken_app", "app"), url=None, concurrency=1).start()
    assert "\n" not in str(caught.value)
    assert descriptors() == before


@pytest.mark.slow
def test_an_import_that_hangs_can_be_interrupted(module_folder: Path) -> None:
    (module_folder / "hanging_app.py").write_text(
        "import os, time; open('importing', 'w').write(str(os.getpid())); time.sleep(100)"
    )
    pool = ProcessPool(ModuleTarget("hanging_app", "app"), url=None, concurrency=1)
    path = module_folder / "importing"
    main_thread = threading.main_thread().ident
    assert main_thread is not None

    def press_ctrl_c() -> None:
        poll_until(lambda: path.exists() and path.read_text())
        signal.pthread_kill(main_thread, signal.SIGINT)

    thread = threading.Thread(target=press_ctrl_c)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        pool.start()
    thread.join()
    assert not is_running(int(path.read_text()))


@pytest.mark.slow
def test_threads_started_by_an_app_are_warned_about(module_folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    (module_folder / "threaded_app.py").write_text(
        APP + "import threading\nthreading.Thread(target=threading.Event().wait, daemon=True).start()\n"
    )
    pool = ProcessPool(ModuleTarget("threaded_app", "app"), url=None, concurrency=1)
    pool.start()
    pool.stop()
    assert "started 1 threads" in caplog.text


@pytest.mark.slow
def test_a_pool_without_an_app_runs_functions_that_travel(module_folder: Path) -> None:
    pool = ProcessPool(None, url="", concurrency=1)
    hello = pool.start()
    try:
        assert (hello.url, dict(hello.tasks)) == (None, {})
        assert value_of(Driver(pool).run_one(make_job(lambda: 42, by_value=True))) == 42
    finally:
        pool.stop()


def test_where_there_is_no_fork_the_error_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "fork")
    with pytest.raises(WorkerError, match='use pool="thread"'):
        ProcessPool(FakeApp(add), url=None, concurrency=1).start()


# -- handing out


def test_one_job_is_handed_out_while_its_duration_is_unknown(start_pool: StartPool) -> None:
    pool = start_pool(add, concurrency=2).pool
    assert pool.wanted() == 2
    jobs = [make_job("add", n) for n in range(5)]
    assert pool.give(jobs) == jobs[2:]
    assert pool.wanted() == 0


def test_short_jobs_are_handed_out_far_ahead(start_pool: StartPool) -> None:
    driver = start_pool(add)
    driver.run(*[make_job("add", n) for n in range(300)])
    assert driver.pool.wanted() > 20
    jobs = [make_job("add", n) for n in range(2000)]
    rest = driver.pool.give(jobs)
    assert 2000 - 256 <= len(rest) < 2000 - 10
    assert rest == jobs[2000 - len(rest) :]


def test_nothing_is_wanted_while_all_children_run_long_jobs(start_pool: StartPool) -> None:
    def wait(path: str) -> None:
        while not os.path.exists(path):
            time.sleep(0.001)

    driver = start_pool(wait, add, concurrency=2)
    driver.run(*[make_job("add", n) for n in range(300)])
    driver.give(make_job("wait", "/nowhere"), make_job("wait", "/nowhere"))
    driver.until(lambda: driver.pool.wanted() == 0)
    assert driver.pool.give([make_job("add", 1)]) != []


def test_big_arguments_pass_through_a_small_pipe(start_pool: StartPool) -> None:
    def size(data: bytes) -> int:
        return len(data)

    driver = start_pool(size, concurrency=2)
    jobs = [make_job("size", bytes(30_000)) for _ in range(500)]
    assert {value_of(ended) for ended in driver.run(*jobs)} == {30_000}


def test_a_result_just_below_the_limit_arrives_and_one_above_does_not(start_pool: StartPool) -> None:  # fault 29
    def make(count: int) -> bytes:
        return b"x" * count

    driver = start_pool(make, result_limit_bytes=3_000_000)
    fits, too_big = driver.run(make_job("make", 2_999_000), make_job("make", 3_000_001))
    assert len(value_of(fits)) == 2_999_000
    assert failure_of(too_big).type == "ResultTooLarge"


def test_children_read_big_arguments_and_outputs_from_the_database(start_pool: StartPool, tmp_path: Path) -> None:
    queue = JobQueue(tmp_path / "jobs.db")
    storage = queue.storage
    parent = Job(function=add, params={"a": 1})
    queue.submit(parent)
    queue.submit(Job(function=add, params={"a": 20, "b": parent.output}))
    storage.register(worker_row("w1", 0.0))
    driver = start_pool(url=storage.url)
    request = ClaimRequest("w1", 1, [BY_VALUE])
    results = []
    for _ in range(2):
        (job,) = storage.claim(request).jobs
        ended = driver.run_one(job._replace(arguments=None))
        results.append(value_of(ended))
        outcome = Outcome(
            job.seq, job.id, job.claims, job.attempt, ended.end, ended.started_at, 0.0, result=ended.result
        )
        storage.finish("w1", [outcome])
    queue.close()
    assert results == [2, 22]


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
