"""Pictures in cells: two pixels a cell, averaged down, and readable without colour."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from rich.style import Style
from studio_driver import studio

from tui.widgets.gallery import Gallery
from tui.widgets.picture import beside, fit, half_blocks, row_width, shades


def test_shrinking_averages_and_keeps_the_shape() -> None:
    picture = np.zeros((28, 28), np.uint8)
    picture[:, 14:] = 200
    small = fit(picture, columns=7, rows=20)
    assert small.shape == (7, 7)
    assert small[0, 0] == 0
    assert small[0, -1] == 200
    assert fit(picture, columns=100, rows=100).shape == (28, 28), "a picture is never enlarged"


def test_a_cell_holds_the_upper_pixel_over_the_lower() -> None:
    picture = np.array([[[255, 0, 0]], [[0, 0, 255]], [[9, 9, 9]]], np.uint8)
    lines = half_blocks(picture)
    assert [[cell.text for cell in line] for line in lines] == [["▀"], ["▀"]]
    style = lines[0][0].style
    assert isinstance(style, Style)
    assert style.color is not None
    assert style.bgcolor is not None
    assert (style.color.triplet, style.bgcolor.triplet) == ((255, 0, 0), (0, 0, 255))


def test_without_colour_brighter_cells_have_heavier_characters() -> None:
    picture = np.array([[0, 128, 255], [0, 128, 255]], np.uint8)
    (line,) = shades(picture)
    assert line[0].text == " "
    assert line[2].text == "@"
    assert line[1].text not in " @"


def test_blocks_stand_beside_each_other_whatever_their_heights() -> None:
    lines = beside([half_blocks(np.zeros((4, 3), np.uint8)), half_blocks(np.zeros((2, 2), np.uint8))])
    assert [row_width(line) for line in lines] == [7, 7]


async def test_the_studio_draws_samples_without_colour_where_it_is_not_wanted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    async with studio(tmp_path) as opened:
        await opened.until(lambda: "@" in opened.screen.query_one(Gallery).text, "the samples")
        assert "▀" not in opened.screen.query_one(Gallery).text
    monkeypatch.delenv("NO_COLOR", raising=False)
    async with studio(tmp_path) as opened:
        await opened.until(lambda: "▀" in opened.screen.query_one(Gallery).text, "the samples")
