"""The command line: `gigq` and `python -m gigq`."""

from __future__ import annotations

import os

import click

import gigq
from gigq.cli.backup import backup
from gigq.cli.demo import demo
from gigq.cli.doctor import doctor
from gigq.cli.jobs import jobs
from gigq.cli.overview import prune, stats, why
from gigq.cli.worker import worker
from gigq.cli.workers import workers
from gigq.plain import plain


class _Commands(click.Group):
    """Commands whose arguments are text: the database stores nothing else."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        for argument in (*args, os.environ.get("GIGQ_URL", "")):
            if not _is_unicode(argument):
                raise click.UsageError(f"expected text in UTF-8, got {plain(argument)}")
        return super().parse_args(ctx, args)


def _is_unicode(text: str) -> bool:
    """Return whether the system's bytes were text; Python keeps those that were not as surrogates."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(gigq.__version__, prog_name="gigq")
def main() -> None:
    """Run and look after gigq's jobs."""


for command in (worker, jobs, stats, workers, prune, why, doctor, backup, demo):
    main.add_command(command)
