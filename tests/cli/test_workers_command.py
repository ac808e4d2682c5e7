"""`gigq workers`: who is there and what each one does."""

from __future__ import annotations

import json
import time

from cli_runner import Run

from gigq import JobQueue
from gigq.testing.clock import FakeClock
from gigq.testing.harness import Harness, worker_row


def test_a_worker_is_listed_with_what_it_holds(queue: JobQueue, run: Run) -> None:
    harness = Harness(queue.storage, FakeClock())
    ids = [harness.submit("encode"), harness.submit("encode"), harness.submit("mail \x1b[2J")]
    assert len(harness.claim(limit=3)) == 3
    harness.register("w2")
    header, busy, idle = run("workers").output.splitlines()
    assert header.split() == [
        "name",
        "pid",
        "pool",
        "slots",
        "queues",
        "doing",
        "last",
        "beat",
        "started",
        "host",
        "id",
    ]
    assert "encode (2), mail \\x1b[2J" in busy
    assert " nothing " in idle
    first, second = json.loads(run("workers", "--json").output)
    assert [job["id"] for job in first["jobs"]] == ids
    assert second["jobs"] == []


def test_the_last_beat_is_an_age_and_json_has_the_instant(queue: JobQueue, run: Run) -> None:
    beat_at = time.time() - 300
    queue.storage.register(worker_row("w1", beat_at))
    assert "5 min ago" in run("workers").output
    assert json.loads(run("workers", "--json").output)[0]["beat_at"] == beat_at
