"""The live chart: limits that stay, a frame that is drawn once, and the widget in a real app."""

from __future__ import annotations

import contextlib
import io
import operator
import os
import re

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from textual.app import App, ComposeResult
from textual.geometry import Size

from tui.charts.axis import Limits, linear_ticks, log_limits, log_ticks, number_labels, value_label, x_limits, y_limits
from tui.charts.chart import Chart, Line
from tui.charts.frame import draw_frame
from tui.charts.raster import draw_markers
from tui.charts.text_chart import chart_text

# NumPy's warnings, like anything printed, would land in the middle of the screen.
pytestmark = pytest.mark.filterwarnings("error::RuntimeWarning")

BRAILLE = re.compile("[\u2801-\u28ff]")
WIDE = st.floats(-1e30, 1e30)
ANY = st.floats(allow_nan=True, allow_infinity=True)


class ChartApp(App[None]):
    CSS = "Chart { height: 1fr; }"

    def compose(self) -> ComposeResult:
        yield Chart("Loss")


def curve(values, label="train", colour="primary", points=False, x=None) -> Line:
    y = np.array(values, float)
    return Line(label, np.arange(len(y), dtype=float) if x is None else np.array(x, float), y, colour, points)


def painted(chart):
    return [chart.render_line(y) for y in range(chart.size.height)]


def rows(chart: Chart) -> list[str]:
    return [chart.render_line(y).text for y in range(chart.size.height)]


def foreground(chart: Chart, row: int, column: int) -> object:
    """The colour of one cell."""
    (segment,) = chart.render_line(row).crop(column, column + 1)
    assert segment.style is not None
    return segment.style.color


# Limits and ticks


def test_limits_hold_the_data_and_are_round():
    assert y_limits(0.13, 2.31) == Limits(0.0, 2.5)
    assert x_limits(0, 1740) == Limits(0.0, 2000.0)


def test_limits_stay_while_the_data_moves_inside_them():
    before = y_limits(0.1, 2.3)
    assert y_limits(0.2, 2.4, before) is before
    assert y_limits(0.2, 2.6, before) != before, "outgrown"
    assert y_limits(0.2, 0.3, before) != before, "the data fills a twentieth of the axis"


def test_the_x_axis_moves_a_few_times_in_a_hundred_thousand_steps():
    limits, seen = None, set()
    for step in range(1, 100_001, 100):
        limits = x_limits(0, step, limits)
        assert limits.low <= 0 <= step <= limits.high
        seen.add(limits)
    assert len(seen) < 40


def test_the_planned_end_is_the_end_of_the_x_axis_until_the_run_passes_it():
    assert x_limits(0, 10, end=500) == Limits(0.0, 500)
    assert x_limits(0, 501, end=500).high > 501


def test_a_resumed_run_does_not_begin_at_zero():
    assert x_limits(10_000, 11_900).low >= 9_000


@given(WIDE, WIDE)
@example(0.0, 0.0)
@example(1e30, 1e30)
@example(1e-30, 1e-30)
def test_limits_of_any_two_values_hold_both(one, other):
    low, high = sorted((one, other))
    for limits in (y_limits(low, high), x_limits(low, high)):
        slack = 1e-6 * limits.span
        assert limits.low - slack <= low <= high <= limits.high + slack
        assert limits.low < limits.high


@example(100.0, 0.001953125, 2)
@example(8.194990250487676e29, 70368744177665.0, 2)
@given(WIDE, st.floats(1e-6, 1e30), st.integers(2, 20))
def test_ticks_are_two_or_more_inside_the_axis_and_all_different(low, span, most):
    limits = y_limits(low, low + span)
    ticks = linear_ticks(limits, most)
    assert 2 <= len(ticks) <= most
    assert all(-1e-6 <= tick.position <= 1 + 1e-6 for tick in ticks)
    assert len({tick.label for tick in ticks}) == len(ticks)


