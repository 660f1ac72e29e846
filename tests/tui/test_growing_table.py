"""What a table shows, whenever it is painted."""

from __future__ import annotations

import pytest
from textual.app import App, ComposeResult
from textual.widgets import DataTable

from tui.widgets.table import Table


class Shown(App[None]):
    def __init__(self, table: DataTable[str]) -> None:
        self.table = table
        super().__init__()

    def compose(self) -> ComposeResult:
        yield self.table

    def lines(self) -> list[str]:
        return [self.table.render_line(y).text.rstrip() for y in range(1 + self.table.row_count)]


@pytest.mark.parametrize("changes", ["row", "cell"])
async def test_columns_are_as_wide_as_what_is_in_them_whenever_they_are_painted(changes: str) -> None:
    async with Shown(Table()).run_test() as pilot:
        app = pilot.app
        assert isinstance(app, Shown)
        app.table.add_column("t", key="t")
        app.table.add_row("1", key="0")
        await pilot.pause()
        if changes == "row":
            app.table.add_row("1.00 ms", key="1")
        else:
            app.table.update_cell("0", "t", "1.00 ms", update_width=True)
        grown = [" t", *([" 1"] if changes == "row" else []), " 1.00 ms"]
        assert app.lines() == grown, "as a busy machine paints them, before Textual has measured them"
        await pilot.pause()
        assert app.lines() == grown
        app.table.update_cell(str(app.table.row_count - 1), "t", "2")
        app.lines()
        await pilot.pause()
        assert app.table.virtual_size.width == 3
        assert app.lines()[-1] == " 2"
