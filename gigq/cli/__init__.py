"""The command line: `gigq` and `python -m gigq`."""

from __future__ import annotations

import click

import gigq
from gigq.cli.demo import demo
from gigq.cli.jobs import jobs
from gigq.cli.overview import prune, stats, why, workers
from gigq.cli.worker import worker


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(gigq.__version__, prog_name="gigq")
def main() -> None:
    """Run and look after gigq's jobs."""


for command in (worker, jobs, stats, workers, prune, why, demo):
    main.add_command(command)
