"""Several workers and several submitters on one file."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing

from bench import Bench, Measure, MeasureError
from figures import Figure, Goal


def contention(bench: Bench) -> dict[str, float]:
    """Let 4 submitters call `.delay()` as fast as they can beside 4 workers of one child each."""
    contenders = bench.scale.contenders
    clients = [bench.client() for _ in range(contenders)]
    for _ in range(contenders):
        bench.worker(["-m", "gigq", "worker", "gigq_side:app", "-c", "1", "--log-level", "warning"])
    with closing(sqlite3.connect(bench.folder / "bench.db")) as db:
        while db.execute("SELECT count(*) FROM workers WHERE stopped_at IS NULL").fetchone()[0] < contenders:
            time.sleep(0.01)
    clients[0]("warm_up", bench.scale.warm_up_jobs)
    started = time.monotonic()
    for client in clients:
        client.ask("keep_sending", bench.scale.contention_seconds)
    answers = [client.answer() for client in clients]
    sent = [answer["count"] for answer in answers]
    ended = clients[0]("wait", bench.scale.warm_up_jobs + sum(sent))["ended"]
    with closing(sqlite3.connect(bench.folder / "bench.db")) as db:
        ran = [row[0] for row in db.execute("SELECT count(*) FROM job_executions GROUP BY worker")]
        (twice,) = db.execute("SELECT count(*) FROM job_executions WHERE claims > 1").fetchone()
    if twice:
        raise MeasureError(f"{twice} jobs ran more than once")
    return {
        "contention_wait": 1000 * max(answer["longest"] for answer in answers),
        "contention_submitters": min(sent) / max(sent),
        "contention_workers": min(ran) / max(ran) if len(ran) == contenders else 0,
        "contention_jobs": sum(sent) / (ended - started),
    }


MEASURES = (
    Measure(
        "contention",
        (
            Figure("contention_wait", "4 workers, 4 submitters: worst wait of a submitter", "ms", False, (Goal(250),)),
            Figure("contention_submitters", "Submitters: least served / most served", "", True, (Goal(0.5),)),
            Figure("contention_workers", "Workers: least jobs / most jobs", "", True),
            Figure("contention_jobs", "Jobs submitted and run", "jobs/s", True),
        ),
        contention,
        90,
    ),
)
