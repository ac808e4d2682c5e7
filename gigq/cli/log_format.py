"""What a worker's log looks like: lines for people, or JSON for machines."""

from __future__ import annotations

import json
import logging
import os
import sys
from datetime import UTC, datetime
from typing import Final, Literal

import click

from gigq.plain import plain

LogFormat = Literal["text", "json"]

_LEVEL_COLOURS: Final = {logging.WARNING: "yellow", logging.ERROR: "red", logging.CRITICAL: "red"}


def start_logging(worker: str, level: str, style: LogFormat) -> None:
    """Send log records to stderr, each with the worker's name."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        JsonFormatter(worker) if style == "json" else TextFormatter(worker, on_terminal=sys.stderr.isatty())
    )
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)


def start_child_logging(worker: str, level: str, style: LogFormat) -> None:
    """Do the same in the process that children are forked from, unless the app's modules have set up logging."""
    if not logging.getLogger().handlers:
        start_logging(worker, level, style)


class TextFormatter(logging.Formatter):
    """One line a record: when, how grave, whose, what; tracebacks below it.

    Whoever watches a terminal knows the day, and gets colours unless `$NO_COLOR` is set; a file tells the date.
    """

    def __init__(self, worker: str, *, on_terminal: bool) -> None:
        super().__init__()
        self._worker = plain(worker)
        self._on_terminal = on_terminal
        self._in_colour = on_terminal and not os.environ.get("NO_COLOR")  # https://no-color.org

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as text, in which nothing moves the cursor."""
        at = datetime.fromtimestamp(record.created)
        when = at.strftime("%H:%M:%S") if self._on_terminal else at.isoformat(" ", "milliseconds")
        level = f"{plain(record.levelname):<7}"
        if self._in_colour:
            level = click.style(level, fg=_LEVEL_COLOURS.get(record.levelno))
        lines = [f"{when} {level} {self._worker}  {plain(record.getMessage())}"]
        if record.exc_info:
            lines += map(plain, self.formatException(record.exc_info).splitlines())
        return "\n".join(lines)


class JsonFormatter(logging.Formatter):
    """One JSON object a line."""

    def __init__(self, worker: str) -> None:
        super().__init__()
        self._worker = worker

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as JSON: time (ISO 8601, UTC), level, logger, worker, message, and any exception."""
        fields = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "worker": self._worker,
            "message": record.getMessage(),
        }
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        return json.dumps(fields)
