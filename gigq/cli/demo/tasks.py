"""The demo's tasks."""

from __future__ import annotations

import time

from gigq.app import App
from gigq.context import current_job

app = App(name="demo")


@app.task
def download() -> list[int]:
    """Pretend to fetch some numbers."""
    time.sleep(0.2)
    return list(range(1, 11))


@app.task
def process(numbers: list[int]) -> dict[str, int]:
    """Sum them up."""
    return {"count": len(numbers), "sum": sum(numbers)}


@app.task
def report(totals: dict[str, int]) -> str:
    """Write a sentence about them."""
    return f"{totals['count']} numbers, {totals['sum']} in all"


@app.task(retry_delay=0.3, retry_jitter=0)
def notify(totals: dict[str, int]) -> str:
    """Fail once, to show a second attempt."""
    if current_job().attempt == 1:
        raise ConnectionError("the mail server is busy, as planned")
    return f"mailed: {totals['sum']}"


@app.task
def measure(seed: int) -> int:
    """Keep a processor busy for a moment."""
    total = seed
    for number in range(200_000):
        total = (total * 31 + number) % 1_000_003
    return total


@app.task
def archive(text: str) -> str:
    """Put the report away."""
    return f"archived: {text}"
