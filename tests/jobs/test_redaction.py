"""Secrets do not stay in what is kept of failures, and arguments need not be kept at all."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gigq import App, ConfigurationError, Job, JobFailed
from gigq.payload import MESSAGE_CHARS, TRACEBACK_CHARS, Failure
from gigq.redaction import HIDDEN, names_a_secret, without_secrets
from gigq.summary import summarise


@pytest.mark.parametrize(
    "name",
    ["password", "db_passwd", "passcode", "pwd", "access_token", "client_secret", "key", "signing_key", "X-Api-Key",
     "private_key", "aws_credentials", "Authorization", "proxy-authorization", "authorisation", "auth", "basic_auth",
     "cookie", "Set-Cookie", "session_id"],
)  # fmt: skip
def test_these_names_are_names_of_secrets(name: str) -> None:
    assert names_a_secret(name)


@pytest.mark.parametrize("name", ["keyword", "monkey", "keys", "author", "authority", "user", "path", "compass"])
def test_these_names_are_not(name: str) -> None:
    assert not names_a_secret(name)


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("connect(user='ann', password='hunter2') failed", f"connect(user='ann', password={HIDDEN}) failed"),
        ("connect(password=b'hunter2')", f"connect(password={HIDDEN})"),
        ("bad payload {'user': 'ann', 'api_key': \"hunter2\"}", f"bad payload {{'user': 'ann', 'api_key': {HIDDEN}}}"),
        ('{"token": "hunter2", "n": 1}', f'{{"token": {HIDDEN}, "n": 1}}'),
        ("[('X-Api-Key', 'hunter2')]", f"[('X-Api-Key', {HIDDEN})]"),
        ("Login(user='ann', password='hun\\'ter2')", f"Login(user='ann', password={HIDDEN})"),
        ("host=db password=hunter2 port=5432", f"host=db password={HIDDEN} port=5432"),
        ("GET /x?token=hunter2&page=2", f"GET /x?token={HIDDEN}&page=2"),
        ("postgresql://ann:hunter2@db/jobs is gone", f"postgresql://ann:{HIDDEN}@db/jobs is gone"),
        ("redis://:hunter2@db", f"redis://:{HIDDEN}@db"),
        ("got Authorization: Bearer hunter2.hunter2", f"got Authorization: {HIDDEN}"),
        ("{'Authorization': 'Bearer hunter2'}", f"{{'Authorization': {HIDDEN}}}"),
        ("Cookie: sid=hunter2; other=hunter2\nnext", f"Cookie: {HIDDEN}\nnext"),
        ("password='hunter2", f"password={HIDDEN}"),  # cut
    ],
)
def test_a_value_that_is_named_like_a_secret_is_hidden(text: str, kept: str) -> None:
    assert without_secrets(text) == kept


@pytest.mark.parametrize(
    "text",
    [
        "for key, value in items:",
        "rows.sort(key=len)",
        "if key == other and token:",
        "def login(user, password):",
        "http://localhost:8080/a@b",
        "KeyError: 'name'",
        "x = tokens[0]",
    ],
)
def test_lines_of_code_stay_readable(text: str) -> None:
    assert without_secrets(text) == text


@settings(max_examples=50)
@given(st.text(alphabet="ab-'\"=:, \\\n•keypassword", max_size=300))
def test_texts_without_values_and_any_others_are_handled(text: str) -> None:
    hidden = without_secrets(text)
    assert HIDDEN in hidden or hidden == text
    assert hidden.count("\n") == text.count("\n")


@pytest.mark.slow
def test_a_long_text_takes_no_time() -> None:
    """Each of these would take minutes with a pattern that tries all ways to match."""
    for text in ("a-" * 50_000, "password=" * 20_000, "'" * 100_000, "x://" * 30_000, "\\" * 100_000, "a:" * 50_000):
        without_secrets(text)


def test_failures_are_kept_without_secrets() -> None:
    def login(password: str) -> None:
        raise ValueError(f"cannot log in with password='{password}' at ftp://ann:{password}@host")

    try:
        login("hunter2")
    except ValueError as error:
        error.add_note("sent token: 'hunter2'")
        failure = Failure.of(error)
    assert "hunter2" not in failure.message
    assert "hunter2" not in failure.traceback.replace('login("hunter2")', "")  # our own line of code
    assert "cannot log in with password=" in failure.traceback


def test_a_secret_at_the_cut_does_not_show() -> None:
    for margin in range(40):
        message = "x" * (MESSAGE_CHARS - margin) + " password='hunter2-hunter2'"
        failure = Failure.of(ValueError(message))
        assert "hunter" not in failure.message
        assert len(failure.message) <= MESSAGE_CHARS
        tail = "y" * (TRACEBACK_CHARS - margin)
        failure = Failure.of(ValueError(f"password='hunter2-hunter2' {tail}"))
        assert "hunter" not in failure.traceback
        assert len(failure.traceback) <= TRACEBACK_CHARS


def test_urls_in_arguments_are_shown_without_their_password() -> None:
    short, long = "ftp://ann:hunter2@host", "postgresql://ann:hunter2hunter2hunter2hunter2hunter2hunter2hunter2@host/db"
    text = summarise((short, long, [short], {"url": short}), {"url": short})
    assert "hunter" not in text
    assert text.count(HIDDEN) == 5


# -- arguments that do not fit


class Store:
    def __init__(self, path: Path) -> None:
        self.app = App(path / "jobs.db", name="store")

    def fail(self, job: Job[None]) -> tuple[str, str]:
        self.app.worker(pool="inline", burst=True)
        with pytest.raises(JobFailed) as caught:
            job.get(0)
        return caught.value.message, str(job.error)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


def test_arguments_that_do_not_fit_are_named_without_secrets(store: Store) -> None:
    def login(user: str, password: str = "default-hunter2") -> None: ...

    call = Job("login", login, args=["ann", "hunter2"], params={"token": "hunter2"}, max_attempts=1)
    job = store.app.queue.submit(call)
    message, line = store.fail(job)
    assert "hunter2" not in message + line
    assert "got ('ann', •••, token=•••)" in message
    assert "= •••)" in message
    task = store.app.task(login)
    with pytest.raises(TypeError, match="cannot be called like this") as caught:
        task.delay()  # type: ignore[call-arg]
    assert "hunter2" not in str(caught.value)


def test_with_capture_off_no_argument_is_kept(store: Store) -> None:
    def look(name: str) -> None:
        raise ValueError("no")

    task = store.app.task(capture=False, name="look", max_attempts=1)(look)
    assert store.app.queue.storage.get(task.delay("confidential").id).summary == HIDDEN
    shown = store.app.task(name="shown")(look)
    assert store.app.queue.storage.get(shown.options(capture=False).delay("confidential").id).summary == HIDDEN
    assert "confidential" in store.app.queue.storage.get(shown.delay("confidential").id).summary
    by_default = App(store.app.url, name="other", capture=False)
    assert not by_default.task(look).capture
    with pytest.raises(ConfigurationError, match="capture must be True or False"):
        store.app.task(capture="no")(look)  # type: ignore[typeddict-item]


def test_with_capture_off_arguments_that_do_not_fit_are_not_named(store: Store) -> None:
    def look(name: str) -> None: ...

    task = store.app.task(capture=False, name="look", max_attempts=1)(look)
    job = task.job("confidential")
    job._params["other"] = "confidential"
    store.app.submit(job)
    message, line = store.fail(job)
    assert "the arguments do not fit" in message
    assert "confidential" not in message + line
