"""Tables, colours and JSON: how commands print what they found."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

import click

from gigq.cli.text import plain
from gigq.states import JobState

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

WIDE_COLUMNS: Final = 120  # from this width on, tables show the columns that are worth having only then
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
    cut: bool = False  # whether it may be cut to fit; others are never
    only_wide: bool = False


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


def styled(value: object) -> Text:
    """Return a value as text that rich does not read as markup; states have their colours."""
    from rich.text import Text

    return Text(plain(value), style=STATE_STYLES[value] if isinstance(value, JobState) else "")


def print_table(columns: Sequence[Column], rows: Iterable[Sequence[object]], *, empty: str) -> None:
    """Print a table; if it has no rows, say `empty`."""
    from rich.cells import cell_len
    from rich.table import Table

    listed = list(rows)
    if not listed:
        click.echo(empty)
        return
    console = make_console()
    shown = [index for index, column in enumerate(columns) if not column.only_wide or console.width >= WIDE_COLUMNS]
    widths = {
        index: max(cell_len(columns[index].title), *(cell_len(plain(row[index])) for row in listed)) for index in shown
    }
    _cut(widths, [index for index in shown if columns[index].cut], console.width - _GAP * (len(shown) - 1))
    table = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="bold")
    for index in shown:
        column = columns[index]
        table.add_column(column.title, justify=column.justify, no_wrap=True, width=widths[index])
    for row in listed:
        table.add_row(*(styled(row[index]) for index in shown))
    console.print(table)


def _cut(widths: dict[int, int], columns: Sequence[int], room: int) -> None:
    """Make the widest of some columns narrower, until all fit into `room`."""
    while sum(widths.values()) > room:
        widest = max(columns, key=widths.__getitem__, default=None)
        if widest is None or widths[widest] <= _LEAST:
            return
        widths[widest] -= 1
