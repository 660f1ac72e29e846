"""Draws the pictures of the README and the guide: the real studio, really training, at the moment worth showing.

Run by `make screenshots`. Terminal SVGs scale without loss and need no program but this one.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from textual.pilot import Pilot
from textual.widgets import Input

from presets import load
from tui.app import StudioApp
from tui.screens.studio import StudioScreen
from tui.training import Changes

HERE = Path(__file__).parent
Act = Callable[[StudioApp, Pilot[Any]], Awaitable[None]]


async def shoot(name: str, size: tuple[int, int], preset: str, act: Act) -> None:
    """One picture: open the studio on a preset, act, save `docs/NAME.svg`."""
    app = StudioApp(Path("runs"), load(preset).recipe, preset)
    async with app.run_test(size=size) as pilot:
        screen = app.screen_stack[1]
        assert isinstance(screen, StudioScreen)
        while not (screen.ready and screen.checked and screen.preview):
            await pilot.pause(0.05)
        await pilot.pause(3)  # the device pane's graph needs some seconds of past
        await act(app, pilot)
        (HERE / f"{name}.svg").write_text(app.export_screenshot(title=f"torch-tui · {preset}"), encoding="utf-8")
        app.desk.stop()
        app.desk.join()


async def until_step(app: StudioApp, pilot: Pilot[Any], step: int) -> None:
    while app.desk.history is None or app.desk.history.progress.step < step:
        await pilot.pause(0.1)
    await pilot.pause(0.5)


async def train(app: StudioApp, pilot: Pilot[Any]) -> None:
    await pilot.press("t")
    await until_step(app, pilot, 420)


async def change_rate(app: StudioApp, pilot: Pilot[Any]) -> None:
    await pilot.press("t")
    await until_step(app, pilot, 150)
    app.desk.change(Changes(learning_rate=0.02))
    await until_step(app, pilot, 420)


async def add_layer(app: StudioApp, pilot: Pilot[Any]) -> None:
    await pilot.press("2", "down", "a")
    await pilot.pause(0.5)
    app.screen.query_one(Input).cursor_blink = False
    await pilot.press(*"batchn")
    await pilot.pause(0.5)


async def draw(app: StudioApp, pilot: Pilot[Any]) -> None:
    await pilot.press("2", "g")
    await pilot.pause(0.5)


async def browse(app: StudioApp, pilot: Pilot[Any]) -> None:
    await pilot.press("3", "v")
    await pilot.pause(2)
    await pilot.press("o", "c", "down", "down", "down", "enter")  # the oddest threes
    await pilot.pause(3)


async def before_and_after(app: StudioApp, pilot: Pilot[Any]) -> None:
    screen, augment = app.screen, [{"name": "RandomRotation", "degrees": 30}, {"name": "RandomErasing", "p": 1.0}]
    assert isinstance(screen, StudioScreen)
    screen.edit(lambda: screen.draft.set("data.augment", augment))
    await pilot.pause(3)
    await pilot.press("3", "a")
    await pilot.pause(3)


async def finish(app: StudioApp, pilot: Pilot[Any]) -> None:
    await pilot.press("t")
    while app.desk.history is None or app.desk.history.progress.state != "done":
        await pilot.pause(0.1)
    await pilot.pause(1)


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)  # so that the pictures say `runs/…` as they do for a person
        await shoot("studio", (120, 40), "digits-cnn", change_rate)
        await shoot("studio-80x24", (80, 24), "digits-cnn", train)
        await shoot("add-layer", (120, 40), "digits-cnn", add_layer)
        await shoot("diagram", (120, 40), "digits-resnet", draw)
        await shoot("samples", (120, 40), "digits-cnn", browse)
        await shoot("transforms", (120, 40), "digits-cnn", before_and_after)
        await shoot("done", (120, 40), "diabetes-mlp", finish)


if __name__ == "__main__":
    asyncio.run(main())