@given(st.floats(-300, 300), st.floats(0, 300), st.integers(2, 20))
def test_logarithmic_ticks_are_two_or_more_inside_the_axis_and_all_different(low, span, most):
    ticks = log_ticks(log_limits(low, min(low + span, 300)), most)
    assert 2 <= len(ticks) <= most
    assert all(-1e-6 <= tick.position <= 1 + 1e-6 for tick in ticks)
    assert len({tick.label for tick in ticks}) == len(ticks)


@pytest.mark.parametrize(
    ("values", "labels"),
    [
        ([0.1 + 0.2, 0.4, 0.5], ["0.3", "0.4", "0.5"]),
        ([0, 0.05, 0.1], ["0", "0.05", "0.10"]),
        ([0, 500, 1000], ["0", "500", "1000"]),
        ([0, 5_000, 10_000], ["0", "5k", "10k"]),
        ([12_500, 13_000], ["12.5k", "13.0k"]),
        ([-2e6, 0, 2e6], ["-2M", "0", "2M"]),
        ([0, 1e-5, 2e-5], ["0", "1e-5", "2e-5"]),
        ([1e30, 2e30], ["1e30", "2e30"]),
    ],
)
def test_tick_labels_read_well(values, labels):
    assert number_labels(values) == labels


@pytest.mark.parametrize(
    ("value", "label"),
    [
        (0.25, "0.2500"),
        (98.123, "98.12"),
        (12345.0, "12.35k"),
        (1234.0, "1234"),
        (1e-5, "1.000e-5"),
        (0.0, "0"),
        (-0.5, "-0.5000"),
        (float("nan"), "–"),
    ],
)
def test_values_have_four_digits(value, label):
    assert value_label(value) == label


# The frame


def test_a_tick_stands_in_the_row_of_its_value():
    limits = Limits(0.0, 1.0)
    for height in range(6, 40):
        frame = draw_frame(60, height, Limits(0.0, 100.0), limits)
        for row in range(frame.rows):
            label = frame.text[row][: frame.left - 1].strip()
            if label:
                expected, _ = draw_markers(np.array([0.0]), np.array([float(label)]), frame.window, 10, frame.rows)
                assert row == expected[0], f"{label} at height {height}"


def test_the_frame_does_not_depend_on_the_terminal(monkeypatch):
    sizes = []
    for columns in (200, 30):
        monkeypatch.setattr("shutil.get_terminal_size", lambda columns=columns: os.terminal_size((columns, 5)))
        draw_frame.cache_clear()
        sizes.append(draw_frame(100, 30, Limits(0.0, 1.0), Limits(0.0, 1.0)))
    assert sizes[0] == sizes[1]
    assert {len(row) for row in sizes[0].text} == {100}
    assert len(sizes[0].text) == 30


def test_the_frame_leaves_the_figure_of_others_alone():
    import plotext

    before = (plotext.figure.size(), plotext.terminal.size(), list(plotext.terminal._limit))
    draw_frame(77, 22, Limits(0.0, 3.0), Limits(0.0, 3.0))
    assert (plotext.figure.size(), plotext.terminal.size(), list(plotext.terminal._limit)) == before


# The widget


async def test_show_paints_the_curve_and_the_newest_value():
    app = ChartApp()
    async with app.run_test(size=(60, 15)) as pilot:
        chart = app.query_one(Chart)
        assert "Press t to train" in "\n".join(rows(chart))
        chart.show([curve([2.0, 1.0, 0.5]), curve([1.9, 0.75], "val", "warning", points=True)])
        await pilot.pause()
        text = rows(chart)
        assert text[0].split() == ["Loss", "━", "train", "0.5000", "◆", "val", "0.7500"]
        assert BRAILLE.search("\n".join(text))
        assert sum(row.count("◆") for row in text[1:]) == 2
        assert "Press t" not in "\n".join(text)
        assert all(len(row) == 60 for row in text)


