"""A table whose columns grow."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from rich.cells import cell_len
from rich.text import Text
from textual.widgets import DataTable
from textual.widgets.data_table import Column, ColumnKey, RowKey

Cell = TypeVar("Cell")


class Table(DataTable[Cell]):
    """Textual's, whose columns are as wide as what is in them whenever it is painted.

    Textual measures new cells when it has nothing else to do. What it paints before is cut off (`1.00 m` in place of
    `1.00 ms`), and of cells that change it may stay so, as lines that are painted are kept.
    """

    def add_row(
        self, *cells: Cell, height: int | None = 1, key: str | None = None, label: str | Text | None = None
    ) -> RowKey:
        """Add a row at the bottom. See DataTable."""
        row = super().add_row(*cells, height=height, key=key, label=label)
        _widen(zip(self.columns.values(), cells, strict=False))
        return row

    def update_cell(
        self, row_key: RowKey | str, column_key: ColumnKey | str, value: Cell, *, update_width: bool = True
    ) -> None:
        """Change a cell. See DataTable."""
        super().update_cell(row_key, column_key, value, update_width=update_width)
        if update_width:
            _widen([(self.columns[ColumnKey(column_key) if isinstance(column_key, str) else column_key], value)])

    def watch_virtual_size(self) -> None:
        """The columns, or how many rows there are, are others now."""
        self._clear_caches()
        self.refresh()


def _widen(cells: Iterable[tuple[Column, object]]) -> None:
    for column, cell in cells:
        width = Text.from_markup(cell).cell_len if isinstance(cell, str) else _width(cell)
        column.content_width = max(column.content_width, width)


def _width(cell: object) -> int:
    return cell.cell_len if isinstance(cell, Text) else cell_len(str(cell))
