"""Aligned columns on a terminal or in a pipe, and what is known of where they are printed."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

Cell: TypeAlias = "str | Text"
Row: TypeAlias = "tuple[Cell, ...]"

_LEAST_LAST = 24  # cells; a sentence in less is no sentence
_PIPED_WIDTH = 1000  # whoever reads a pipe wants whole lines


def print_rows(headings: Sequence[str], rows: Sequence[Row], numbers: Sequence[str] = ()) -> None:
    """Aligned columns, of which the last is broken where it does not fit; on a very narrow screen, a block a row."""
    from rich.padding import Padding
    from rich.table import Table  # 60 ms that `torch-tui --help` need not wait for
    from rich.text import Text

    console = _console()
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, show_header=bool(headings), header_style="bold")
    count = max(len(row) for row in rows)
    for place in range(count):
        heading = headings[place] if headings else ""
        side: Literal["left", "right"] = "right" if heading in numbers else "left"
        table.add_column(heading, justify=side, no_wrap=place < count - 1, overflow="fold")
    for row in rows:
        table.add_row(*row)
    with console.capture() as capture:
        if least_width(headings, rows) <= console.width:
            console.print(table)
        else:
            for first, *rest in (row or ("",) for row in rows):
                console.print(first)
                block = Text(" · ").join(Text.assemble(cell) for cell in rest if cell)
                console.print(*([Padding(block, (0, 0, 0, 4))] if block else []), end="")
    for line in capture.get().splitlines():
        print(line.rstrip())


def least_width(headings: Sequence[str], rows: Sequence[Row]) -> int:
    """The cells that the columns need side by side, the last of them broken if it is long."""
    from rich.cells import cell_len

    columns = zip_longest(headings, *rows, fillvalue="")
    *widths, last = [max(cell_len(str(cell)) for cell in column) for column in columns]
    return sum(width + 2 for width in widths) + min(last, _LEAST_LAST)


def bold(text: str) -> Text:
    """A heading, or a label."""
    from rich.text import Text

    return Text(text, "bold")


def width() -> int:
    """Cells in a line."""
    return _console().width


def colourful() -> bool:
    """Whether escape codes for colours are wanted."""
    console = _console()
    return console.color_system is not None and not console.no_color


def _console() -> Console:
    from rich.console import Console

    width = None if sys.stdout.isatty() else _PIPED_WIDTH
    return Console(width=width, highlight=False, markup=False, emoji=False)
