"""Histograms in the health screen: what is drawn of given counts, and that it follows run, layer and size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from studio_driver import studio
from textual.widgets import DataTable

from engine.insight.facts import Checkup, LayerHealth
from engine.insight.histograms import CODES, Histogram, Spread
from engine.runs.history import History
from presets import load
from tui.widgets.histogram import axis_of, bars, shades, spread_text

SIZES = [(80, 24), (120, 40), (200, 60)]


def histogram(*numbers: float) -> Histogram:
    codes = np.array(numbers, np.float32).view(np.uint32) >> 21
    (made,) = Histogram.each(np.bincount(codes, minlength=CODES)[None], [len(numbers)], [0])
    return made


def bell(size: float = 1.0, *more: float) -> Histogram:
    return histogram(*(np.random.default_rng(0).normal(0, size, 2000)), *more)


def history_of(past: dict[int, dict[str, Spread]]) -> History:
    history = History()
    history.spreads = past
    step = max(past)
    history.checkup = Checkup(step, [LayerHealth(name, 0.1, 1.0, 1e-3) for name in past[step]], past[step])
    return history


class TestDrawing:
    def test_bars_are_as_high_as_the_counts_and_a_few_are_seen_beside_many(self) -> None:
        assert bars(np.array([0.0, 1.0, 500.0, 1000.0]), 2) == ["   █", " ▁██"]
        assert bars(np.zeros(3), 2) == ["   ", "   "]

    def test_shades_differ_without_colour(self) -> None:
        assert shades(np.array([0.0, 1.0, 500.0, 750.0, 1000.0])) == " ░▒▓█"

    def test_a_few_far_numbers_do_not_squeeze_the_rest_into_one_column(self) -> None:
        axis = axis_of([bell(1.0, 1e6)], 30, powers=False)

        assert axis is not None
        assert -4 < axis.edges[0] < -2
        assert 2 < axis.edges[-1] < 4
        assert sum(count > 0 for count in bell(1.0, 1e6).columns(axis.edges)) == 30

    def test_by_powers_sizes_of_many_magnitudes_have_columns_of_their_own(self) -> None:
        numbers = histogram(*(sign * 10.0**power for sign in (-1, 1) for power in range(-9, 1)))

        even, powers = (axis_of([numbers], 39, powers=powers) for powers in (False, True))

        assert even is not None
        assert powers is not None
        assert (numbers.columns(even.edges) >= 0.5).sum() <= 5
        assert (numbers.columns(powers.edges) >= 0.5).sum() >= 16

    def test_of_zeros_and_wild_numbers_alone_there_is_no_axis(self) -> None:
        assert axis_of([histogram(0.0, float("nan"))], 30, powers=False) is None
        assert axis_of([], 30, powers=True) is None

    @pytest.mark.parametrize("powers", [False, True])
    @pytest.mark.parametrize("width", [60, 76, 106, 156])
    @pytest.mark.parametrize("height", [9, 15, 40])
    def test_it_fills_the_room_it_is_given(self, width: int, height: int, powers: bool) -> None:
        past = [(step, Spread(bell(), bell(3.0, float("nan")), bell(1e-9))) for step in range(1, 60)]

        lines = spread_text(past, width, height, powers=powers).plain.split("\n")

        assert len(lines) == height
        assert {len(line) for line in lines} <= set(range(width - 6, width + 1))
        assert "█" in lines[-3]

    def test_zero_and_the_median_are_marked_where_they_lie(self) -> None:
        past = [(1, Spread(histogram(*np.linspace(-1, 3, 1001)), bell(), bell()))]

        lines = spread_text(past, 100, 12, powers=False).plain.split("\n")

        weights = next(line for line in lines if "─" in line).split()[0]
        assert weights.index("┼") == pytest.approx(len(weights) / 4, abs=1)
        assert weights.index("▲") == pytest.approx(len(weights) / 2, abs=1)

    def test_what_was_not_counted_is_said_and_wild_numbers_are_told(self) -> None:
        past = [(5, Spread(bell(1.0, float("nan"), float("inf")), None, None))]

        page = spread_text(past, 100, 14, powers=False).plain

        assert "no gradient" in page
        assert "not seen" in page
        assert "NaN/inf 2" in page
        assert "no NaN" not in page

    def test_of_zeros_alone_the_share_is_told_and_nothing_drawn(self) -> None:
        past = [(5, Spread(bell(), bell(), histogram(0.0, 0.0)))]

        page = spread_text(past, 100, 14, powers=False).plain

        assert "zeros 100%" in page
        assert "no gradient" not in page


@pytest.mark.parametrize("size", SIZES)
async def test_each_layer_has_its_histograms_and_they_follow_cursor_and_run(
    tmp_path: Path, size: tuple[int, int]
) -> None:
    none = Spread(bell(), bell(), None)
    async with studio(tmp_path, size) as opened:
        opened.app.desk.history = history_of({1: {"0 Linear": Spread(bell(), bell(), bell()), "2 Linear": none}})
        await opened.press("h")
        table = opened.app.screen.query_one("#health", DataTable)
        await opened.until(lambda: table.row_count == 2)
        if size[1] < 36:
            assert "activations" not in opened.page(), "the times have the room"
            await opened.press("enter")
        await opened.until(lambda: "activations 2,000" in opened.page())
        assert "gradients 2,000" in opened.page()
        await opened.press("down")
        await opened.until(lambda: "no gradient" in opened.page())
        even = opened.page()
        await opened.press("x")
        await opened.until(lambda: "±" in opened.page() and opened.page() != even)

        past = opened.app.desk.history.spreads
        opened.app.desk.history.spreads = {**past, 4321: {"0 Linear": none, "2 Linear": none}}
        await opened.until(lambda: "4.32k" in opened.page(), "the new line of the heat map")


async def test_where_the_screen_is_low_enter_brings_the_times_back(tmp_path: Path) -> None:
    async with studio(tmp_path, (80, 24)) as opened:
        opened.app.desk.history = history_of({1: {"0 Linear": Spread(bell(), bell(), bell())}})
        await opened.press("h")
        await opened.until(lambda: opened.app.screen.query_one("#health", DataTable).row_count)
        times = opened.app.screen.query_one("#times")
        assert times.display
        await opened.press("enter")
        assert not times.display
        await opened.press("enter")
        assert times.display
        assert "activations" not in opened.page()


async def test_a_layer_without_weights_and_a_run_of_before_say_why_there_are_none(tmp_path: Path) -> None:
    async with studio(tmp_path) as opened:
        history = history_of({1: {"0 Linear": Spread(bell())}})
        history.checkup = Checkup(1, [LayerHealth("1 ReLU", dead=0.1)])
        opened.app.desk.history = history
        await opened.press("h")
        await opened.until(lambda: "1 ReLU has no weights" in opened.page())
        history.spreads = {}
        await opened.until(lambda: "No histograms were kept" in opened.page())


async def test_a_run_that_was_trained_and_opened_again_shows_the_same_histograms(tmp_path: Path) -> None:
    recipe = load("line-fit").recipe.override({"training.epochs": 3, "training.health_every": 5})
    async with studio(tmp_path, recipe=recipe) as opened:
        await opened.press("t")
        await opened.until_state("done")
        await opened.press("h")
        await opened.until(lambda: "weights " in opened.page() and "▲" in opened.page())
        kept = opened.app.desk.history.spreads
        await opened.press("escape", "r")
        await opened.until(lambda: opened.app.screen.query("#runs") and opened.app.screen.query_one("#runs").row_count)
        await opened.press("enter")
        await opened.until(lambda: opened.app.desk.job is None, "showing the run from its directory")
        await opened.press("h")
        await opened.until(lambda: "weights 20" in opened.page() and "▲" in opened.page())
        assert len(kept) > 10
        assert opened.app.desk.history.spreads == kept
