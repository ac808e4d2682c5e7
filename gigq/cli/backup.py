"""`gigq backup`."""

from __future__ import annotations

from pathlib import Path

import click

from gigq.cli.database import existing_file, url_of
from gigq.errors import GigQError
from gigq.plain import plain


@click.command(short_help="Copy a database that is in use into a new file.")
@click.argument("database", metavar="DATABASE")
@click.argument("target", type=click.Path(path_type=Path))
def backup(database: str, target: Path) -> None:
    """Copy DATABASE (path, URL or module:app) into the new file TARGET, while programs go on using it."""
    from gigq.storage.sqlite.backup import back_up

    try:
        copied = back_up(existing_file(url_of(database)), target.absolute())
    except (GigQError, OSError) as error:
        raise click.ClickException(plain(error)) from error
    jobs = "1 job" if copied.jobs == 1 else f"{copied.jobs:,} jobs"
    click.echo(plain(f"{jobs}, {copied.size_bytes / 2**20:,.1f} MiB, copied to {target}"))
