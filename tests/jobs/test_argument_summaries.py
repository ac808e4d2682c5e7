"""What listings show of arguments."""

from __future__ import annotations

import functools
from collections import OrderedDict
from typing import Any

import pytest

from gigq import App, Job
from gigq.redaction import HIDDEN, names_a_secret
from gigq.summary import SUMMARY_CHARS, positional_names, summarise


def login(user: str, password: str = "", *, api_key: str = "", retries: int = 0) -> None: ...


def test_arguments_look_like_the_call() -> None:
    assert summarise((1, "two", None), {"three": [4.5]}) == "1, 'two', None, three=[4.5]"
    assert summarise((), {}) == ""


@pytest.mark.parametrize(
    "name",
    ["password", "PASSWORD", "db_passwd", "passphrase", "token", "auth_token", "secret", "key", "api_key", "apikey"],
)
def test_arguments_named_like_secrets_are_hidden(name: str) -> None:
    assert summarise((), {name: "hunter2"}) == f"{name}={HIDDEN}"
    assert summarise(("hunter2",), {}, [name]) == HIDDEN


@pytest.mark.parametrize("name", ["keyword", "monkey", "keys", "user", "path"])
def test_other_arguments_are_shown(name: str) -> None:
    assert summarise((), {name: 1}) == f"{name}=1"


@pytest.mark.parametrize("by_value", [True, False])
def test_secrets_of_a_job_never_reach_its_row(app: App, by_value: bool) -> None:
    if by_value:
        job = Job(function=login, args=("ann", "hunter2"), params={"api_key": "hunter3"})
    else:
        job = app.task(login).job("ann", "hunter2", api_key="hunter3")
    app.submit(job)
    row = app.queue.storage.get(job.id)
    assert "hunter" not in str(row)
    assert row.summary == f"'ann', {HIDDEN}, api_key={HIDDEN}"


class Login:
    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ({"user": "ann", "password": "hunter2"}, f"{{'user': 'ann', 'password': {HIDDEN}}}"),
        ([{"deep": {"api_key": "hunter2"}}], f"[{{'deep': {{'api_key': {HIDDEN}}}}}]"),
        (OrderedDict(token="hunter2"), f"{{'token': {HIDDEN}}}"),
        (Login("Login(user='ann', password='hun\\'ter2')"), f"Login(user='ann', password={HIDDEN})"),
        (Login("Login(password=hunter2, user='ann')"), f"Login(password={HIDDEN}, user='ann')"),
        (Login("<Login 'token': \"hunter2\">"), f"<Login 'token': {HIDDEN}>"),
        (Login("Login(passwords_seen=3)"), f"Login(passwords_seen={HIDDEN})"),
        ({1: 2, None: "monkey"}, "{1: 2, None: 'monkey'}"),
    ],
)
def test_secrets_inside_an_argument_are_hidden(value: Any, shown: str) -> None:
    assert summarise((value,), {}) == shown


def test_what_would_move_a_terminals_cursor_is_spelled_out() -> None:
    assert summarise((Login("a\x1b[2Jb\n\u202ec"),), {}) == "a\\x1b[2Jb\\n\\u202ec"


def test_an_output_is_shown_by_its_jobs_name() -> None:
    assert summarise((Job("fetch a page", print).output,), {}) == "<output of fetch a page>"


def test_long_arguments_are_cut() -> None:
    text = summarise(("x" * 10_000, list(range(10_000)), {"a": "b" * 500}), {})
    assert len(text) <= SUMMARY_CHARS
    assert "…" in text or "..." in text


@pytest.mark.parametrize("value", [b"a" * 200_000, bytearray(200_000), type("Html", (str,), {})("a" * 200_000)])
def test_the_cost_of_a_summary_does_not_grow_with_the_value(value: Any) -> None:
    # Each of these took minutes: the search for secrets began anew at every letter.
    assert len(summarise((value,), {})) <= SUMMARY_CHARS


def test_a_number_that_python_does_not_write_out_is_shown_by_its_size() -> None:
    assert summarise((10**5000,), {}) == "<int of 16610 bits>"


def test_a_value_that_cannot_be_shown_is_no_reason_to_refuse_the_job(app: App) -> None:
    class Hostile:
        def __repr__(self) -> str:
            raise RuntimeError

    value: Any = Hostile()
    assert "Hostile" in summarise((value,), {})


def test_names_of_parameters_are_known_for_partials_and_methods() -> None:
    class Shop:
        def login(self, user: str, password: str) -> None: ...

    assert positional_names(login) == ("user", "password")
    assert positional_names(functools.partial(login, "ann")) == ("password",)
    assert positional_names(Shop().login) == ("user", "password")
    assert positional_names(len) == ()


def test_a_long_text_as_a_key_is_shown_cut_and_remembered_nowhere() -> None:
    before = names_a_secret.cache_info().currsize
    assert summarise(({"x" * 10_000 + "password": 1},), {}).startswith("{'xxx")
    assert names_a_secret.cache_info().currsize == before
