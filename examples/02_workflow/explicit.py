"""The pipeline, job by job: plain functions, a `Job` for each call, and a `Workflow` that knows the order."""

import json
import zipfile
from pathlib import Path

from gigq import Job, JobQueue, Worker, Workflow

SALES = "Oslo,9\nRome,7\nOslo,4\nLima,4\n"  # what a server would send


def download_data(folder: str) -> None:
    Path(folder, "sales.csv").write_text(SALES)


def process_data(folder: str) -> None:
    totals: dict[str, int] = {}
    for line in Path(folder, "sales.csv").read_text().splitlines():
        city, amount = line.split(",")
        totals[city] = totals.get(city, 0) + int(amount)
    Path(folder, "totals.json").write_text(json.dumps(totals))


def generate_report(folder: str) -> None:
    totals = json.loads(Path(folder, "totals.json").read_text())
    best_first = sorted(totals.items(), key=lambda item: -item[1])
    Path(folder, "report.txt").write_text("".join(f"{city} {total}\n" for city, total in best_first))


def send_notifications(folder: str) -> None:
    totals = json.loads(Path(folder, "totals.json").read_text())
    Path(folder, "notifications.txt").write_text("".join(f"to {city}: your figures are in\n" for city in totals))


def archive_results(folder: str) -> str:
    archive = Path(folder, "archive.zip")
    with zipfile.ZipFile(archive, "w") as file:
        for name in ("notifications.txt", "report.txt"):
            file.write(Path(folder, name), name)
    return str(archive)


def main() -> None:
    folder = Path("explicit_files").absolute()
    folder.mkdir(exist_ok=True)
    here = {"folder": str(folder)}

    download_job = Job(name="download", function=download_data, params=here)
    process_job = Job(name="process", function=process_data, params=here)
    report_job = Job(name="report", function=generate_report, params=here)
    notify_job = Job(name="notify", function=send_notifications, params=here)
    archive_job = Job(name="archive", function=archive_results, params=here)

    workflow = Workflow("sales")
    workflow.add_job(download_job)
    workflow.add_job(process_job, depends_on=[download_job])
    workflow.add_job(report_job, depends_on=[process_job])
    workflow.add_job(notify_job, depends_on=[process_job])
    workflow.add_job(archive_job, depends_on=[report_job, notify_job])

    queue = JobQueue("explicit.db")
    workflow.submit_all(queue)
    Worker(queue, concurrency=2, burst=True).run()

    with zipfile.ZipFile(archive_job.get(timeout=10)) as file:
        print("archived:", ", ".join(file.namelist()))
        print(file.read("report.txt").decode(), end="")


if __name__ == "__main__":
    main()
