"""Where a pool of processes finds its app, and what is said when it does not."""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path

import pytest
from pool_driver import (
    Driver,
    FakeApp,
    descriptors,
    is_running,
    make_job,
    poll_until,
    value_of,
)

from gigq.errors import TargetError, WorkerError
from gigq.worker.pools.process import ProcessPool
from gigq.worker.source import ModuleTarget


def add(a: int, b: int = 1) -> int:
    return a + b


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
