"""Signed payloads: whatever was changed, moved or not signed is refused before it is loaded."""

from __future__ import annotations

import logging
import os
import pickle
import sqlite3
from collections.abc import Callable
from contextlib import closing
from enum import StrEnum
from pathlib import Path
from typing import Any

import pytest

from gigq import App, ConfigurationError, Job, JobFailed, JobQueue, JobState, SignatureError, Worker, payload
from gigq.signing import MARK, Signer, make_signer
from gigq.testing.harness import new_job

KEY, OTHER_KEY = "k" * 32, b"\xffother key, not even text" + b"o" * 32


def signer(*keys: str | bytes) -> Signer:
    made = make_signer(list(keys) or KEY)
    assert made is not None
    return made


# -- the signature itself


def test_what_was_signed_comes_back() -> None:
    job, own = new_job(timeout=1.5, policy='{"delay": 1}'), signer()
    assert own.check_arguments(own.sign_arguments(b"data", job), job) == b"data"
    assert own.check_result(own.sign_result(b"", job.id, job.task), job.id, job.task) == b""


def test_every_flipped_bit_is_seen() -> None:
    job, own = new_job(), signer()
    signed = own.sign_arguments(b"some data", job)
    for at in range(len(signed)):
        for bit in range(8):
            changed = bytearray(signed)
            changed[at] ^= 1 << bit
            with pytest.raises(SignatureError):
                own.check_arguments(bytes(changed), job)
    for length in range(len(signed)):
        with pytest.raises(SignatureError):
            own.check_arguments(signed[:length], job)
    with pytest.raises(SignatureError):
        own.check_arguments(signed + b"\0", job)


@pytest.mark.parametrize(
    "change",
    [
        {"id": "another"},
        {"task": "os.system"},
        {"queue": "trusted"},
        {"timeout": None},
        {"timeout": 2.0},
        {"policy": '{"delay": 0}'},
        {"max_attempts": 1000},
    ],
    ids=str,
)
def test_arguments_hold_only_for_their_own_job_as_it_was_submitted(change: dict[str, Any]) -> None:
    job, own = new_job(timeout=1.0), signer()
    signed = own.sign_arguments(b"data", job)
    with pytest.raises(SignatureError, match="does not fit"):
        own.check_arguments(signed, job._replace(**change))


def test_arguments_are_no_result_and_a_result_belongs_to_one_job() -> None:
    job, own = new_job(), signer()
    with pytest.raises(SignatureError, match="does not fit"):
        own.check_result(own.sign_arguments(b"data", job), job.id, job.task)
    with pytest.raises(SignatureError, match="does not fit"):
        own.check_arguments(own.sign_result(b"data", job.id, job.task), job)
    for job_id, task in (("another", job.task), (job.id, "another")):
        with pytest.raises(SignatureError, match="does not fit"):
            own.check_result(own.sign_result(b"data", job.id, job.task), job_id, task)


def test_what_belongs_to_the_place_cannot_be_shifted_into_the_data() -> None:
    own = signer()
    texts = ["", "a", "a'", "', 'a", "\0", "a\0b", "ä\u202e", "\\x00", "None"]
    places = [new_job(id="1", task=task, queue=queue) for task in texts for queue in texts]
    assert len({own.sign_arguments(b"", job) for job in places}) == len(places)


def test_values_of_enumerations_are_those_that_the_database_returns() -> None:
    class Lane(StrEnum):
        FAST = "fast"

    job, own = new_job(queue="fast"), signer()
    assert own.check_arguments(own.sign_arguments(b"data", job._replace(queue=Lane.FAST)), job) == b"data"


def test_the_first_key_signs_and_all_are_accepted() -> None:
    job, old, both, new = new_job(), signer(KEY), signer(OTHER_KEY, KEY), signer(OTHER_KEY)
    assert both.check_arguments(old.sign_arguments(b"old", job), job) == b"old"
    assert new.check_arguments(both.sign_arguments(b"new", job), job) == b"new"
    with pytest.raises(SignatureError, match="a key that this program does not have"):
        old.check_arguments(both.sign_arguments(b"new", job), job)


def test_no_pickle_begins_like_a_signed_payload() -> None:
    with pytest.raises(pickle.UnpicklingError, match="invalid load key"):
        pickle.loads(MARK + pickle.dumps(1))


# -- keys


def refusal(make: Callable[[], object]) -> str:
    with pytest.raises(ConfigurationError) as caught:
        make()
    assert "secret-part" not in repr(caught.value)
    assert caught.value.__cause__ is None
    return str(caught.value)


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("secret-part", "at least 32 bytes, got 11"),
        (b"secret-part" * 2, "at least 32 bytes, got 22"),
        ([KEY, "secret-part"], "at least 32 bytes"),
        ([], "not empty"),
        (7, "got int"),
        ([None], "got NoneType"),
    ],
)
def test_a_key_that_is_none_is_refused_without_showing_it(tmp_path: Path, key: Any, said: str) -> None:
    path = str(tmp_path / "a.db")
    for make in (lambda: App(path, secret_key=key), lambda: Worker(path, secret_key=key)):
        assert said in refusal(make)


