"""Workers with a secret key, as real processes: who knows the key, and what an attacker's row does."""

from __future__ import annotations

import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from workshop import Workshop, until

from gigq import Job, JobQueue, JobState, SignatureError, Worker

pytestmark = pytest.mark.slow  # each starts workers

KEY = "0123456789-the-secret-of-this-test"

VAULT = """
import os, subprocess, sys
from gigq import App
app = App(name="vault")
at_import = os.environ.get("GIGQ_SECRET_KEY")

@app.task(name="vault.look", max_attempts=1)
def look():
    printed = subprocess.run(["env"], capture_output=True, text=True, check=True).stdout
    return os.getpid(), os.getppid(), at_import, os.environ.get("GIGQ_SECRET_KEY"), printed

@app.task(name="vault.big", max_attempts=1)
def big(data):
    return data + data

@app.task(name="vault.call", max_attempts=1)
def call(value):
    return look.delay()

if __name__ == "__main__":
    app.worker(concurrency=1)
"""


@pytest.fixture
def signed(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> Workshop:
    """A workshop whose programs have a key."""
    (workshop.folder / "vault.py").write_text(VAULT)
    workshop.environment["GIGQ_SECRET_KEY"] = KEY
    monkeypatch.setenv("GIGQ_SECRET_KEY", KEY)
    return workshop


def load(workshop: Workshop) -> Any:
    (workshop.folder / "vault.py").write_text(VAULT)
    try:
        return workshop.load("vault")
    finally:
        sys.modules.pop("vault", None)


def knows(pid: int) -> bool:
    return any(KEY.encode() in Path(f"/proc/{pid}/{file}").read_bytes() for file in ("environ", "cmdline"))


def test_only_the_supervisor_shows_the_key_and_only_where_it_was_given_it(signed: Workshop) -> None:
    vault = load(signed)
    worker = signed.work("vault:app", concurrency=1)
    child, forker, at_import, later, printed = vault.look.delay().get(20)
    assert at_import == KEY  # the app can take it from its environment
    assert later is None
    assert KEY not in printed
    assert [knows(pid) for pid in (worker.pid, forker, child)] == [True, False, False]
    assert KEY not in worker.log


def test_a_key_in_a_file_shows_in_no_process(signed: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    file = signed.folder / "key"
    file.write_text(KEY)
    file.chmod(0o600)
    for environment in (signed.environment, None):
        if environment is None:
            monkeypatch.delenv("GIGQ_SECRET_KEY")
            monkeypatch.setenv("GIGQ_SECRET_KEY_FILE", str(file))
        else:
            del environment["GIGQ_SECRET_KEY"]
            environment["GIGQ_SECRET_KEY_FILE"] = str(file)
    vault = load(signed)
    worker = signed.work("vault:app", concurrency=1)
    child, forker, *_ = vault.look.delay().get(20)
    assert [knows(pid) for pid in (worker.pid, forker, child)] == [False, False, False]


def test_children_sign_big_results_and_read_big_arguments_and_outputs(signed: Workshop) -> None:
    vault = load(signed)
    first = vault.big.delay(b"x" * 100_000)
    second = vault.big.delay(first.output)
    signed.work("vault:app", concurrency=2)
    assert second.get(20) == b"x" * 400_000
    inner = first.then(vault.call).get(20)
    assert inner.get(20)[3] is None


def test_a_forged_row_never_runs_and_the_worker_goes_on(signed: Workshop) -> None:
    vault = load(signed)
    worker = signed.work("vault:app", concurrency=1)
    forger = JobQueue(signed.path, secret_key="a key that somebody else has made up")
    forged = forger.submit(Job("forged", Path.touch, args=[signed.folder / "mark"]))
    assert forged.wait(20) is JobState.FAILED
    assert "a key that this program does not have" in str(forged.error)
    assert vault.big.delay(b"x").get(20) == b"xx"
    assert not (signed.folder / "mark").exists()
    assert worker.poll() is None
    forger.close()


def test_a_task_that_is_called_like_a_function_of_the_system_is_looked_up_and_never_imported(
    workshop: Workshop,
) -> None:
    mark = workshop.folder / "mark"
    job = workshop.queue.submit(Job("touch", print, args=[f"touch {mark}"]))
    after = workshop.queue.submit(Job("after", print))
    with closing(sqlite3.connect(workshop.path, isolation_level=None)) as db:
        db.execute("UPDATE jobs SET task = 'os:system' WHERE id = ?", (job.id,))
    workshop.work("shop:app")
    assert after.wait(20) is JobState.COMPLETED
    assert job.state is JobState.PENDING
    assert not mark.exists()


@pytest.mark.parametrize("pool", ["process", "thread", "inline"])
def test_a_worker_without_an_app_takes_the_key_of_its_queue(workshop: Workshop, pool: Any) -> None:
    queue = JobQueue(workshop.path, secret_key=KEY)
    jobs = [queue.submit(Job("adds", sum, args=[[1, number]])) for number in range(3)]
    with Worker(queue, pool=pool, concurrency=1):
        assert [job.get(20) for job in jobs] == [1, 2, 3]
    job = queue.submit(Job("adds", sum, args=[[1, 2]]))
    with Worker(str(workshop.path), pool=pool, concurrency=1, secret_key=[b"n" * 32, KEY]):
        until(lambda: job.state.is_terminal)
    with pytest.raises(SignatureError, match="a key that this program does not have"):
        job.get(0)
    newer = JobQueue(workshop.path, secret_key=[KEY, b"n" * 32])
    assert newer.get(job.id).get(0) == 3
    newer.close()
    queue.close()


def test_a_script_that_is_its_own_worker_keeps_the_key(signed: Workshop) -> None:
    vault = load(signed)
    worker = signed.start("vault.py")
    child, forker, _, later, printed = vault.look.delay().get(20)
    assert later is None
    assert KEY not in printed
    assert len({worker.pid, child, forker}) == 3
    worker.terminate()
    assert worker.wait(20) == 0


def test_the_worker_process_keeps_the_key_when_its_forker_is_replaced(signed: Workshop) -> None:
    import os
    import signal

    vault = load(signed)
    signed.work("vault:app", concurrency=1)
    _, forker, *_ = vault.look.delay().get(20)
    os.kill(forker, signal.SIGKILL)
    # The worker may hand it to a child that is dead already, before it knows.
    _, other, at_import, *_ = vault.look.options(max_attempts=3).delay().get(20)
    assert (other != forker, at_import) == (True, KEY)


def test_a_worker_of_a_path_takes_the_key_of_the_environment(signed: Workshop) -> None:
    queue = JobQueue(signed.path)
    assert queue.signer is not None
    signed.work(str(signed.path), concurrency=1)
    assert queue.submit(Job("adds", sum, args=[[1, 2]])).get(20) == 3
    queue.close()


def test_a_bad_key_is_one_clear_line(workshop: Workshop) -> None:
    workshop.environment["GIGQ_SECRET_KEY"] = "too short"
    workshop.queue.stats()
    worker = workshop.start("-m", "gigq", "worker", "shop:app", "--burst")
    assert worker.wait(20) == 2
    assert worker.log.count("\n") == 1
    assert "must have at least 32 bytes, got 3" in worker.log
    assert "too short" not in worker.log


def test_a_shared_database_is_shared_by_the_children_too(workshop: Workshop) -> None:
    url = f"{workshop.queue.url}?shared=yes"
    workshop.queue.stats()
    workshop.path.chmod(0o666)
    workshop.environment["GIGQ_URL"] = url
    queue = JobQueue(url)
    big = queue.submit(Job("big", len, args=["x" * 100_000]))  # a child reads it from the database by itself
    worker = workshop.start("-m", "gigq", "worker", "shop:app", "-c", "1")
    assert big.get(20) == 100_000
    assert worker.poll() is None
    queue.close()
    workshop.path.chmod(0o600)
