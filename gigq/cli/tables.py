"""Tables, colours and JSON: how commands print what they found."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

import click

from gigq.plain import plain
from gigq.states import JobState

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

_GAP: Final = 2  # between columns
_LEAST: Final = 8  # to which a column is cut
_PIPE_COLUMNS: Final = 1000  # what is not a terminal has no edge to wrap at

STATE_STYLES: Final = {
    JobState.PENDING: "yellow",
    JobState.RUNNING: "cyan",
    JobState.COMPLETED: "green",
    JobState.FAILED: "bold red",
    JobState.CANCELLED: "dim",
    JobState.TIMEOUT: "magenta",
}

as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON; times are UTC epoch seconds.")


class Column(NamedTuple):
    """A column of a table."""

    title: str
    justify: Literal["left", "right"] = "left"
    cut: bool = False  # whether it may be cut to fit a terminal; others are never
    least_width: int = 0  # characters; a narrower terminal goes without
    usual: str | None = None  # a terminal goes without, too, if every row says just this


def print_json(value: object) -> None:
    """Print a JSON document."""
    click.echo(json.dumps(value, indent=2))


def make_console() -> Console:
    """Return where tables are printed."""
    from rich.console import Console  # takes 50 ms, which commands that print one line do without

    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = _PIPE_COLUMNS
    return console


def styled(value: object, style: str = "") -> Text:
    """Return a value as text that rich does not read as markup; states have their colours."""
    from rich.text import Text

    return Text(plain(value), style=STATE_STYLES[value] if isinstance(value, JobState) else style)


def print_table(columns: Sequence[Column], rows: Iterable[Sequence[object]], *, empty: str) -> None:
    """Print a table; if it has no rows, say `empty`. A cell that is a rich Text is shown as it is: see `styled`."""
    from rich.text import Text

    table: list[list[Text]] = [[cell if isinstance(cell, Text) else styled(cell) for cell in row] for row in rows]
    if not table:
        click.echo(empty)
        return
    console = make_console()
    shown = [index for index, column in enumerate(columns) if _is_shown(column, index, table, console)]
    widths = {index: max(len(columns[index].title), *(row[index].cell_len for row in table)) for index in shown}
    _cut(widths, [index for index in shown if columns[index].cut], console.width - _GAP * (len(shown) - 1))
    for row in ([Text(column.title, style="bold") for column in columns], *table):
        for index in shown:
            row[index].truncate(widths[index], overflow="ellipsis")
            row[index].align(columns[index].justify, widths[index])
        line = Text(" " * _GAP).join(row[index] for index in shown)
        line.rstrip()
        console.print(line, soft_wrap=True)  # a terminal too narrow for what is never cut wraps by itself


def _is_shown(column: Column, index: int, table: Sequence[Sequence[Text]], console: Console) -> bool:
    if not console.is_terminal:
        return True  # to programs, the same columns always
    if console.width < column.least_width:
        return False
    return column.usual is None or any(row[index].plain != column.usual for row in table)


def _cut(widths: dict[int, int], columns: Sequence[int], room: int) -> None:
    """Make the widest of some columns narrower, until all fit into `room`."""
    while sum(widths.values()) > room:
        widest = max(columns, key=widths.__getitem__, default=None)
        if widest is None or widths[widest] <= _LEAST:
            return
        widths[widest] -= 1
