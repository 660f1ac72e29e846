"""The health screen: what it says of numbers, and that it follows the run that is shown."""

from __future__ import annotations

from pathlib import Path

import pytest
from studio_driver import studio
from textual.widgets import DataTable

from engine.insight.facts import Checkup, LayerHealth, Times
from engine.runs.history import History
from presets import load
from tui.dialogs.health import time_bars, track, verdict

SHARES = {"data": 0.1, "copy": 0.0, "forward": 0.3, "backward": 0.4, "optimizer": 0.1, "metrics": 0.05, "other": 0.05}


@pytest.mark.parametrize(
    ("layer", "word"),
    [
        (LayerHealth("a", 0.1, 1.0, 1e-3), "usual"),
        (LayerHealth("a", 0.1, 1.0, 0.5), "large"),
        (LayerHealth("a", 0.1, 1.0, 1e-7), "tiny"),
        (LayerHealth("a", 0.0, 1.0, 0.0), "stands still"),
        (LayerHealth("a", float("nan"), 1.0, 1e-3), "not a number"),
        (LayerHealth("a", dead=0.8), "mostly dead"),
        (LayerHealth("a", dead=0.1), "alive"),
    ],
)
def test_a_layers_numbers_have_a_word(layer: LayerHealth, word: str) -> None:
    assert verdict(layer).plain == word


def test_the_track_is_logarithmic_and_takes_any_number() -> None:
    places = [track(ratio).index("●") for ratio in (0.0, 1e-9, 1e-6, 1e-3, 1.0, 1e9)]
    assert places == [0, 0, 0, 6, 12, 12]
    assert track(None) == track(float("nan")) == ""


def test_the_bars_of_a_steps_time_fill_the_width_and_end_with_the_verdict() -> None:
    *bars, words = time_bars(Times(SHARES, "computes 80% of the time"), 60).plain.split("\n")
    assert words == "→ computes 80% of the time"
    assert {len(bar) for bar in bars} <= {58, 59, 60}
    assert bars[3].count("█") == pytest.approx(4 * bars[0].count("█"), abs=2)


async def test_the_table_follows_the_run_and_keeps_the_cursor(tmp_path: Path) -> None:
    async with studio(tmp_path) as opened:
        await opened.press("h")
        assert "No run is shown" in opened.page()
        history = opened.app.desk.history = History()
        history.times = Times(SHARES, "computes 80% of the time")
        layers = [LayerHealth(f"layer {number}", 0.1, 1.0, 1e-3) for number in range(5)]
        history.checkup = Checkup(100, layers)
        table = opened.app.screen.query_one("#health", DataTable)
        await opened.until(lambda: table.row_count == 5)
        await opened.press("down", "down", "down")
        history.checkup = Checkup(200, [*layers[:-1], LayerHealth("layer 4", 0.1, 1.0, 0.5)])
        await opened.until(lambda: "large" in opened.page() and "step 200" in opened.page(), "the new values")
        assert table.cursor_row == 3
        history.checkup = Checkup(300, layers[1:])
        await opened.until(lambda: table.row_count == 4, "the layer that is gone")
        await opened.press("escape")
        assert opened.app.screen is opened.screen


async def test_times_and_layers_of_a_run_are_there_at_its_end_and_when_it_is_opened_again(tmp_path: Path) -> None:
    recipe = load("line-fit").recipe.override({"training.epochs": 2})
    async with studio(tmp_path, recipe=recipe) as opened:
        await opened.press("t")
        await opened.until_state("done")
        await opened.press("h")
        await opened.until(lambda: "forward" in opened.page() and "Layers at step 1" in opened.page())
        await opened.press("escape", "r")
        await opened.until(lambda: opened.app.screen.query("#runs") and opened.app.screen.query_one("#runs").row_count)
        await opened.press("enter")
        await opened.until(lambda: opened.app.desk.job is None, "showing the run from its directory")
        await opened.press("h")
        await opened.until(lambda: "Layers at step 1" in opened.page())
        assert "time:" in opened.text("#times"), "the log's line on the times"


async def test_a_run_whose_layers_were_never_looked_at_says_which_setting_does_that(tmp_path: Path) -> None:
    recipe = load("line-fit").recipe.override({"training.epochs": 1, "training.health_every": 0})
    async with studio(tmp_path, recipe=recipe) as opened:
        await opened.press("t")
        await opened.until_state("done")
        await opened.press("h")
        await opened.until(lambda: "training.health_every" in opened.page())
