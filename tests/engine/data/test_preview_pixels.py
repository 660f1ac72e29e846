"""A picture in the pixels of a screen: as large as it may be, with areas and boxes that can be told apart."""

from __future__ import annotations

import numpy as np
import pytest

from engine.data.preview import Box, Sample
from engine.data.preview.pixels import Marks, in_pixels

COLOURS = {1: (255, 0, 0), 2: (0, 0, 255)}
MARKS = Marks(colour=COLOURS.__getitem__, sign=str, cell=(8, 16))
GREY = np.full((20, 40, 3), 128, np.uint8)


@pytest.mark.parametrize(
    ("room", "size"),
    [
        ((200, 200), (100, 200)),  # five times
        ((199, 199), (80, 160)),  # pixels stay squares: four times
        ((60, 60), (30, 60)),  # so little is made smooth
        ((20, 200), (10, 20)),
    ],
)
def test_a_picture_keeps_its_shape_and_never_exceeds_its_room(room: tuple[int, int], size: tuple[int, int]) -> None:
    assert in_pixels(Sample("", picture=GREY), *room, MARKS).shape == (*size, 3)
    assert in_pixels(Sample("", picture=GREY[:, :, 0]), *room, MARKS).shape == (*size, 3)


def test_pixels_that_are_enlarged_stay_squares() -> None:
    picture = np.arange(4, dtype=np.uint8).reshape(2, 2) * 80
    drawn = in_pixels(Sample("", picture=picture), 10, 10, MARKS)[:, :, 0]
    assert np.array_equal(drawn, picture.repeat(5, 0).repeat(5, 1))


def test_an_area_is_tinted_outlined_and_signed_and_what_has_no_class_is_left() -> None:
    mask = np.zeros((20, 40), np.int64)
    mask[:, 20:] = 2
    mask[:5, :5] = -100  # counts nowhere
    drawn = in_pixels(Sample("", picture=GREY, mask=mask), 400, 200, MARKS).astype(int)
    assert (drawn[:, :200] == 128).all()
    assert (drawn[:, 200] == COLOURS[2]).all(), "the outline"
    inside = drawn[:, 205:].reshape(-1, 3).tolist()
    tinted = [70, 70, 185]
    assert sum(pixel == tinted for pixel in inside) > len(inside) / 2
    assert any(max(pixel) < 40 for pixel in inside), "the sign"
    plain = in_pixels(Sample("", picture=GREY, mask=np.zeros_like(mask)), 400, 200, MARKS)
    assert (plain == 128).all()


def test_a_box_is_a_frame_of_its_own_colour_with_a_name_and_stays_in_the_picture() -> None:
    boxes = (Box(10, 5, 30, 15, "cat"), Box(-5, -5, 500, 500, "dog"))
    drawn = in_pixels(Sample("", picture=GREY, boxes=boxes), 400, 200, MARKS).astype(int)
    assert tuple(drawn[100, 100]) == COLOURS[1]
    assert tuple(drawn[100, 0]) == tuple(drawn[100, 399]) == COLOURS[2]
    assert (drawn[100, 110:290] == 128).all(), "nothing inside"
    name = drawn[50:66, 100:140].reshape(-1, 3)
    assert (name.max(axis=1) < 40).any(), "letters"
    assert (drawn[140:148, 102:140].max(axis=-1) >= 128).all(), "none at the lower edge"
