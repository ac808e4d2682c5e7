"""The same pipeline as tasks of an app: results go from job to job, and with them the order."""

import zipfile
from pathlib import Path

from gigq import App

app = App("with_app.db")


@app.task
def download() -> str:
    return "Oslo,9\nRome,7\nOslo,4\nLima,4\n"  # what a server would send


@app.task
def process(sales: str) -> dict[str, int]:
    totals: dict[str, int] = {}
    for line in sales.splitlines():
        city, amount = line.split(",")
        totals[city] = totals.get(city, 0) + int(amount)
    return totals


@app.task
def report(totals: dict[str, int]) -> str:
    best_first = sorted(totals.items(), key=lambda item: -item[1])
    return "".join(f"{city} {total}\n" for city, total in best_first)


@app.task
def notify(totals: dict[str, int]) -> str:
    return "".join(f"to {city}: your figures are in\n" for city in totals)


@app.task
def archive(path: str, contents: dict[str, str]) -> list[str]:
    with zipfile.ZipFile(path, "w") as file:
        for name, text in contents.items():
            file.writestr(name, text)
        return file.namelist()


def main() -> None:
    totals = download.job().then(process)
    text = totals.then(report)
    messages = totals.then(notify)
    path = str(Path("with_app.zip").absolute())
    # The outputs may stand anywhere in the arguments, also inside a dictionary.
    archived = archive.job(path, {"notifications.txt": messages.output, "report.txt": text.output})

    app.submit(archived)  # and with it all that it needs
    app.worker(concurrency=2, burst=True)

    print("archived:", ", ".join(archived.get(timeout=10)))
    print(text.get(timeout=10), end="")


if __name__ == "__main__":
    main()
