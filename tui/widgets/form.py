"""A form: rows that ↑ and ↓ walk over."""

from __future__ import annotations

from textual.binding import Binding
from textual.containers import VerticalScroll
from textual.widget import Widget
from textual.widgets import Button

from tui.widgets.field import Field


class Form(VerticalScroll, can_focus=False):
    """Fields and buttons below each other. The arrows go from row to row and stay in the form."""

    BINDINGS = [
        Binding("down", "step(1)", "Next", tooltip="The next row", id="form.next", show=False),
        Binding("up", "step(-1)", "Previous", tooltip="The row above", id="form.previous", show=False),
    ]

    def begin(self) -> None:
        """Go to the first row."""
        rows = self._rows()
        if rows:
            _go_to(rows[0])

    def action_step(self, by: int) -> None:
        """Go to another row."""
        rows = self._rows()
        here = next((i for i, row in enumerate(rows) if row.has_focus or row.has_focus_within), None)
        if rows:
            _go_to(rows[0 if here is None else min(max(here + by, 0), len(rows) - 1)])

    def _rows(self) -> list[Widget]:
        """Those in sight: a filter hides the others."""
        rows: list[Widget] = [row for row in self.query("*") if isinstance(row, (Field, Button))]
        return [row for row in rows if row.display and isinstance(row.parent, Widget) and row.parent.display]


def _go_to(row: Widget) -> None:
    if isinstance(row, Field):
        row.begin()
    else:
        row.screen.set_focus(row)
