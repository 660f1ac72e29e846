"""One sample, as large as the screen."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Static

from tui.widgets.canvas import Canvas
from tui.widgets.graphics import Graphics, graphics, picture_widgets
from tui.widgets.samples import whole
from tui.widgets.titles import plain

if TYPE_CHECKING:
    from engine.data.preview import Sample


class SampleScreen(ModalScreen[None]):
    """Shows all that there is of a sample; the arrows scroll."""

    CSS_PATH = ["../dialogs.tcss", "data.tcss"]
    BINDINGS = [Binding("escape,enter,q", "dismiss(None)", "Close", tooltip="Back to the samples", id="sample.close")]

    def __init__(self, sample: Sample, columns: Sequence[str]) -> None:
        super().__init__()
        self._sample, self._columns = sample, columns
        self._graphics: Graphics = ""

    def compose(self) -> ComposeResult:
        sample = self._sample
        with Vertical(classes="dialog -whole") as dialog:
            dialog.border_title = plain(f"#{sample.number} {sample.label}")
            dialog.border_subtitle = "↑↓ scroll · escape"
            with VerticalScroll():
                yield Canvas(id="sample-canvas")
            yield Static(sample.place, id="sample-place", markup=False)

    def on_mount(self) -> None:
        """Draw when the size is known."""
        plain = self._sample.picture is not None and self._sample.mask is None and not self._sample.boxes
        self._graphics = graphics(self.app) if plain else ""  # names and signs over a picture are cells
        self.query_one(VerticalScroll).focus()
        self.call_after_refresh(self._draw)

    def on_resize(self) -> None:
        """Drawn to fit."""
        self.call_after_refresh(self._draw)

    @work(exclusive=True, group="sample", exit_on_error=False)
    async def _draw(self) -> None:
        room = self.query_one(VerticalScroll).content_size
        if self._graphics:
            await self._draw_pixels()
            return
        colour = not self.app.no_color
        rows = await asyncio.to_thread(whole, self._sample, self._columns, room.width - 1, room.height, colour=colour)
        self.query_one(Canvas).put(rows)

    async def _draw_pixels(self) -> None:
        assert self._sample.picture is not None
        scroll = self.query_one(VerticalScroll)
        if not scroll.query(".-pixels"):
            make = await asyncio.to_thread(picture_widgets, self._graphics)
            await scroll.mount(make(self._sample.picture, scroll.content_size))