def test_keys_come_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert App(tmp_path / "a.db").signer is None
    monkeypatch.setenv("GIGQ_SECRET_KEY", f"{'n' * 40}\n{KEY}")
    assert App(tmp_path / "a.db").signer == signer("n" * 40, KEY) != signer(KEY, "n" * 40)
    assert JobQueue(tmp_path / "a.db", secret_key=KEY).signer == signer()
    monkeypatch.setenv("GIGQ_SECRET_KEY", "short-secret-part")
    assert "$GIGQ_SECRET_KEY must have at least 32 bytes" in refusal(lambda: App(tmp_path / "a.db"))
    monkeypatch.setenv("GIGQ_SECRET_KEY", " ")
    assert "holds no key" in refusal(lambda: App(tmp_path / "a.db"))


def test_keys_come_from_a_file_that_nobody_else_can_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "key"
    file.write_text(KEY + "\n")
    file.chmod(0o600)
    monkeypatch.setenv("GIGQ_SECRET_KEY_FILE", str(file))
    assert JobQueue(tmp_path / "a.db").signer == signer()
    for mode in (0o640, 0o604, 0o620, 0o610):
        file.chmod(mode)
        assert f"can be used by others (mode {mode:04o})" in refusal(lambda: JobQueue(tmp_path / "a.db"))
    file.chmod(0o400)
    monkeypatch.setenv("GIGQ_SECRET_KEY", KEY)
    assert "got both" in refusal(lambda: App(tmp_path / "a.db"))
    monkeypatch.delenv("GIGQ_SECRET_KEY")
    file.unlink()
    assert "cannot be read" in refusal(lambda: App(tmp_path / "a.db"))


def test_a_key_shows_nowhere(tmp_path: Path) -> None:
    app = App(tmp_path / "a.db", secret_key=KEY)

    @app.task
    def add(a: int, b: int) -> int:
        return a + b

    shown = [repr(thing) for thing in (app, app.queue, app.signer, add, Worker(app))]
    pickled = [pickle.dumps(thing) for thing in (app, app.queue, add)]
    assert not any("kkkk" in text for text in shown)
    assert not any(b"kkkk" in data for data in pickled)
    with pytest.raises(TypeError, match="never pickled"):
        pickle.dumps(app.signer)
    assert not hasattr(app.signer, "__dict__")


# -- jobs


class Shop:
    """A database, a program that signs, and what an attacker does to the file."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.path = folder, folder / "jobs.db"
        self.app = App(self.path, name="shop", secret_key=KEY)
        self.add = self.app.task(name="shop.add", max_attempts=3)(add)
        self.drop = self.app.task(name="shop.drop", max_attempts=3)(drop)

    def work(self) -> None:
        self.app.worker(pool="inline", burst=True)

    def sql(self, statement: str, *values: object) -> Any:
        with closing(sqlite3.connect(self.path, isolation_level=None)) as db:
            return db.execute(statement, values).fetchall()

    @property
    def bomb(self) -> Bomb:
        return Bomb(self.folder / "mark")

    @property
    def has_exploded(self) -> bool:
        return (self.folder / "mark").exists()


def add(a: int, b: int = 1) -> int:
    return a + b


def drop(value: object) -> None:
    return None


class Bomb:
    """Whose unpickling leaves a mark."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shop:
    logging.getLogger("gigq.worker").addHandler(logging.NullHandler())
    return Shop(tmp_path)


def assert_refused(job: Job[Any], said: str) -> None:
    """It failed with that reason, and was not tried again."""
    assert job.state is JobState.FAILED
    with pytest.raises(JobFailed) as caught:
        job.get(0)
    assert caught.value.type == "SignatureError"
    assert said in caught.value.message
    assert len(job.executions) == 1


def test_signed_jobs_run_and_their_results_are_read(shop: Shop) -> None:
    first = shop.add.delay(1, b=2)
    second = first.then(shop.add, 10)
    nothing = second.then(shop.drop)
    by_value = shop.app.queue.submit(Job("lambda", lambda values: sum(values), args=[[first.output, second.output]]))
    after_nothing = nothing.then(lambda value: value is None)
    shop.work()
    assert (first.get(0), second.get(0), nothing.get(0), by_value.get(0)) == (3, 13, None, 16)
    assert after_nothing.get(0) is True
    stored = shop.app.get(first.id)
    assert (stored.function, stored.args, stored.params) == (shop.add, (1,), {"b": 2})
    payloads = [data for (data,) in shop.sql("SELECT data FROM job_arguments UNION ALL SELECT data FROM job_results")]
    assert len(payloads) == 10
    assert all(data.startswith(MARK) for data in payloads)


