"""Many threads and forked processes that share one app, and a real worker that counts what arrives."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from workshop import Workshop, attempts

from gigq import JobState

PRELOADING_SERVER = """
import os, sys, threading
from shop import add

add.delay(0).get(20)  # the connection is open, and stays so in what is forked now
is_ending = threading.Event()
submitted = []

def submit_for_ever():
    while not is_ending.is_set():
        submitted.append(add.delay(1, len(submitted)))

threads = [threading.Thread(target=submit_for_ever) for _ in range(3)]
for thread in threads:
    thread.start()
pids = []
for number in range(20):
    pid = os.fork()  # at any moment of the threads' transactions
    if pid == 0:
        jobs = [add.delay(2, number, call) for call in range(5)]
        assert [job.get(20) for job in jobs] == [2 + number + call for call in range(5)]
        os._exit(0)
    pids.append(pid)
statuses = [os.waitpid(pid, 0)[1] for pid in pids]
is_ending.set()
for thread in threads:
    thread.join()
assert statuses == [0] * 20, statuses
print(len(submitted))
"""


@pytest.mark.slow
def test_fault_23_forks_of_a_program_with_open_connections_submit_and_wait_like_others(workshop: Workshop) -> None:
    workshop.work(concurrency=2)
    (workshop.folder / "server.py").write_text(PRELOADING_SERVER)
    submitted = int(workshop.run("server.py"))
    assert submitted > 0
    stored = workshop.queue.list(limit=100_000)
    assert len(stored) == 1 + submitted + 20 * 5
    assert {job.wait(20) for job in stored} == {JobState.COMPLETED}
    assert {tuple(attempts(job)) for job in stored} == {(JobState.COMPLETED,)}
    assert len(workshop.lines("add", "1")) == submitted
    calls = sorted((int(number), int(call)) for _, _, number, call, _ in workshop.lines("add", "2"))
    assert calls == [(number, call) for number in range(20) for call in range(5)]


@pytest.mark.slow
def test_fault_49_32_threads_share_one_app_and_every_call_runs_once(workshop: Workshop) -> None:
    shop = workshop.load("shop")
    workshop.work(concurrency=2)
    begin = threading.Barrier(32)
    results: dict[int, list[int]] = {}

    def call(thread: int) -> None:
        begin.wait(10)
        jobs: list[Any] = [shop.add.delay(1000 * thread, number) for number in range(25)]
        results[thread] = [job.get(30) for job in jobs]

    threads = [threading.Thread(target=call, args=(number,)) for number in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(40)
    assert results == {thread: [1000 * thread + number for number in range(25)] for thread in range(32)}
    calls = sorted((int(thread) // 1000, int(number)) for _, thread, number, _ in workshop.lines("add"))
    assert calls == [(thread, number) for thread in range(32) for number in range(25)]
    assert workshop.queue.stats()[JobState.COMPLETED] == 800
