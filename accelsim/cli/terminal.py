"""Tables on standard output, by rich; colours only on a terminal."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

# What a pipe gets: wide enough that no row of ours is broken, since a program or a pager reads it.
_PIPE_WIDTH = 200


def output_console(*, stderr: bool = False) -> Console:
    """A console of the terminal's width, or a wide one when the output goes to a file or a pipe."""
    console = Console(stderr=stderr, highlight=False)
    return console if console.is_terminal else Console(stderr=stderr, highlight=False, width=_PIPE_WIDTH)


def print_table(
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    title: str = "",
    right: Collection[int] = (),
    strong: Collection[int] = (),
) -> None:
    """Print a table; the columns ``right`` are right-aligned, the rows ``strong`` are bold."""
    table = Table(title=title or None, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    for index, name in enumerate(header):
        table.add_column(Text(name), justify="right" if index in right else "left", overflow="fold")
    for index, row in enumerate(rows):
        table.add_row(*(Text(cell) for cell in row), style="bold" if index in strong else None)
    output_console().print(table)
