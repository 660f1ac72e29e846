"""Pictures in real pixels: what the terminal is sent by which protocol, and when half blocks stand in their place."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import numpy as np
import pytest
from rich.segment import Segment
from textual.app import App, ComposeResult
from textual.containers import VerticalScroll
from textual.geometry import Region
from textual.screen import ModalScreen

from engine.data.preview import Sample
from tui.widgets.graphics import canvas, encoding
from tui.widgets.graphics.canvas import PixelCanvas, Spot
from tui.widgets.graphics.terminal import Graphics

CELL = (8, 16)
SAMPLE = Sample("", picture=np.arange(64, dtype=np.uint8).reshape(8, 8) * 4)
ROWS = [[Segment("caption")], *([Segment("▀" * 8)] for _ in range(4)), [Segment("below")]]
SPOTS = [Spot(SAMPLE, Region(0, 1, 8, 4))]


class Pixels(App[None]):
    """One canvas that can be scrolled, in a terminal that can what a test says."""

    CSS = "VerticalScroll { height: 8; } PixelCanvas { margin-bottom: 20; }"

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[str] = []

    def compose(self) -> ComposeResult:
        with VerticalScroll():
            yield PixelCanvas()

    @property
    def canvas(self) -> PixelCanvas:
        return self.screen_stack[0].query_one(PixelCanvas)

    def shown(self) -> str:
        """All that stands on the screen, sixels included."""
        return "\n".join("".join(part.text for part in strip) for strip in self.screen._compositor.render_strips())


@asynccontextmanager
async def painted(kind: Graphics, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Pixels]:
    monkeypatch.setattr(canvas, "graphics", lambda app: kind)
    monkeypatch.setattr(canvas, "cell_size", lambda: CELL)
    app = Pixels()
    async with app.run_test(size=(40, 12), notifications=True) as pilot:
        assert app._driver is not None
        monkeypatch.setattr(app._driver, "write", app.sent.append)
        await app.canvas.paint(ROWS, SPOTS)
        await pilot.pause()
        yield app


async def until(reached: Callable[[], bool]) -> None:
    """Wait for something, at most a second; what was waited for is asserted by who waits."""
    for _ in range(50):
        await asyncio.sleep(0.02)
        if reached():
            return


async def test_without_graphics_there_are_half_blocks_and_nothing_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    async with painted("", monkeypatch) as app:
        assert app.shown().count("▀") == 32
        assert not app.sent


async def test_kittys_picture_is_sent_once_shown_by_placeholders_and_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    async with painted("kitty", monkeypatch) as app:
        assert "▀" not in app.shown()
        assert app.shown().count(chr(0x10EEEE)) == 8 * 4
        assert "caption" in app.shown()
        assert "below" in app.shown()
        sent = "".join(app.sent)
        (number,) = set(re.findall(r"\bi=(\d+)", sent))
        assert f"a=p,i={number},c=8,r=4,U=1" in sent

        await app.canvas.paint([[Segment("▸caption")], *ROWS[1:]], SPOTS)  # another sample is marked
        assert "".join(app.sent) == sent, "nothing is encoded again"

        await app.canvas.paint([[Segment("other")]], [])
        await until(lambda: "a=d" in app.sent[-1])
        assert f"a=d,d=I,i={number}," in app.sent[-1]
        assert chr(0x10EEEE) not in app.shown()


async def test_sixels_stand_behind_their_blanked_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    async with painted("sixel", monkeypatch) as app:
        assert "▀" not in app.shown()
        rows = app.shown().splitlines()
        (row,) = (y for y, text in enumerate(rows) if "\x1bP" in text)
        assert row == 4, "the last of the picture's rows"
        assert rows[row].startswith(" " * 8 + '\x1b7\x1b[3A\x1b[8D\x1bP0;0;0q"1;1;64;64')
        body = rows[row].partition("q")[2]
        assert body.rfind(";2;") < min(body.find("~"), body.find("-")), "all colours come before the first pixel"


@pytest.mark.parametrize("kind", ["kitty", "sixel"])
async def test_behind_a_dialog_half_blocks_stand_and_pixels_come_back(
    kind: Graphics, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with painted(kind, monkeypatch) as app:
        pixels = app.shown()
        await app.push_screen(ModalScreen())
        behind = "".join(strip.text for strip in app.canvas.render_lines(Region(0, 0, 40, 6)))
        assert behind.count("▀") == 32
        app.pop_screen()
        await until(lambda: app.shown() == pixels)
        assert app.shown() == pixels


@pytest.mark.parametrize("what", ["scrolled", "toast"])
async def test_sixels_that_are_cut_or_covered_give_way_to_half_blocks(
    what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with painted("sixel", monkeypatch) as app:
        assert "\x1bP" in app.shown()
        if what == "scrolled":
            app.screen.query_one(VerticalScroll).scroll_to(y=2, animate=False)
        else:
            app.notify("over it\n" * 6)
        await until(lambda: "\x1bP" not in app.shown())
        assert "\x1bP" not in app.shown()
        assert "▀" in app.shown()
        if what == "scrolled":
            app.screen.query_one(VerticalScroll).scroll_to(y=1, animate=False)
        else:
            app.clear_notifications()
        await until(lambda: "\x1bP" in app.shown())
        assert "\x1bP" in app.shown(), "and come back"


def test_the_library_is_imported_without_a_question_to_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("textual_image")]:
        monkeypatch.delitem(sys.modules, name)
    asked: list[str] = []

    class Terminal:
        """A terminal that would have to be asked."""

        encoding = "utf-8"

        def isatty(self) -> bool:
            return True

        def write(self, text: str) -> None:
            asked.append(text)

        def flush(self) -> None: ...

    monkeypatch.setattr(sys, "__stdout__", Terminal())
    for kind in ("kitty", "sixel"):
        found = encoding.encode(kind, np.zeros((30, 20, 3), np.uint8), CELL)  # type: ignore[arg-type]
        assert len(found.rows) == 2
    assert asked == []