async def test_a_point_inside_the_limits_repaints_without_a_new_frame():
    app = ChartApp()
    async with app.run_test(size=(60, 15)):
        chart = app.query_one(Chart)
        chart.show([curve(np.linspace(2, 1, 80))], x_max=100)
        before = rows(chart)
        draw_frame.cache_clear()
        chart.show([curve([*np.linspace(2, 1, 80), 1.5])], x_max=100)
        assert rows(chart) != before
        assert draw_frame.cache_info().misses == 1, "the cache is empty, one frame is drawn"
        chart.show([curve([*np.linspace(2, 1, 80), 1.5, 1.2])], x_max=100)
        rows(chart)
        assert draw_frame.cache_info().misses == 1
        chart.show([curve([*np.linspace(2, 1, 80), 1.5, 9.0])], x_max=100)
        rows(chart)
        assert draw_frame.cache_info().misses == 2, "9 is outside"


async def test_showing_the_same_again_paints_nothing():
    app = ChartApp()
    async with app.run_test(size=(60, 15)):
        chart = app.query_one(Chart)
        chart.show([curve([2.0, np.nan, 0.5])])
        before = painted(chart)
        chart.show([curve([2.0, np.nan, 0.5])])
        assert all(map(operator.is_, painted(chart), before))
        chart.show([curve([2.0, np.nan, 0.6])])
        assert not all(map(operator.is_, painted(chart), before))


async def test_only_rows_that_differ_are_painted_again():
    app = ChartApp()
    async with app.run_test(size=(60, 15)) as pilot:
        chart = app.query_one(Chart)
        steady = [1.0] * 30
        chart.show([curve([*steady, 0.0, 2.0])], x_max=100)
        await pilot.pause()
        before = painted(chart)
        chart.show([curve([*steady, 0.0, 2.0, 1.9])], x_max=100)
        differ = [y for y, (old, new) in enumerate(zip(before, painted(chart), strict=True)) if old is not new]
        assert 0 in differ, "the newest value is in the legend"
        assert 1 <= len(differ) <= 4, "a point next to the last one touches the rows it passes"
        assert [strip.text for strip in before] != [strip.text for strip in painted(chart)]


async def test_a_chart_that_is_not_on_the_screen_is_painted_when_it_comes_back():
    app = ChartApp()
    async with app.run_test(size=(60, 15)) as pilot:
        chart = app.query_one(Chart)
        chart.show([curve([2.0, 1.0])])
        await pilot.pause()
        chart.display = False
        await pilot.pause()
        chart.show([curve([2.0, 1.0, 7.5])])
        chart.display = True
        await pilot.pause()
        assert "7.500" in rows(chart)[0]


async def test_nobody_writes_into_what_a_chart_shows():
    app = ChartApp()
    async with app.run_test(size=(60, 15)):
        chart = app.query_one(Chart)
        line = curve([2.0, 1.0, 0.5])
        chart.show([line])
        with pytest.raises(ValueError, match="read-only"):
            line.y[-1] = 0.25
        chart.show([curve([2.0, 1.0, 0.25])])
        assert "0.2500" in rows(chart)[0]


async def test_the_later_line_colours_a_shared_cell_and_markers_win():
    app = ChartApp()
    async with app.run_test(size=(60, 15)):
        chart = app.query_one(Chart)
        flat = [1.0, 1.0, 1.0]
        chart.show([curve(flat, "a", "primary"), curve(flat, "b", "error")])
        row, column = next(
            (y, match.start()) for y, text in enumerate(rows(chart)) if (match := BRAILLE.search(text)) is not None
        )
        later = foreground(chart, row, column)
        chart.show([curve(flat, "b", "error"), curve(flat, "a", "primary")])
        earlier = foreground(chart, row, column)
        assert later != earlier
        chart.show([curve(flat, "b", "error", points=True), curve(flat, "a", "primary")])
        assert rows(chart)[row][column] == "◆"
        assert foreground(chart, row, column) == later


async def test_a_mark_is_a_rule_with_its_character_on_the_axis():
    app = ChartApp()
    async with app.run_test(size=(60, 15)):
        chart = app.query_one(Chart)
        chart.show([curve(np.linspace(1, 2, 101))], marks=[(50, "l"), (5000, "x")])
        text = rows(chart)
        axis = next(row for row in text if "└" in row)
        assert "l" in axis
        assert "x" not in axis, "outside the axis"
        column = axis.index("l")
        assert sum(row[column] == "┊" for row in text) >= 10


