"""What type checkers must see of tasks and jobs. Checked by mypy and pyright, never run.

A line with `type: ignore` is a mistake that must be reported: an ignore that is not needed is an error itself.
"""

from __future__ import annotations

from typing import assert_type

from gigq import App, Job

app = App("typing.db")


@app.task
def parse(page: bytes, encoding: str = "utf-8") -> list[str]:
    return page.decode(encoding).splitlines()


@app.task(priority=5, timeout=30, max_attempts=3)
def fetch(url: str) -> bytes:
    return url.encode()


@app.task
async def store(rows: list[str], table: str = "rows") -> int:
    return len(rows) + len(table)


def count(rows: list[str]) -> int:
    return len(rows)


def a_call_returns_what_the_function_returns() -> None:
    assert_type(parse(b""), list[str])
    assert_type(fetch("url"), bytes)


async def a_call_of_an_async_function_is_awaited() -> None:
    assert_type(await store([]), int)


def delay_keeps_the_signature() -> None:
    assert_type(parse.delay(b"", encoding="ascii"), Job[list[str]])
    assert_type(fetch.delay("url"), Job[bytes])
    assert_type(store.delay([], table="t"), Job[int])
    assert_type(fetch.options(priority=9).delay("url"), Job[bytes])
    assert_type(parse.job(b""), Job[list[str]])


def delay_refuses_what_the_function_refuses() -> None:
    fetch.delay(1)  # type: ignore[arg-type]
    fetch.delay()  # type: ignore[call-arg]
    fetch.delay("url", retries=3)  # type: ignore[call-arg]
    store.delay([], table=None)  # type: ignore[arg-type]


def outputs_have_the_type_of_the_result() -> None:
    page = fetch.delay("url")
    assert_type(page.output, bytes)
    assert_type(parse.delay(page.output), Job[list[str]])
    store.delay(page.output)  # type: ignore[arg-type]


def then_gives_the_next_result() -> None:
    rows = fetch.delay("url").then(parse)
    assert_type(rows, Job[list[str]])
    assert_type(rows.then(store), Job[int])
    assert_type(rows.then(count), Job[int])


async def results_have_their_type() -> None:
    job = store.delay([])
    assert_type(job.get(timeout=10), int)
    assert_type(await job, int)
