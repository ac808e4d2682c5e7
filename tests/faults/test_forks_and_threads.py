"""Many threads and forked processes that share one app, and a real worker that counts what arrives."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from workshop import Workshop, attempts, until

from gigq import JobState

pytestmark = pytest.mark.slow  # each starts a worker, or shares one with its neighbours

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
for number in range(12):
    pid = os.fork()  # at any moment of the threads' transactions
    if pid == 0:
        jobs = [add.delay(2, number, call) for call in range(5)]
        assert [job.get(60) for job in jobs] == [2 + number + call for call in range(5)]
        os._exit(0)
    pids.append(pid)
statuses = [os.waitpid(pid, 0)[1] for pid in pids]
is_ending.set()
for thread in threads:
    thread.join()
assert statuses == [0] * 12, statuses
print(len(submitted))
"""

ORPHAN = """
import os, time
from shop import add, app

add.delay(0)  # no worker runs: this process alone has the database open
if os.fork() == 0:
    parent = os.getppid()
    os.close(1)
    os.close(2)
    while os.getppid() == parent:  # till it has closed its connections and ended
        time.sleep(0.001)
    for call in range(12):
        add.delay(3, call)
    os._exit(0)
app.queue.close()  # the last connection: SQLite removes the WAL, in which a connection of the child's would write on
"""


def test_fault_23_forks_of_a_program_with_open_connections_submit_and_wait_like_others(workshop: Workshop) -> None:
    workshop.work(concurrency=2)
    (workshop.folder / "server.py").write_text(PRELOADING_SERVER)
    submitted = int(workshop.run("server.py"))
    assert submitted > 0
    stored = workshop.queue.list(limit=100_000)
    assert len(stored) == 1 + submitted + 12 * 5
    assert {job.wait(60) for job in stored} == {JobState.COMPLETED}
    assert {tuple(attempts(job)) for job in stored} == {(JobState.COMPLETED,)}
    assert len(workshop.lines("add", "1")) == submitted
    calls = sorted((int(number), int(call)) for _, _, number, call, _ in workshop.lines("add", "2"))
    assert calls == [(number, call) for number in range(12) for call in range(5)]


def test_fault_23_a_forked_process_submits_on_after_the_one_that_opened_the_database_has_ended(
    workshop: Workshop,
) -> None:
    (workshop.folder / "orphan.py").write_text(ORPHAN)
    workshop.run("orphan.py")
    until(lambda: not workshop.processes())
    workshop.work(concurrency=2)
    until(lambda: len(workshop.lines("add")) == 13)
    assert sorted(int(line[2]) for line in workshop.lines("add", "3")) == list(range(12))


def test_fault_49_32_threads_share_one_app_and_every_call_runs_once(workshop: Workshop) -> None:
    shop = workshop.load("shop")
    workshop.work(concurrency=2)
    begin = threading.Barrier(32)
    results: dict[int, list[int]] = {}

    def call(thread: int) -> None:
        begin.wait(10)
        jobs: list[Any] = [shop.add.delay(1000 * thread, number) for number in range(10)]
        results[thread] = [job.get(60) for job in jobs]

    threads = [threading.Thread(target=call, args=(number,)) for number in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert results == {thread: [1000 * thread + number for number in range(10)] for thread in range(32)}
    calls = sorted((int(thread) // 1000, int(number)) for _, thread, number, _ in workshop.lines("add"))
    assert calls == [(thread, number) for thread in range(32) for number in range(10)]
    assert workshop.queue.stats()[JobState.COMPLETED] == 320
