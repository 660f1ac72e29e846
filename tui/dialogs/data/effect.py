"""Samples before and after transforms, side by side, kept up to date while they are edited."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.segment import Segment
from rich.style import Style
from textual import work
from textual.message import Message

from engine.errors import StudioError
from tui.looking import CalledOff, Errand
from tui.training import Desk
from tui.widgets.canvas import Canvas
from tui.widgets.picture import Row
from tui.widgets.samples import draw_page

if TYPE_CHECKING:
    from engine.data.preview import Sample, View
    from engine.recipe import Part

_SETTLES_S = 0.15  # so long after the last key samples are transformed
_TELL_S = 0.2
_DIM = Style(dim=True)
_NEAREST = 4  # samples shown at least


class Effect(Canvas):
    """Draws the same few training samples twice: as they are, and as the model would see them."""

    class Told(Message):
        """The steps could be tried, or `trouble` says why not."""

        def __init__(self, trouble: str) -> None:
            self.trouble = trouble
            super().__init__()

    def __init__(self, desk: Desk, view: View, id: str | None = None) -> None:
        super().__init__(id=id)
        self._desk, self._view = desk, view
        self.pairs: Sequence[tuple[Sample, Sample]] = ()
        self._errand: Errand | None = None

    def on_unmount(self) -> None:
        """What is being measured is not waited for."""
        if self._errand is not None:
            self._errand.cancel()

    @work(exclusive=True, group="effect", exit_on_error=False)
    async def try_out(self, augment: Sequence[Part], fixed: Sequence[Part], draw: int, width: int, height: int) -> None:
        """Show what these steps do; the newest call wins."""
        await asyncio.sleep(_SETTLES_S)
        view, data = self._view, self._desk.data
        if self._desk.live and augment and await asyncio.to_thread(data.draws_globally, augment):
            self.post_message(self.Told("It draws from the random numbers of the training: stop that first to see it."))
            return
        count = min(view.sizes["train"], max(_NEAREST, width // 12))
        errand = self._errand = data.begin("effect", Errand())
        trying = asyncio.create_task(
            asyncio.to_thread(data.before_after, view, augment, fixed, range(count), draw, errand)
        )
        trying.add_done_callback(lambda done: done.cancelled() or done.exception())  # nobody may be left to ask
        try:
            while not (await asyncio.wait({trying}, timeout=_TELL_S))[0]:
                if errand.text:
                    await self.put([[Segment(f"{errand.text} training samples", _DIM)]])
            pairs = trying.result()
        except CalledOff:
            return
        except StudioError as error:
            self.post_message(self.Told(str(error)))
            return
        self.pairs = pairs
        columns, colour = view.source.columns, not self.app.no_color
        await self.put(await asyncio.to_thread(_rows, pairs, columns, width, height, colour))
        self.post_message(self.Told(""))


def _rows(
    pairs: Sequence[tuple[Sample, Sample]], columns: Sequence[str], width: int, height: int, colour: bool
) -> list[Row]:
    """Before above, after below, as many of them as fit side by side."""
    half = max(3, height // 2 - 1)
    rows: list[Row] = []
    for title, each in (("before", 0), ("after, as the model sees it", 1)):
        page = draw_page([pair[each] for pair in pairs], columns, width, half, colour=colour, captions=1)
        # Of what is cut off, half must be seen: no names without their pictures.
        hidden = [top for _, top, _, high in page.places if 0 < half - top <= high // 2]
        rows += [[Segment(title, _DIM)], *list(page.rows)[: min(hidden, default=half)]]
    return rows
