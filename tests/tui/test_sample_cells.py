"""Samples in cells: tiles, texts, tables; masks and boxes that need no colour; pixels where terminals have them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from rich.segment import Segment

from engine.data.preview import Box, Sample
from tui.dialogs.data.effect import _rows
from tui.panes.data_text import _balance
from tui.widgets.graphics import terminal
from tui.widgets.picture import Row, boxed, fit, legend, masked, row_width, wave
from tui.widgets.samples import capacity, draw_page, whole


def text(rows: Any) -> list[str]:
    return ["".join(segment.text for segment in row) for row in rows]


def pictures(count: int, height: int = 28, width: int = 28) -> list[Sample]:
    blank = np.zeros((height, width), np.uint8)
    return [Sample(f"kind {n}", n, f"a/very/long/path/of/file-{n}.png", picture=blank) for n in range(count)]


@pytest.mark.parametrize("size", [(78, 20), (118, 36), (198, 56), (30, 8)])
@pytest.mark.parametrize("shape", [(28, 28), (480, 640), (200, 20), (20, 400)])
def test_as_many_tiles_as_are_said_to_fit_do_fit(size: tuple[int, int], shape: tuple[int, int]) -> None:
    width, height = size
    count = capacity(pictures(1, *shape)[0], width, height)
    page = draw_page(pictures(count, *shape), (), width, height, colour=True)
    assert len(page.places) == count
    assert max(map(row_width, page.rows)) <= width + 1
    assert len(page.rows) <= max(height, 8)
    for left, top, wide, tall in page.places:
        assert left + wide <= width
        assert top + tall <= len(page.rows)


def test_a_tile_has_its_label_its_number_and_the_end_of_its_path() -> None:
    rows = text(draw_page(pictures(3), (), 100, 40, colour=True, selected=1).rows)
    assert rows[0].split("  ")[0].strip() == "kind 0"
    assert "▸kind 1" in rows[0], "what is marked is seen without colour"
    assert "#2 …" in rows[1]
    assert "file-2.png" in rows[1]


def test_before_and_after_show_no_name_without_its_picture() -> None:
    pairs = [(sample, sample) for sample in pictures(9)]
    for height in range(12, 40):
        rows = text(_rows(pairs, (), 60, height, True))
        assert len(rows) <= height
        after = next(at for at, row in enumerate(rows) if row.startswith("after"))
        for last in (rows[after - 1], rows[-1]):
            assert "kind" not in last, (height, rows)


def test_names_that_differ_at_their_end_are_told_apart_in_the_smallest_tiles() -> None:
    blank = np.zeros((8, 8), np.uint8)
    samples = [
        Sample(name, 0, "", picture=blank) for name in ("class_017", "class_018", "類別の名前一", "類別の名前二")
    ]
    page = draw_page(samples, (), 44, 8, colour=True, captions=1)
    names = text(page.rows)[0].split()
    assert len(set(names)) == len(samples)
    assert all(row_width([Segment(name)]) <= place[2] for name, place in zip(names, page.places, strict=True))


def test_a_sample_that_can_not_be_read_stands_among_the_others() -> None:
    torn = Sample("?", 7, "torn.png", trouble="is cut off")
    rows = text(draw_page([torn, *pictures(2)], (), 100, 40, colour=True).rows)
    assert any("✗ is cut off" in row for row in rows)
    assert any("▀" in row for row in rows)


def test_a_table_names_its_columns_and_says_how_many_are_left_out() -> None:
    cells = [{f"column {n}": f"{n * 1000}" for n in range(40)} for _ in range(3)]
    samples = [Sample("yes", n, f"line {n}", cells=row) for n, row in enumerate(cells)]
    rows = text(draw_page(samples, (), 60, 20, colour=True, label="bought").rows)
    assert "bought" in rows[0]
    assert "column 0" in rows[0]
    assert "+3" in rows[0]
    assert all(len(row) <= 60 for row in rows)
    for width in range(40, 60):
        head = text(draw_page(samples, (), width, 20, colour=True).rows)[0]
        assert head.endswith(f"+{40 - head.count('column')}"), f"where {width} columns hardly hold the last"
    assert rows[1].index("0") <= rows[0].index("column 0") + 7
    assert any("column 39" in row for row in text(whole(samples[0], (), 60, 20, colour=True).rows))


def test_a_text_is_wrapped_and_its_tokens_can_be_told_apart() -> None:
    sample = Sample("spam", 3, "line 4", text="a long word " * 20, tokens=("a", "long", "word"))
    page = draw_page([sample], (), 40, 20, colour=True)
    assert text(page.rows)[0] == "spam  #3 line 4"
    assert all(row_width(row) <= 40 for row in page.rows)
    tokens = [segment for segment in page.rows[-1] if segment.text.strip()]
    assert [token.text for token in tokens] == ["a", "long", "word"]
    assert [bool(token.style and token.style.underline) for token in tokens] == [True, False, True]


def test_a_space_that_is_a_token_or_part_of_one_is_seen() -> None:
    sample = Sample("spam", 3, "line 4", text="a b c", tokens=("a", " ", "b", " c", "\n"))
    assert text(draw_page([sample], (), 78, 20, colour=True).rows)[-1].split() == ["a", "␣", "b", "␣c", "⏎"]


def test_sound_is_drawn_around_the_middle() -> None:
    rows = text(wave(np.array([[-1.0, -0.5], [1.0, 0.5]]), 2, 4))
    assert [row[0] for row in rows] == ["█"] * 4
    assert [row[1] for row in rows] == [" ", "█", "█", "▀"]


def test_a_mask_is_read_by_its_signs_where_there_is_no_colour() -> None:
    picture, mask = np.full((20, 20, 3), 128, np.uint8), np.zeros((20, 20), np.int64)
    mask[:, 10:] = 2
    for colour in (True, False):
        rows = text(masked(picture, mask, 20, 10, colour=colour, enlarge=False))
        assert all("2" not in row[:10] for row in rows)
        assert sum("2" in row[10:] for row in rows) >= 4
    assert text([legend([(2, "cat")], colour=False)]) == ["2 cat  "]


def test_a_box_is_a_frame_with_the_name_of_what_is_in_it() -> None:
    picture = np.zeros((40, 40, 3), np.uint8)
    rows: list[Row] = boxed(picture, [Box(10, 10, 30, 30, "dog")], 40, 20, colour=False, enlarge=False)
    drawn = text(rows)
    assert drawn[5][10:30] == "┌dog────────────────┐"[:19] + "┐"
    assert drawn[14][10] == "└"
    assert drawn[8][10] == drawn[8][29] == "│"
    outside = Box(-5, -5, 500, 500, "all")
    assert "all" in text(boxed(picture, [outside], 40, 20, colour=True, enlarge=False))[0]


def test_names_in_wide_characters_leave_the_frame_as_wide_as_it_was() -> None:
    picture = np.zeros((40, 40, 3), np.uint8)
    boxes = [Box(5, 10, 30, 30, "狗 dog e\u0301"), Box(6, 10, 20, 20, "鹰鹰鹰"), Box(7, 4, 20, 20, "cat")]
    rows: list[Row] = boxed(picture, boxes, 40, 20, colour=True, enlarge=False)
    assert "鹰鹰" in text(rows)[5]
    assert "e\u0301" in text(boxed(picture, boxes[:1], 40, 20, colour=True, enlarge=False))[5]
    assert {row_width(row) for row in rows} == {40}


def test_a_small_picture_is_enlarged_by_whole_pixels() -> None:
    picture = np.arange(4, dtype=np.uint8).reshape(2, 2)
    assert fit(picture, 7, 3, enlarge=True).tolist() == [[0] * 3 + [1] * 3] * 3 + [[2] * 3 + [3] * 3] * 3


@pytest.mark.parametrize(
    ("environment", "kind"),
    [
        ({"TERM": "xterm-kitty"}, "kitty"),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "WezTerm"}, "sixel"),
        ({"TERM": "xterm-256color", "LC_TERMINAL": "iTerm2"}, "sixel"),
        ({"TERM": "xterm-256color"}, ""),
        ({"TERM": "tmux-256color", "TERM_PROGRAM": "WezTerm"}, ""),
        ({"TERM": "xterm-kitty", "TMUX": "/tmp/tmux"}, ""),
        ({"TERM": "xterm-kitty", "TORCH_TUI_GRAPHICS": "off"}, ""),
        ({"TERM": "xterm", "TORCH_TUI_GRAPHICS": "sixel"}, "sixel"),
    ],
)
def test_the_environment_says_what_a_terminal_can(environment: dict[str, str], kind: str) -> None:
    assert terminal.known(environment) == kind


def test_classes_of_names_that_begin_alike_are_told_apart_by_what_follows() -> None:
    def said(*names: str) -> str:
        return _balance(dict.fromkeys(names, 5), 60, 1)[0].plain

    assert "0▇1▇2▇3▇" in said("class0", "class1", "class2", "class3")
    assert "a▇c▇d▇o▇" in said("ant", "cat", "dog", "owl")
    assert "c▇c▇c▇c▇" in said("cat", "cat 1", "cat 2", "cat 3"), "nothing follows the first"
