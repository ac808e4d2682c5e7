"""The tasks. A worker imports this file, and so does every program that wants something done."""

from gigq import App

app = App("jobs.db")


@app.task(max_attempts=3, timeout=30)
def split(text: str) -> list[str]:
    return text.split()


@app.task
def longest(words: list[str]) -> str:
    return max(words, key=len)