async def test_a_logarithmic_axis_has_no_place_for_zero():
    app = ChartApp()
    async with app.run_test(size=(60, 15)):
        chart = app.query_one(Chart)
        chart.show([curve([100.0, 1.0, 0.01])])
        linear = rows(chart)
        chart.log_scale = True
        logarithmic = rows(chart)
        assert linear != logarithmic
        assert any(row.lstrip().startswith("0.1┤") for row in logarithmic)
        assert "log" in logarithmic[0]
        chart.show([curve([0.0, -1.0])])
        assert "No value above 0" in "\n".join(rows(chart))


async def test_another_theme_recolours_but_keeps_the_frame():
    app = ChartApp()
    async with app.run_test(size=(60, 15)) as pilot:
        chart = app.query_one(Chart)
        chart.show([curve([1.0, 1.0])])
        text = rows(chart)
        row, column = next((y, m.start()) for y, line in enumerate(text) if (m := BRAILLE.search(line)) is not None)
        before, misses = foreground(chart, row, column), draw_frame.cache_info().misses
        app.theme = "dracula"
        await pilot.pause()
        assert rows(chart) == text
        assert foreground(chart, row, column) != before
        assert draw_frame.cache_info().misses == misses


@pytest.mark.parametrize("theme", ["textual-dark", "textual-light", "ansi-dark", "ansi-light", "nord"])
async def test_every_kind_of_theme_is_painted(theme):
    app = ChartApp()
    async with app.run_test(size=(60, 15)) as pilot:
        app.theme = theme
        await pilot.pause()
        chart = app.query_one(Chart)
        chart.show([curve([1.0, 2.0], colour="primary"), curve([2.0, 1.0], "val", "text-warning", points=True)])
        assert BRAILLE.search("\n".join(rows(chart)))
        chart.show([curve([1.0, 2.0], colour="no-such-variable")])
        assert BRAILLE.search("\n".join(rows(chart)))


