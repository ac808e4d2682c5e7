"""`gigq worker`."""

from __future__ import annotations

import os
import sys
from typing import Any, Final

import click

from gigq.cli.log_format import LogFormat, start_logging
from gigq.errors import GigQError
from gigq.plain import plain

_POOLS: Final = ("process", "async", "thread", "inline")  # as gigq.worker.pool_choice, which --help need not import


@click.command(short_help="Run jobs until stopped.")
@click.argument("target", required=False)
@click.option(
    "-c",
    "--concurrency",
    type=click.IntRange(min=1),
    help="Jobs that run at once; default: usable CPUs; with --pool async 100 for each child.",
)
@click.option("-Q", "--queues", metavar="A,B", help="Queues to serve; default: all.")
@click.option("-P", "--pool", type=click.Choice(_POOLS), default="process", show_default=True)
@click.option("--children", type=click.IntRange(min=1), help="Processes of the async pool; default: usable CPUs.")
@click.option("-n", "--name", help="A name for people; default: host and process id.")
@click.option("-l", "--log-level", type=click.Choice(["debug", "info", "warning", "error"]), default="info")
@click.option("--log-format", type=click.Choice(["text", "json"]), default="text", show_default=True)
@click.option("--drain", type=float, default=25.0, show_default=True, help="Seconds to finish after TERM or INT.")
@click.option(
    "--result-limit",
    "result_limit_bytes",
    type=click.IntRange(min=1),
    metavar="BYTES",
    default=64 * 1024**2,
    show_default=True,
    help="Of a pickled result; a bigger one is a failure.",
)
@click.option("--burst", is_flag=True, help="Stop when nothing is left to do.")
@click.option(
    "--max-jobs-per-child", type=click.IntRange(min=1), metavar="N", help="Replace a child after so many jobs."
)
@click.option(
    "--max-memory-per-child", metavar="SIZE", help="Replace a child that holds more after a job, such as 200M."
)
@click.option("--soft-timeouts", is_flag=True, help="Let threads run tasks with a timeout, noted only afterwards.")
def worker(
    target: str | None, queues: str | None, log_level: str, log_format: LogFormat, **options: Any
) -> None:  # fmt: skip
    """Run jobs of TARGET: module:app, or a database's path or URL (then only jobs sent by value); else $GIGQ_URL."""
    from gigq.worker import Worker
    from gigq.worker.source import Preparation

    if target is None and not os.environ.get("GIGQ_URL"):
        raise click.UsageError("expected a target such as myapp:app or jobs.db, or $GIGQ_URL; got neither")
    try:
        made = Worker(target, queues=None if queues is None else queues.split(","), **options)
        start_logging(made.name, log_level, log_format)
        made.preparation = Preparation("gigq.cli.log_format", "start_child_logging", (made.name, log_level, log_format))
        made.run()
    except GigQError as error:
        click.echo(f"gigq: {plain(error)}", err=True)
        sys.exit(2)
