"""Samples drawn beside or below each other, one of them chosen."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

from textual import work
from textual.events import Click
from textual.geometry import Region
from textual.message import Message

from tui.widgets.graphics.canvas import PixelCanvas, Spot
from tui.widgets.samples import Page, capacity, draw_page

if TYPE_CHECKING:
    from engine.data.preview import Sample


class Gallery(PixelCanvas):
    """Draws what it is given in a thread: a page of pictures has thousands of cells, each of a colour of its own."""

    class Selected(Message):
        """The person clicked on a sample; twice on the same one to see it whole."""

        def __init__(self, at: int, *, again: bool) -> None:
            self.at, self.again = at, again
            super().__init__()

    def __init__(self, *, captions: int = 2, id: str | None = None) -> None:
        super().__init__(id=id)
        self.samples: Sequence[Sample] = ()
        self.selected = -1
        self._columns: Sequence[str] = ()
        self._label = "class"
        self._captions = captions
        self._room = (0, 0)
        self._page = Page((), ())

    def fits(self, sample: Sample, width: int, height: int) -> int:
        """How many samples like this one can be shown."""
        return capacity(sample, width, height, captions=self._captions)

    def show(
        self,
        samples: Sequence[Sample],
        columns: Sequence[str],
        width: int,
        height: int,
        *,
        selected: int = -1,
        label: str = "class",
    ) -> None:
        """Draw samples in so much room; `columns` names the numbers of a table, `label` what is to be learned."""
        shown = (samples, (width, height), selected, tuple(columns), label)
        if shown == (self.samples, self._room, self.selected, tuple(self._columns), self._label):
            return
        self.samples, self._room, self.selected, self._columns, self._label = shown
        self._draw()

    def select(self, at: int) -> None:
        """Mark another sample."""
        self.show(self.samples, self._columns, *self._room, selected=at, label=self._label)

    def across(self) -> int:
        """How many samples stand beside each other."""
        tops = [top for _, top, _, _ in self._page.places]
        return max(1, tops.count(tops[0])) if tops else 1

    def region_of(self, at: int) -> Region:
        """Where a sample stands."""
        return Region(*self._page.places[at]) if at < len(self._page.places) else Region(0, 0, 0, 0)

    @work(exclusive=True, group="gallery", exit_on_error=False)
    async def _draw(self) -> None:
        page = await asyncio.to_thread(
            draw_page,
            self.samples,
            self._columns,
            *self._room,
            colour=not self.app.no_color,
            selected=self.selected,
            captions=self._captions,
            label=self._label,
        )
        self._page = page
        spots = [Spot(self.samples[at], Region(*place)) for at, place in page.pictures.items()]
        await self.paint(page.rows, spots)

    def on_click(self, event: Click) -> None:
        """Choose the sample below the pointer."""
        for at, place in enumerate(self._page.places):
            if Region(*place).contains(event.x, event.y):
                self.post_message(self.Selected(at, again=event.chain > 1))
                return
