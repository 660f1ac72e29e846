"""Rows of cells, in some of which pictures stand in real pixels where the terminal can."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from textual.geometry import Region
from textual.strip import Strip
from textual.widget import Widget
from textual.widgets import Tooltip
from textual.widgets._toast import ToastRack  # public nowhere

from tui.widgets.canvas import Canvas
from tui.widgets.graphics.encoding import Encoded, encode
from tui.widgets.graphics.terminal import Graphics, cell_size, graphics
from tui.widgets.picture import Row, row_width, sign, tint

if TYPE_CHECKING:
    from engine.data.preview import Sample


@dataclass(frozen=True)
class Spot:
    """A sample with a picture, and the cells that are drawn for it."""

    sample: Sample
    region: Region


class PixelCanvas(Canvas):
    """Shows rows of cells, with half blocks at the spots of pictures, and pixels in their place when these are encoded.

    Half blocks stay below a dialog, which tints what is behind it. Sixel pictures are pixels only where they are seen
    whole and nothing lies over them: they would be painted over it, and can't be cut.
    """

    def __init__(self, id: str | None = None) -> None:
        super().__init__(id=id)
        self._kind: Graphics = ""
        self._drawn: tuple[Sequence[Spot], tuple[int, int] | None] = ((), None)
        self._pictures: Sequence[Encoded] = ()
        self._fine: dict[int, Strip] = {}
        """Rows with pixels, by their number."""
        self._bands: Sequence[range] = ()
        """Rows that show pixels all together or not at all."""
        self._shown: frozenset[range] = frozenset()
        """The bands that show pixels now."""
        self._crop = Region()

    def on_mount(self) -> None:
        """Kitty's pictures are gone when the studio was suspended."""
        self.app.app_resume_signal.subscribe(self, lambda _: self._send(*(each.sent for each in self._pictures)))

    def on_unmount(self) -> None:
        """The terminal keeps no pictures."""
        self._send(*(each.freed for each in self._pictures))

    async def paint(self, rows: Sequence[Row], spots: Sequence[Spot]) -> None:
        """Show rows, and when they are ready pixels at the spots. Cancelled, it leaves half blocks."""
        self._kind = graphics(self.app) if spots else ""
        cell = cell_size() if self._kind else None
        drawn = (spots, cell)
        if not self._kind or not _same(drawn, self._drawn):
            self._forget()
        self._lay(rows, self._pictures, self._drawn[0])
        await self.put(rows)
        if cell is None or self._pictures:
            return
        pictures = []
        for spot in spots:
            assert self._kind
            pictures.append(await asyncio.to_thread(_encoded, self._kind, spot, cell))
        self._pictures, self._drawn = pictures, drawn
        self._send(*(each.sent for each in pictures))
        self._lay(rows, pictures, spots)
        self._settle()

    def render_line(self, y: int) -> Strip:
        """One row of cells."""
        if any(y in band for band in self._shown):
            return self._look().on(self._fine[y])
        return super().render_line(y)

    def render_lines(self, crop: Region) -> list[Strip]:
        """Pixels that can't be shown any more give way at once; those that can be come when all is painted anew."""
        self._crop = crop
        possible = self._possible()
        if self._shown - possible:
            self._shown &= possible
        if possible - self._shown:
            self.call_later(self._settle)
        return super().render_lines(crop)

    def _settle(self) -> None:
        """Show all pixels that can be shown. All is painted: Textual cuts rows by characters, also those of a sixel."""
        possible = self._possible()
        if possible != self._shown:
            self._shown = possible
            self.refresh()

    def _possible(self) -> frozenset[range]:
        """The bands whose pixels can be shown where the widget is now."""
        if not self._bands or not self.screen.is_active:
            return frozenset()
        if self._kind == "kitty":
            return frozenset(self._bands)
        crop, place = self._crop, self.region
        if crop.width < self.size.width or any(strip.cell_length > self.size.width for strip in self._fine.values()):
            return frozenset()
        over = [each.region for each in _floating(self.screen) if each.display]
        return frozenset(
            band
            for band in self._bands
            if crop.y <= band.start
            and band.stop <= crop.bottom
            and not any(_rows(place, band).overlaps(each) for each in over)
        )

    def _lay(self, rows: Sequence[Row], pictures: Sequence[Encoded], spots: Sequence[Spot]) -> None:
        """Put pictures into rows."""
        strips: dict[int, Strip] = {}
        for spot, picture in zip(spots, pictures, strict=False):
            for down in range(spot.region.height):
                y = spot.region.y + down
                strip = strips.get(y) or Strip(rows[y] if y < len(rows) else [])
                strips[y] = _replaced(strip, spot.region, picture.rows[down] if down < len(picture.rows) else [])
        self._fine = strips
        self._bands = _bands(strips)
        self._shown &= frozenset(self._bands)

    def _forget(self) -> None:
        """No pixels until others are ready. The terminal frees them when their cells have been painted over."""
        freed = [each.freed for each in self._pictures]
        self._drawn, self._pictures, self._shown = ((), None), (), frozenset()
        self.call_after_refresh(self._send, *freed)

    def _send(self, *texts: str) -> None:
        """To the terminal, in line with all that Textual writes."""
        driver = self.app._driver
        if driver is not None and any(texts):
            driver.write("".join(texts))


def _encoded(kind: Graphics, spot: Spot, cell: tuple[int, int]) -> Encoded:
    """A sample's picture as large as its spot, with its mask or boxes."""
    from engine.data.preview.pixels import Marks, in_pixels  # loads torch

    assert kind
    room = spot.region.width * cell[0], spot.region.height * cell[1]
    return encode(kind, in_pixels(spot.sample, *room, Marks(tint, sign, cell)), cell)


def _same(
    one: tuple[Sequence[Spot], tuple[int, int] | None], other: tuple[Sequence[Spot], tuple[int, int] | None]
) -> bool:
    """Whether the same samples are drawn at the same spots, in cells of the same size."""
    if one[1] != other[1] or len(one[0]) != len(other[0]):
        return False
    return all(a.sample is b.sample and a.region == b.region for a, b in zip(one[0], other[0], strict=True))


def _replaced(strip: Strip, region: Region, row: Row) -> Strip:
    """A row of cells with others at a region's columns."""
    strip = strip.adjust_cell_length(max(strip.cell_length, region.right))
    before, _, after = strip.divide([region.x, region.right, strip.cell_length])
    width = row_width(row)
    return Strip([*before, *row, *Strip.blank(region.width - width), *after], strip.cell_length)


def _bands(rows: dict[int, Strip]) -> list[range]:
    """Rows of pictures that follow each other."""
    found: list[range] = []
    for y in sorted(rows):
        if found and found[-1].stop == y:
            found[-1] = range(found[-1].start, y + 1)
        else:
            found.append(range(y, y + 1))
    return found


def _rows(place: Region, band: range) -> Region:
    return Region(place.x, place.y + band.start, place.width, len(band))


def _floating(screen: Widget) -> list[Widget]:
    """What lies over a screen's panes."""
    found: list[Widget] = []
    for child in screen.children:
        if isinstance(child, ToastRack):
            found += child.walk_children(Widget, with_self=False)
        elif isinstance(child, Tooltip):
            found.append(child)
    return found
