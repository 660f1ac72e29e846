"""One sample, as large as the screen."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical, VerticalScroll
from textual.geometry import Region
from textual.widgets import Static

from tui.dialogs.dialog import Page
from tui.widgets.graphics.canvas import PixelCanvas, Spot
from tui.widgets.graphics.terminal import graphics
from tui.widgets.samples import whole
from tui.widgets.titles import plain

if TYPE_CHECKING:
    from engine.data.preview import Sample


class SampleScreen(Page[None]):
    """Shows all that there is of a sample; the arrows scroll."""

    CSS_PATH = ["../dialogs.tcss", "data.tcss"]
    BINDINGS = [Binding("escape,enter,q", "dismiss(None)", "Close", tooltip="Back to the samples", id="sample.close")]

    def __init__(self, sample: Sample, columns: Sequence[str]) -> None:
        super().__init__()
        self._sample, self._columns = sample, columns

    def compose(self) -> ComposeResult:
        sample = self._sample
        with Vertical(classes="dialog -whole") as dialog:
            dialog.border_title = plain(f"#{sample.number} {sample.label}")
            dialog.border_subtitle = "↑↓ scroll · escape"
            with VerticalScroll():
                yield PixelCanvas(id="sample-canvas")
            yield Static(sample.place, id="sample-place", markup=False)

    def on_mount(self) -> None:
        """Draw when the size is known."""
        self.query_one(VerticalScroll).focus()
        self.call_after_refresh(self._draw)

    def on_resize(self) -> None:
        """Drawn to fit."""
        self.call_after_refresh(self._draw)

    @work(exclusive=True, group="sample", exit_on_error=False)
    async def _draw(self) -> None:
        room = self.query_one(VerticalScroll).content_size
        colour, fill = not self.app.no_color, bool(graphics(self.app))
        size = room.width - 1, room.height
        page = await asyncio.to_thread(whole, self._sample, self._columns, *size, colour=colour, fill=fill)
        spots = [Spot(self._sample, Region(*place)) for place in page.pictures.values()]
        await self.query_one(PixelCanvas).paint(page.rows, spots)