def test_unsigned_arguments_are_never_loaded(shop: Shop) -> None:
    with_mark = JobQueue(shop.path)
    assert with_mark.signer is None
    job = with_mark.submit(Job("bomb", print, args=[shop.bomb]))
    shop.work()
    assert_refused(job, "must be signed, and is not")
    with pytest.raises(SignatureError):
        shop.app.get(job.id).args
    assert not shop.has_exploded


def test_arguments_of_another_job_are_never_loaded(shop: Shop) -> None:
    good, target = shop.drop.options(delay=3600).delay(shop.bomb), shop.drop.delay(1)
    shop.sql("UPDATE job_arguments SET data = (SELECT data FROM job_arguments ORDER BY job LIMIT 1)")
    shop.work()
    assert_refused(target, "does not fit the arguments")
    assert not shop.has_exploded
    assert good.state is JobState.PENDING


@pytest.mark.parametrize(
    "change", ["task = 'shop.drop'", "task = '(by value)'", "timeout = 99.0", "policy = '{}'", "queue = 'vip'"]
)
def test_a_row_that_was_changed_does_not_run(shop: Shop, change: str) -> None:
    job = shop.add.delay(1)
    shop.sql(f"UPDATE jobs SET {change}")
    shop.app.worker(pool="inline", burst=True, soft_timeouts=True)
    assert_refused(job, "does not fit the arguments")


def test_the_result_of_another_job_is_never_loaded(shop: Shop) -> None:
    first, second = shop.add.delay(1), shop.app.queue.submit(Job("bomb", Bomb, args=[shop.folder / "mark"]))
    reader = second.then(shop.drop)
    shop.app.worker(pool="inline", burst=True)
    assert shop.has_exploded  # reader was given what it is: the bomb is signed
    os.rmdir(shop.folder / "mark")
    shop.sql("UPDATE job_results SET data = (SELECT data FROM job_results WHERE job = 2) WHERE job = 1")
    with pytest.raises(SignatureError, match="does not fit the result"):
        first.get(0)
    child = first.then(shop.drop)
    shop.work()
    assert_refused(child, f"does not fit the result of job {first.id}")
    assert not shop.has_exploded
    assert reader.state is not JobState.PENDING


@pytest.mark.parametrize("forgery", [b"", pickle.dumps("forged"), None], ids=["empty", "unsigned", "deleted"])
def test_a_forged_or_deleted_result_is_refused(shop: Shop, forgery: bytes | None) -> None:
    first = shop.add.delay(1)
    shop.work()
    if forgery is None:
        shop.sql("DELETE FROM job_results")
    else:
        shop.sql("UPDATE job_results SET data = ?", forgery)
    with pytest.raises(SignatureError, match="must be signed"):
        first.get(0)
    child = first.then(shop.drop)
    shop.work()
    assert_refused(child, "must be signed")


def test_without_the_key_a_signed_payload_says_what_is_missing(shop: Shop) -> None:
    job = shop.add.delay(1)
    done = shop.add.options(queue="first").delay(1)
    shop.app.worker(pool="inline", burst=True, queues=["first"])
    ignorant = App(shop.path, name="ignorant")
    task = ignorant.task(name="shop.add", max_attempts=3)(add)
    with pytest.raises(SignatureError, match="has no secret key"):
        ignorant.get(done.id).get(0)
    with pytest.raises(SignatureError, match="has no secret key"):
        ignorant.get(job.id).args
    ignorant.worker(pool="inline", burst=True)
    assert_refused(job, "has no secret key")
    assert task.name == "shop.add"


def test_a_job_that_travels_is_read_with_the_key_of_who_loads_it(shop: Shop) -> None:
    done = shop.add.delay(1)

    def submit(url: str) -> Job[int]:
        queue = JobQueue(url)
        inner = queue.submit(Job("inner", len, args=["abc"]))
        queue.close()
        return inner

    def read(job: Job[int]) -> int:
        return job.get(0, within_task=True)

    reader = shop.app.queue.submit(Job("reads", read, args=[done], dependencies=[done]))
    made_inside = shop.app.queue.submit(Job("submits", submit, args=[shop.app.url]))
    shop.work()
    assert reader.get(0) == 2
    shop.work()
    assert made_inside.get(0).get(0) == 3


def test_without_a_key_nothing_is_signed(tmp_path: Path) -> None:
    app = App(tmp_path / "jobs.db", name="plain")
    task = app.task(name="plain.drop")(drop)
    job = task.delay(1)
    app.worker(pool="inline", burst=True)
    assert job.get(0) is None
    with closing(sqlite3.connect(tmp_path / "jobs.db")) as db:
        assert db.execute("SELECT data FROM job_arguments").fetchall() == [(payload.dumps(((1,), {})).data,)]
        assert db.execute("SELECT count(*) FROM job_results").fetchone() == (0,)
