"""The braille raster: what is connected, what is not, and which cell a value lands in."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tui.charts.raster import Window, draw_line, draw_markers, thin, to_braille

UNIT = Window(0.0, 1.0, 0.0, 1.0)
ROWS, COLUMNS = 5, 12


def line(x: list[float], y: list[float], window: Window = UNIT) -> NDArray[np.bool_]:
    return dots(draw_line(np.array(x, float), np.array(y, float), window, COLUMNS, ROWS))


def dots(patterns: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """What is seen of braille patterns: (4R, 2C) of (R, C), by the numbers that Unicode gives to the dots of a cell."""
    bits = np.array([[0, 3], [1, 4], [2, 5], [6, 7]])
    cells = (patterns[:, :, None, None] >> bits) & 1
    return cells.transpose(0, 2, 1, 3).reshape(4 * len(patterns), -1).astype(np.bool_)


def is_connected(seen: NDArray[np.bool_]) -> bool:
    """Whether every dot can be reached from any other over neighbours, diagonal ones too."""
    todo = {(int(row), int(column)) for row, column in np.argwhere(seen)}
    front = [todo.pop()]
    while front:
        row, column = front.pop()
        near = {(row + down, column + across) for down in (-1, 0, 1) for across in (-1, 0, 1)} & todo
        todo -= near
        front.extend(near)
    return not todo


@given(st.lists(st.floats(0, 1), min_size=2, max_size=60), st.randoms(use_true_random=False))
def test_a_curve_is_connected_however_it_jumps(y, random):
    x = sorted(random.random() for _ in y)
    assert is_connected(line(x, y))


def test_a_gap_disconnects_the_curve():
    x = [0.0, 0.3, 0.5, 0.7, 1.0]
    assert is_connected(line(x, [0.1, 0.2, 0.4, 0.8, 0.9]))
    for gap in (np.nan, np.inf, -np.inf):
        seen = line(x, [0.1, 0.2, gap, 0.8, 0.9])
        assert not is_connected(seen)
        assert not seen[:, 2 * COLUMNS // 2 - 1 : 2 * COLUMNS // 2 + 1].any()


def test_every_column_between_two_points_has_a_dot():
    seen = line([0.0, 1.0], [0.0, 1.0])
    assert seen.any(axis=0).all()
    assert seen[-1, 0]
    assert seen[0, -1]
    assert not seen[0, 0]


def test_a_lone_point_is_one_dot():
    seen = line([0.5], [1.0])
    assert seen.sum() == 1
    assert seen[0].any()


def test_no_point_is_no_dot():
    assert not line([], []).any()
    assert not line([0.2, 0.4], [np.nan, np.inf]).any()


def test_one_spike_among_ten_thousand_points_is_seen():
    x = np.linspace(0, 1, 10_000)
    y = np.full(10_000, 0.1)
    flat = dots(draw_line(x, y, UNIT, COLUMNS, ROWS))
    y[2_500] = 1.0
    spiked = dots(draw_line(x, y, UNIT, COLUMNS, ROWS))
    assert not flat[0].any()
    assert np.flatnonzero(spiked[0]).tolist() == [round(0.25 * (2 * COLUMNS - 1))]


@pytest.mark.parametrize(
    ("x", "y", "cell"),
    [(0, 0, (ROWS - 1, 0)), (0, 1, (0, 0)), (1, 0, (ROWS - 1, COLUMNS - 1)), (1, 1, (0, COLUMNS - 1))],
)
def test_the_corners_of_the_window_are_the_corners_of_the_picture(x, y, cell):
    rows, columns = draw_markers(np.array([float(x)]), np.array([float(y)]), UNIT, COLUMNS, ROWS)
    assert (rows[0], columns[0]) == cell
    lone = draw_line(np.array([float(x)]), np.array([float(y)]), UNIT, COLUMNS, ROWS)
    assert np.argwhere(lone).tolist() == [list(cell)]


def test_what_lies_outside_the_window_lands_on_its_edge():
    assert line([0.5], [7.0])[0].any()
    assert line([0.5], [-7.0])[-1].any()


def test_braille_patterns_are_those_of_unicode():
    top, bottom = np.array([0, 0, 3, 4, 1, 4, 4, 0]), np.array([3, 3, 3, -1, 2, -1, -1, 1])
    assert [chr(0x2800 + code) for code in to_braille(top, bottom, 1)[0].tolist()] == ["⣿", "⡀", "⠆", "⠘"]
    assert to_braille(top + 4, bottom + 4 * (bottom >= 0), 2)[:, 0].tolist() == [0, 0xFF]


@given(st.lists(st.one_of(st.floats(-5, 5), st.just(np.nan)), max_size=200), st.integers(1, 20))
def test_thinning_keeps_extremes_and_at_most_two_points_a_column(y, columns):
    x = np.linspace(0, 1, len(y))
    kept_x, kept_y = thin(x, np.array(y, float), UNIT, columns)
    assert len(kept_x) == len(kept_y) <= 2 * columns
    assert (np.diff(kept_x) >= 0).all()
    if not np.isnan(y).all():
        assert np.nanmax(kept_y) == np.nanmax(y)
        assert np.nanmin(kept_y) == np.nanmin(y)
