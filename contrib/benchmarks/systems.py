"""The systems under test: what is installed for each, how its worker is started, and with which settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

PROCESSES = 2  # of each worker
REDIS = "{redis}"  # stands for the URL of the benchmark's Redis in a worker's arguments

_GIGQ_WORKER = ("-m", "gigq", "worker", "gigq_side:app", "-c", str(PROCESSES), "--log-level", "warning")
_HUEY_WORKER = (
    *("-m", "huey.bin.huey_consumer", "huey_side.huey", "-k", "process", "-w", str(PROCESSES)),
    *("-d", "0.001", "-m", "0.01", "-n", "-q"),
)
_POTATOQ_WORKER = ("-m", "potatoq", "-A", "potatoq_side", "worker", "-c", str(PROCESSES), "-l", "WARNING")
_RQ_WORKER = ("-m", "rq.cli", "worker-pool", "bench", "-n", str(PROCESSES), "-q", "-u", REDIS)

_REDIS_CLIENT = ("redis[hiredis]==8.1.0",)
_POTATOQ = ("potatoq==26.1a8",)
_HUEY = ("huey==3.5.4", *_REDIS_CLIENT)
_RQ = ("rq==3.0.0", *_REDIS_CLIENT)


@dataclass(frozen=True, slots=True)
class System:
    """One row of the table."""

    name: str
    title: str
    store: str  # sqlite or redis
    settings: str  # for the README's readers: what differs from its defaults, and what a commit survives
    side: str  # a module of sides/
    worker: tuple[str, ...]  # what follows `python`
    requirements: tuple[str, ...] = ()  # () for gigq: it is the one that this Python imports
    environment: Mapping[str, str] = field(default_factory=dict)
    share: float = 1.0  # of the jobs, see Scale.shared
    bulk: float = 1.0

    @property
    def is_peer(self) -> bool:
        return bool(self.requirements)


SYSTEMS = (
    System(
        "gigq-power",
        "gigq (power)",
        "sqlite",
        "the defaults: a commit survives a power cut (synchronous=FULL)",
        "gigq_side",
        _GIGQ_WORKER,
        environment={"BENCH_DURABILITY": "power"},
        bulk=5,
    ),
    System(
        "gigq-process",
        "gigq (process)",
        "sqlite",
        'durability="process": a commit survives the death of every process (synchronous=NORMAL)',
        "gigq_side",
        _GIGQ_WORKER,
        environment={"BENCH_DURABILITY": "process"},
        bulk=5,
    ),
    System(
        "huey-fsync",
        "huey, SQLite (fsync)",
        "sqlite",
        "SqliteHuey(fsync=True): a commit survives a power cut (synchronous=FULL)",
        "huey_side",
        _HUEY_WORKER,
        _HUEY,
        {"BENCH_STORE": "sqlite", "BENCH_FSYNC": "1"},
    ),
    System(
        "huey-nofsync",
        "huey, SQLite (no fsync)",
        "sqlite",
        "SqliteHuey(fsync=False), its fastest: a power cut may lose commits or damage the file (synchronous=OFF)",
        "huey_side",
        _HUEY_WORKER,
        _HUEY,
        {"BENCH_STORE": "sqlite", "BENCH_FSYNC": ""},
    ),
    System(
        "potatoq",
        "potatoq, SQLite",
        "sqlite",
        "the default: a commit survives the death of every process (synchronous=NORMAL); children are not replaced",
        "potatoq_side",
        _POTATOQ_WORKER,
        _POTATOQ,
        {"BENCH_DURABLE": ""},
    ),
    System(
        "potatoq-durable",
        "potatoq, SQLite (durable)",
        "sqlite",
        "durable=True: a commit survives a power cut (synchronous=FULL); children are not replaced",
        "potatoq_side",
        _POTATOQ_WORKER,
        _POTATOQ,
        {"BENCH_DURABLE": "1"},
    ),
    System(
        "huey-redis",
        "huey, Redis",
        "redis",
        "RedisHuey, blocking reads",
        "huey_side",
        _HUEY_WORKER,
        _HUEY,
        {"BENCH_STORE": "redis"},
    ),
    System(
        "celery",
        "celery, Redis",
        "redis",
        "prefork, prefetch 64 for each process, results on, no gossip, mingle or heartbeat",
        "celery_side",
        (
            *("-m", "celery", "-A", "celery_side", "worker", "-c", str(PROCESSES), "-P", "prefork", "-l", "WARNING"),
            *("--without-gossip", "--without-mingle", "--without-heartbeat"),
        ),
        ("celery[redis]==5.7.0", *_REDIS_CLIENT),
        share=0.3,
        bulk=0.3,
    ),
    System(
        "dramatiq",
        "dramatiq, Redis",
        "redis",
        "2 processes of 8 threads (its default), results on",
        "dramatiq_side",
        ("-m", "dramatiq", "dramatiq_side:broker", "-p", str(PROCESSES), "-t", "8"),
        ("dramatiq[redis]==2.2.1", *_REDIS_CLIENT),
        share=0.6,
        bulk=0.6,
    ),
    System(
        "taskiq",
        "taskiq, Redis",
        "redis",
        "ListQueueBroker, 2 processes, async tasks, uvloop, results on, no parsing of arguments",
        "taskiq_side",
        (
            *("-m", "taskiq", "worker", "taskiq_side:broker", "-w", str(PROCESSES), "--no-parse"),
            *("--max-prefetch", "100", "--log-level", "WARNING"),
        ),
        ("taskiq[uv]==0.13.0", "taskiq-redis==1.2.4", *_REDIS_CLIENT),
        share=0.6,
        bulk=0.6,
    ),
    System(
        "rq",
        "rq, Redis",
        "redis",
        "worker-pool of 2, the default worker, which forks for each job",
        "rq_side",
        _RQ_WORKER,
        _RQ,
        share=0.03,
        bulk=0.03,
    ),
    System(
        "rq-simple",
        "rq, Redis (SimpleWorker)",
        "redis",
        "worker-pool of 2 SimpleWorkers, which run jobs in their own process",
        "rq_side",
        (*_RQ_WORKER, "-w", "rq.worker.SimpleWorker"),
        _RQ,
        share=0.1,
        bulk=0.1,
    ),
)


def named(names: list[str]) -> list[System]:
    """Return systems by their names, in the order of the table."""
    return [system for system in SYSTEMS if system.name in names]
