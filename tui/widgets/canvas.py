"""Rows of cells that were drawn elsewhere, in a thread as a rule."""

from __future__ import annotations

from collections.abc import Sequence

from textual.geometry import Region, Size
from textual.strip import Strip
from textual.widget import Widget

from tui.widgets.picture import Row


class Canvas(Widget):
    """Shows rows as they are: thousands of cells, each of a colour of its own, would make text slow."""

    DEFAULT_CSS = """
    Canvas { height: auto; width: 1fr; }
    """

    def __init__(self, id: str | None = None) -> None:
        super().__init__(id=id)
        self._strips: list[Strip] = []

    @property
    def text(self) -> str:
        """What stands in it."""
        return "\n".join(strip.text for strip in self._strips)

    def put(self, rows: Sequence[Row]) -> None:
        """Show other rows; those that are as they were are not painted again."""
        before, self._strips = self._strips, [Strip(row) for row in rows]
        if len(before) != len(self._strips):
            self.refresh(layout=True)
            return
        pairs = enumerate(zip(before, self._strips, strict=True))
        other = [Region(0, y, self.size.width, 1) for y, (old, new) in pairs if old != new]
        if other:
            self.refresh(*other)

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        """As many rows as there are."""
        return len(self._strips)

    def render_line(self, y: int) -> Strip:
        """One row of cells."""
        width = self.size.width
        if y >= len(self._strips):
            return Strip.blank(width, self.rich_style)
        return self._strips[y].adjust_cell_length(width).apply_style(self.rich_style)
