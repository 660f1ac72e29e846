"""The studio under test: opened at a size, with torch loaded, and waited for instead of slept for."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

from textual import _wait
from textual.pilot import Pilot
from textual.widgets import Static

from engine.recipe import Recipe
from engine.recipe.file import RecipeFile
from tui.app import StudioApp
from tui.screens.studio import StudioScreen


@dataclass
class Studio:
    """The app, its pilot, and what a person would read off the screen."""

    app: StudioApp
    pilot: Pilot[None]

    @property
    def screen(self) -> StudioScreen:
        screen = self.app.screen_stack[1]
        assert isinstance(screen, StudioScreen)
        return screen

    @property
    def state(self) -> str:
        history = self.app.desk.history
        return history.progress.state if history else "ready"

    def text(self, selector: str) -> str:
        """What stands in a widget that shows text."""
        return str(self.app.screen.query_one(selector, Static).content)

    def page(self) -> str:
        """Everything on the screen."""
        width, height = self.app.size
        lines = self.app.screen._compositor.render_strips()
        return "\n".join("".join(segment.text for segment in line) for line in lines[:height])[: (width + 1) * height]

    async def press(self, *keys: str) -> None:
        for key in keys:
            await self.pilot.press(key)
        await self.pilot.pause()

    async def until(
        self, reached: Callable[[], object], what: str = "", seconds: float = 30.0, pause: float = 0.05
    ) -> None:
        """Wait for something, looking every `pause` seconds; fails with the screen as it is when it does not come."""
        end = time.monotonic() + seconds
        while not reached():
            assert time.monotonic() < end, f"{what or 'it'} did not happen:\n{self.page()}"
            await self.pilot.pause(pause)

    async def until_state(self, *states: str) -> None:
        await self.until(lambda: self.state in states, f"state {states}, now {self.state}")
        await self.pilot.pause(0.3)  # what follows the state, such as the last rows
        self.screen.catch_up()
        await self.pilot.pause()


@asynccontextmanager
async def studio(
    runs: Path,
    size: tuple[int, int] = (120, 40),
    recipe: Recipe | None = None,
    *,
    loaded: bool = True,
    file: RecipeFile | None = None,
) -> AsyncIterator[Studio]:
    """The studio with torch loaded and the first recipe checked."""
    app = StudioApp(runs, file.recipe if file else recipe, file.path.stem if file else "", file=file)
    # Textual's pilot waits, three times a key, until the process idles, a second at most. A training in another thread
    # never idles, and it is the screen's thread alone that has to be done with a key.
    with patch.object(_wait, "process_time", time.thread_time):
        async with app.run_test(size=size) as pilot:
            opened = Studio(app, pilot)
            await pilot.pause()
            if loaded:
                await opened.until(lambda: opened.screen.ready and opened.screen.checked, "loading torch")
                await opened.until(
                    lambda: opened.screen.preview is not None or not recipe_is_ready(opened), "the preview"
                )
            try:
                yield opened
            finally:
                app.desk.stop()
                app.desk.join()


def recipe_is_ready(opened: Studio) -> bool:
    checked = opened.screen.checked
    return bool(checked and checked.source and checked.source.ready)
