"""Which database a command looks at: `--db`, else that of `--app`, else `$GIGQ_URL`."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from gigq.errors import GigQError, TargetError
from gigq.plain import plain
from gigq.queue import JobQueue
from gigq.storage.urls import resolve_url, sqlite_path
from gigq.worker.source import ModuleTarget

_ASK = (
    "import json, sys; from gigq.worker.source import ModuleTarget; app = ModuleTarget.parse(sys.argv[1]).load();"
    " print(json.dumps([app.url, app.durability]))"
)


def with_queue(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command `--db` and `--app`, and the queue they name as its first argument; show errors in one line."""

    @click.option("--db", metavar="URL", help="The database's path or URL; default: $GIGQ_URL.")
    @click.option("--app", metavar="MODULE:APP", help="Use the database of this app.")
    @functools.wraps(command)
    def wrapped(*args: Any, db: str | None, app: str | None, **options: Any) -> None:
        try:
            queue = open_queue(db, app)
            try:
                command(queue, *args, **options)
            finally:
                queue.close()
        except BrokenPipeError:
            raise  # `| head` has seen enough: click ends quietly
        except (GigQError, OSError) as error:  # OSError: the disk is full to which a listing goes, and the like
            raise click.ClickException(plain(error)) from error

    return wrapped


def open_queue(db: str | None, app: str | None) -> JobQueue:
    """Return the queue that the options name; a database that does not exist is an error, not a new file."""
    if db is None and app is not None:
        db, _ = ask_app(app)
    if db is None and not os.environ.get("GIGQ_URL"):
        raise click.UsageError("expected --db, --app or $GIGQ_URL to say which database; got none of them")
    url = resolve_url(db)
    existing_file(url)
    return JobQueue(url)


def url_of(target: str) -> str:
    """Return the URL of a database, or of the app of a module."""
    return ask_app(target)[0] if is_app(target) else resolve_url(target)


def is_app(target: str) -> bool:
    """Return whether a target is `module:app` and not a database."""
    return ":" in target and "://" not in target


def existing_file(url: str) -> Path:
    """Return the file of a URL. Raises ClickException if there is none."""
    path = sqlite_path(url)
    if not path.is_file():
        what = "is not a file" if path.exists() else "does not exist"
        raise click.ClickException(f"the database {plain(path)} {what}")
    return path


def ask_app(app: str) -> tuple[str, str]:
    """Return an app's URL and durability. A process of its own is asked: a listing never imports the app's code."""
    ModuleTarget.parse(app)
    answer = subprocess.run([sys.executable, "-c", _ASK, app], capture_output=True, text=True, check=False)
    if answer.returncode != 0:
        *_, reason = answer.stderr.strip().splitlines() or ["no reason was given"]
        raise TargetError(f"cannot load {app}: {reason.removeprefix('gigq.errors.TargetError: ')}")
    url, durability = json.loads(answer.stdout.strip().splitlines()[-1])
    return url, durability
