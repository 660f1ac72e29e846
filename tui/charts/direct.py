"""Rows of a widget straight to the terminal: the cheapest way for what moves several times a second.

Textual composes the least rectangle around all that has changed, from every widget it meets there, line by line. For
four charts beside a training that takes 5 ms a frame, most of it for lines that are as they were, and holds the GIL
meanwhile; sending the changed rows alone takes 0.5 ms.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from rich.console import Console
from rich.control import Control
from textual._compositor import CompositorUpdate
from textual.geometry import Region
from textual.strip import Strip
from textual.widget import Widget

_gathered: list[_Rows] | None = None  # of the screen's thread, which alone sends


@contextmanager
def in_one_piece(widget: Widget) -> Iterator[None]:
    """What parts of `widget` send inside goes to the terminal at the end, at once.

    Each piece wakes the thread that writes, which takes the GIL from whoever has it.
    """
    global _gathered
    before, _gathered = _gathered, []
    pieces = _gathered
    try:
        yield
    finally:
        _gathered = before
        if pieces:
            widget.app._display(widget.screen, _Pieces(pieces))  # type: ignore[arg-type]


def at_once(widget: Widget, change: Callable[[], object]) -> None:
    """Make a change to what `widget` shows, and send the rows that it makes differ."""
    unpainted = getattr(widget, "_repaint_regions", True)  # True in a Textual that is made otherwise inside
    if unpainted or not widget.is_mounted or not widget.is_on_screen:
        change()
        return
    place = widget.outer_size.region
    before = widget.render_lines(place)
    change()
    if widget._layout_required:
        return
    rows = {y: new for y, (old, new) in enumerate(zip(before, widget.render_lines(place), strict=True)) if old != new}
    if not rows or send_rows(widget, rows):
        widget._repaint_regions.clear()
        widget._repaint_required = False


def send_rows(widget: Widget, rows: Mapping[int, Strip]) -> bool:
    """Send rows of `widget`, by their number in it, to the terminal; False if they have to go Textual's way.

    So it is where a layout is due, where anything lies over the widget (a dialog, a notification, a tooltip) or a part
    of it is out of sight, or where a Textual to come is made otherwise inside. `widget.render_lines` must give the same
    rows from now on: Textual keeps no picture of the screen, and asks for them whenever it composes there.
    """
    try:
        place = _free_place(widget)
        if place is None:
            return False
        display = widget.app._display
        if _gathered is not None:
            _gathered.append(_Rows(place, rows))
        else:
            display(widget.screen, _Rows(place, rows))  # type: ignore[arg-type]
    except AttributeError:
        return False
    return True


def _free_place(widget: Widget) -> Region | None:
    """Where the widget is on the terminal, if all of it can be seen."""
    app, screen = widget.app, widget.screen
    if app.screen is not screen or app.is_inline or app._batch_count or screen._layout_required:
        return None
    visible = screen._compositor.visible_widgets  # what lies on top comes first
    if widget not in visible:
        return None
    place, clip = visible[widget]
    free = place.shrink(widget.scrollbar_gutter)
    for above, (region, above_clip) in visible.items():
        if above is widget:
            return free if clip.contains_region(place) else None
        if region.intersection(above_clip).overlaps(free):
            return None
    return None


class _Rows(CompositorUpdate):
    """Rows of one place on the terminal."""

    def __init__(self, place: Region, rows: Mapping[int, Strip]) -> None:
        self._place, self._rows = place, rows

    def render_segments(self, console: Console) -> str:
        x, y, width, _ = self._place
        return "".join(
            Control.move_to(x, y + row).segment.text + strip.crop(0, width).render(console)
            for row, strip in self._rows.items()
        )


class _Pieces(CompositorUpdate):
    """Rows of several places."""

    def __init__(self, pieces: list[_Rows]) -> None:
        self._pieces = pieces

    def render_segments(self, console: Console) -> str:
        return "".join(piece.render_segments(console) for piece in self._pieces)