async def test_without_colour_shapes_still_tell_the_lines_apart(monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    app = ChartApp()
    async with app.run_test(size=(60, 15)) as pilot:
        chart = app.query_one(Chart)
        chart.show([curve([1.0, 2.0]), curve([2.0, 1.0], "val", "warning", points=True)])
        await pilot.pause()
        svg = app.export_screenshot()
        assert "◆" in svg
        assert BRAILLE.search(svg)


async def test_legend_entries_are_dropped_from_the_end():
    app = ChartApp()
    async with app.run_test(size=(24, 10)):
        chart = app.query_one(Chart)
        chart.show([curve([1.0, 0.5]), curve([1.0, 0.25], "val")])
        assert rows(chart)[0].rstrip() == "Loss  ━ train 0.5000"


@pytest.mark.parametrize("size", [(15, 4), (19, 10), (40, 4), (40, 1)])
async def test_where_no_axes_fit_the_newest_values_remain(size):
    app = ChartApp()
    async with app.run_test(size=size):
        chart = app.query_one(Chart)
        chart.show([curve([1.0, 0.5])])
        text = "\n".join(rows(chart))
        assert "Loss" in text
        assert "0.5000" in text
        assert not BRAILLE.search(text)


async def test_twenty_by_five_is_enough_for_a_curve():
    app = ChartApp()
    async with app.run_test(size=(20, 5)):
        chart = app.query_one(Chart)
        chart.show([curve([1.0, 0.5])])
        assert BRAILLE.search("\n".join(rows(chart)))


async def test_no_numbers_and_no_size_break_the_chart():
    app = ChartApp()
    async with app.run_test(size=(60, 15)):
        chart = app.query_one(Chart)

        @settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
        @given(
            st.lists(ANY, max_size=30), st.lists(ANY, max_size=4), st.integers(0, 90), st.integers(0, 30), st.booleans()
        )
        @example([], [], 60, 15, False)
        @example([np.nan], [np.inf], 60, 15, True)
        @example([1e-30, 1e30], [-1e30], 60, 15, True)
        @example([1.7e308, -1.7e308], [5e-324], 60, 15, False)
        @example([3.0] * 5, [3.0], 20, 5, False)
        def paint(values, few, width, height, log):
            chart.set_reactive(Chart.log_scale, log)
            chart.show([curve(values), curve(few, "val", "warning", points=True)], marks=[(1, "l"), (np.nan, "")])
            strips = chart._paint(Size(width, height))
            assert len(strips) <= height
            assert all(strip.cell_length == width for strip in strips)

        with contextlib.redirect_stdout(io.StringIO()) as printed:
            paint()
        assert printed.getvalue() == "", "whatever plotext prints lands in the middle of the screen"


def test_unequal_lengths_are_our_mistake():
    with pytest.raises(AssertionError, match="train"):
        Line("train", np.arange(3.0), np.arange(2.0), "primary")


# Plain text


def test_plain_text_has_no_escape_codes_and_keeps_its_size():
    text = chart_text(
        "Loss", [curve(np.linspace(2, 1, 5000)), curve([1.5, 1.2], "val", points=True)], 70, 16, colour=False
    )
    lines = text.split("\n")
    assert "\x1b" not in text
    assert lines[0] == "Loss   ━ train 1.000   ◆ val 1.200"
    assert len(lines) == 16
    assert max(map(len, lines)) <= 70
    assert BRAILLE.search(text)
    assert "◆" in "\n".join(lines[1:])


def test_coloured_text_is_the_same_picture():
    line = [curve(np.sin(np.linspace(0, 9, 300)))]
    plain, coloured = (chart_text("Loss", line, 70, 16, colour=colour) for colour in (False, True))
    assert "\x1b[" in coloured
    assert [row.rstrip() for row in re.sub("\x1b\\[[0-9;]*m", "", coloured).split("\n")] == plain.split("\n")


def test_a_gap_stays_a_gap_in_plain_text():
    values = np.full(100, 1.0)
    whole = chart_text("Loss", [curve(values)], 70, 16, colour=False)
    values[40:60] = np.nan
    gap = chart_text("Loss", [curve(values)], 70, 16, colour=False)
    assert len(BRAILLE.findall(gap)) < 0.9 * len(BRAILLE.findall(whole))


@settings(max_examples=100, deadline=None)
@given(st.lists(ANY, max_size=300), st.integers(0, 90), st.integers(1, 30))
def test_no_numbers_break_plain_text(values, width, height):
    text = chart_text("Loss", [curve(values)], width, height, colour=False)
    assert len(text.split("\n")) <= height
    assert max(map(len, text.split("\n"))) <= width


async def test_a_logarithmic_x_axis_gives_each_power_of_ten_the_same_room_and_leaves_zero_out():
    class RateApp(App[None]):
        def compose(self) -> ComposeResult:
            yield Chart("loss", x_label="lr", log_x=True)

    async with RateApp().run_test(size=(60, 15)) as pilot:
        chart = pilot.app.query_one(Chart)
        chart.show([curve([9.0, 2.0, 1.0, 0.5], points=True, x=[0.0, 1e-4, 1e-2, 1.0])], x_max=1.0)
        await pilot.pause()
        seen = rows(chart)
        (first, second) = (seen[-1].index(label) for label in ("1e-4", "0.01"))
        markers = sorted(row.index("◆") for row in seen[1:] if "◆" in row)
        assert len(markers) == 3, "the point at rate 0 is drawn"
        assert markers[1] - markers[0] == pytest.approx(markers[2] - markers[1], abs=1)
        assert abs(first - markers[0]) <= 3
        assert abs(second - markers[1]) <= 3


async def test_each_line_of_points_has_the_marker_it_was_given():
    async with ChartApp().run_test(size=(60, 15)) as pilot:
        chart = pilot.app.query_one(Chart)
        x = np.arange(1.0, 5.0)
        averaged = Line("val ema", x, -x, "success", points=True, marker="◇")
        chart.show([Line("val", x, x, "warning", points=True), averaged])
        await pilot.pause()
        text = "\n".join(rows(chart))
        assert "◇ val ema" in text
        assert (text.count("◇"), text.count("◆")) == (5, 5)
