"""How soon the studio is there, and that what is there first is true."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from studio_driver import studio
from textual.screen import Screen

import presets
from engine.runs.history import History, Progress
from tui.app import StudioApp
from tui.screens.studio import StudioScreen
from tui.training import Desk
from tui.widgets.keys import Keys


def test_the_first_frame_is_painted_before_torch_is_imported(tmp_path: Path) -> None:
    code = """
        import asyncio, sys
        from pathlib import Path
        from tui.app import StudioApp
        from tui.training import Desk

        async def main():
            app = StudioApp(Path(sys.argv[1]))
            frames = []
            def load(self):
                frames.append(("torch" in sys.modules, "numpy" in sys.modules, app.export_screenshot()))
            Desk.load = load
            async with app.run_test(size=(120, 40)) as pilot:
                while not frames:
                    await pilot.pause(0.05)
            loaded, _, picture = frames[0]
            assert not loaded, "torch was imported before the first frame"
            assert "digits-mlp" in picture and "Train" in picture, "there was no first frame"
        asyncio.run(main())
    """
    ran = subprocess.run([sys.executable, "-c", textwrap.dedent(code), str(tmp_path)], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr[-2000:]


async def test_nothing_is_composed_that_is_not_painted_and_all_else_comes_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    painted: list[bool] = []
    before_the_rest: list[int] = []
    display, rest = StudioApp._display, StudioScreen._after_first_frame

    def displayed(app: StudioApp, screen: Screen[object], update: Any) -> None:
        if isinstance(screen, StudioScreen):
            painted.append(app._batch_count == 0)
        display(app, screen, update)

    def counted(screen: StudioScreen) -> None:
        before_the_rest.append(len(painted))
        rest(screen)

    monkeypatch.setattr(StudioApp, "_display", displayed)
    monkeypatch.setattr(StudioScreen, "_after_first_frame", counted)
    async with studio(tmp_path, loaded=False) as opened:
        assert "mnist5k" in opened.text("#data-body")
        await opened.until(lambda: before_the_rest, "the rest")
    assert before_the_rest[0] > 0
    assert all(painted)


async def test_the_keys_are_read_and_painted_anew_only_where_others_do_something(tmp_path: Path) -> None:
    async with studio(tmp_path, loaded=False) as opened:
        keys = opened.screen.query_one(Keys)
        await opened.until(lambda: "palette" in opened.page().splitlines()[-1], "the keys")
        await opened.press("down")  # what the start itself changes is over
        before = keys.shown
        await opened.press("down")  # another preset, the same keys
        opened.screen.refresh_bindings()
        await opened.pilot.pause()
        assert keys.shown is before
        await opened.press("2")  # a layer can be added here
        await opened.until(lambda: "Add" in opened.page().splitlines()[-1], "the keys of the model")


async def test_no_key_is_cut_off_and_those_for_every_pane_are_there_at_80_columns(tmp_path: Path) -> None:
    async with studio(tmp_path, (80, 24), loaded=False) as opened:
        for number, first in ((2, "Edit"), (3, "Choose")):  # those with the most keys of their own
            await opened.press(str(number))
            await opened.until(lambda first=first: first in opened.page().splitlines()[-1], "the keys of the pane")
            keys = opened.screen.query_one(Keys)
            assert keys.shown[-1].description in opened.page().splitlines()[-1]
            assert {"?", "f", "E"} <= {key.sign for key in keys.shown}
        await opened.pilot.resize_terminal(120, 40)
        await opened.until(lambda: "palette" in opened.page().splitlines()[-1], "more of them")


async def test_a_click_on_a_key_presses_it_and_the_mouse_over_it_tells_what_it_does(tmp_path: Path) -> None:
    async with studio(tmp_path, loaded=False) as opened:
        keys, app = opened.screen.query_one(Keys), opened.app
        await opened.until(lambda: keys.palette is not None, "the keys")
        row = opened.page().splitlines()[-1]
        await opened.pilot.hover(offset=(row.index("Train"), keys.region.y))
        assert keys.tooltip == "Train the recipe on the desk"
        await opened.pilot.hover(offset=(row.index("palette") - 10, keys.region.y))  # between the two
        assert not keys.tooltip
        await opened.pilot.click(offset=(row.index("palette"), keys.region.y))
        await opened.until(lambda: type(app.screen).__name__ == "CommandPalette", "the palette")
        await opened.press("escape")
        await opened.pilot.click(offset=(row.index("Help"), keys.region.y))
        await opened.until(lambda: app.screen.query("HelpPanel"), "the help")


async def test_the_first_step_is_told_at_once_and_the_next_within_a_second(tmp_path: Path) -> None:
    async with studio(tmp_path, loaded=False) as opened:
        opened.app.desk.history = history = History()
        history.progress = Progress(state="training", steps=90)
        opened.screen.catch_up()
        for step in (1, 2):
            history.progress = Progress(state="training", steps=90, step=step)
            opened.screen._tick(everything=False)
            assert "step 1/90" in opened.text("#bars")
        await opened.until(lambda: "step 2/90" in opened.text("#bars"), "the second step", seconds=5)


async def test_at_80_columns_the_state_and_both_legends_have_room(tmp_path: Path) -> None:
    async with studio(tmp_path, size=(80, 24), loaded=False) as opened:
        opened.app.desk.history = history = History()
        history.progress = Progress(state="training", steps=90, step=3)
        for part in ("train", "val"):
            for metric in ("loss", "accuracy"):
                history.add(f"{part}/{metric}", np.arange(1, 4), np.array([0.7512, 0.6512, 0.5512]))
        await opened.press("5", "e", "w")
        opened.screen.catch_up()
        await opened.pilot.pause()
        page = opened.page()
        assert "● training" in page
        for title in ("loss", "accuracy"):
            (header,) = (line for line in page.splitlines() if f"{title}  ━" in line)
            assert "val 0.5512" in header.partition(title)[2].partition("━")[2].partition("━")[0]
        assert page.count("━ mean 0.6442") == 2


async def test_that_a_training_waits_for_torch_is_said_until_it_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded, load = threading.Event(), Desk.load

    def late(desk: Desk) -> None:
        loaded.wait(30)
        load(desk)

    monkeypatch.setattr(Desk, "load", late)
    recipe = presets.load("line-fit").recipe.override({"training.epochs": 1})
    async with studio(tmp_path, recipe=recipe, loaded=False) as opened:
        await opened.press("t")
        await opened.until(lambda: len(opened.app._notifications), "that it waits")
        loaded.set()
        await opened.until(lambda: opened.app.desk.history is not None, "the training")
        await opened.until(lambda: not len(opened.app._notifications), "a clear view of its steps", seconds=2)
        await opened.until_state("done")
