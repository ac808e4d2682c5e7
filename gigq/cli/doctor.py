"""`gigq doctor`: what is wrong with a database and what it runs on, and what to do. Writes and unpickles nothing."""

from __future__ import annotations

import os
import platform
import sys
import time
from collections.abc import Iterator
from functools import partial
from typing import Final

import click

import gigq
from gigq.cli.database import ask_app, existing_file, is_app
from gigq.cli.tables import as_json, make_console, print_json, styled
from gigq.errors import GigQError
from gigq.plain import plain
from gigq.signing import make_signer
from gigq.storage.findings import Finding, Level, note, ok
from gigq.storage.urls import is_shared, resolve_url
from gigq.worker import identity

_STYLES: Final = {Level.OK: "green", Level.NOTE: "yellow", Level.PROBLEM: "bold red"}


@click.command()
@click.argument("target", metavar="[DATABASE|APP]", required=False)
@click.option("--full", is_flag=True, help="Also compare indexes and rows with each other: reads everything.")
@as_json
@click.pass_context
def doctor(ctx: click.Context, target: str | None, full: bool, as_json: bool) -> None:
    """Look for what is wrong with a database, and say what to do.

    The database is named by a path, a URL or its app (module:app); by default $GIGQ_URL does. Exits with 1 if there is
    a problem. Nothing is written or unpickled.
    """
    try:
        findings = list(_examine(target, full=full))
    except (GigQError, OSError) as error:
        raise click.ClickException(plain(error)) from error
    if as_json:
        print_json([finding._asdict() for finding in findings])
    else:
        _print(findings)
    ctx.exit(int(any(finding.level is Level.PROBLEM for finding in findings)))


def _examine(target: str | None, *, full: bool) -> Iterator[Finding]:
    from gigq.storage.sqlite import inspection

    durability = None
    if target is not None and is_app(target):
        target, durability = ask_app(target)
    elif target is None and not os.environ.get("GIGQ_URL"):
        raise click.UsageError("expected a database, module:app or $GIGQ_URL; got none of them")
    url = resolve_url(target)
    path = existing_file(url)
    yield ok("versions", f"gigq {gigq.__version__}, Python {platform.python_version()} on {sys.platform}")
    yield from inspection.check_library()
    yield ok("database", str(path))
    yield from inspection.check_files(path, shared=is_shared(url))
    yield from inspection.check_log(path, full=full)
    if durability == "process":
        yield note("durability", "process: a power cut may take the last commits", 'durability="power" keeps them')
    elif durability is not None:
        yield ok("durability", durability)
    is_gone = partial(identity.is_gone, own_host=identity.host())
    yield from inspection.check_contents(path, full=full, now=time.time(), is_gone=is_gone, signer=make_signer(None))


def _print(findings: list[Finding]) -> None:
    console = make_console()
    width = max(len(finding.check) for finding in findings)
    for finding in findings:
        console.print(
            styled(f"{finding.level:<8}", _STYLES[finding.level]), styled(f"{finding.check:<{width}} ", "bold"),
            styled(finding.text), soft_wrap=True,
        )  # fmt: skip
        if finding.advice:
            console.print(styled(f"{'':<{width + 9}} → {finding.advice}", "dim"), soft_wrap=True)
    counts = [sum(finding.level is level for finding in findings) for level in (Level.PROBLEM, Level.NOTE)]
    click.echo(f"{counts[0] or 'no'} {'problem' if counts[0] == 1 else 'problems'}, {counts[1] or 'no'} "
               f"{'note' if counts[1] == 1 else 'notes'}")  # fmt: skip
