"""Rows of cells that were drawn elsewhere, in a thread as a rule."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.style import Style
from textual.color import Color
from textual.filter import LineFilter
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

    async def put(self, rows: Sequence[Row]) -> None:
        """Show other rows; those that are as they were are not painted again."""
        made = await asyncio.to_thread(_made, rows, self._look(), self.app.console)
        before, self._strips = self._strips, made
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

    def render_lines(self, crop: Region) -> list[Strip]:
        """The rows as they are: there is no border and no padding that Textual would have to add to each cell."""
        left, right = crop.column_span
        strips = [self.render_line(y) for y in crop.line_range]
        return strips if (left, right) == (0, self.size.width) else [strip.crop(left, right) for strip in strips]

    def render_line(self, y: int) -> Strip:
        """One row of cells."""
        return self._look().on(self._strips[y] if y < len(self._strips) else Strip([]))

    def _look(self) -> _Look:
        return _Look(self.size.width, self.rich_style, tuple(self.get_line_filters()), self.background_colors[1])


@dataclass(frozen=True)
class _Look:
    """What becomes of a row on its way to the terminal. Strips keep what they have become."""

    width: int
    style: Style
    filters: tuple[LineFilter, ...]
    background: Color

    def on(self, strip: Strip) -> Strip:
        strip = strip.adjust_cell_length(self.width).apply_style(self.style)
        for each in self.filters:
            strip = strip.apply_filter(each, self.background)
        return strip


def _made(rows: Sequence[Row], look: _Look, console: Console) -> list[Strip]:
    """Rows as strips, with what the terminal is sent for them: a tenth of a second for a screen of pictures."""
    strips = [Strip(row) for row in rows]
    for strip in strips:
        look.on(strip).render(console)
    return strips
