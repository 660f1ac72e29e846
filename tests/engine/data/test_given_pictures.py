"""Pictures of any kind and size come out as bytes of one, masks with no class that was not there."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from engine.data.pictures.given import as_mask, as_picture
from engine.data.samples import IGNORED


def halves(width: int, height: int) -> Image.Image:
    """Black at the left, white at the right."""
    pixels = np.zeros((height, width), np.uint8)
    pixels[:, width // 2 :] = 255
    return Image.fromarray(pixels)


@pytest.mark.parametrize("fit", ["crop", "stretch", "pad"])
def test_a_wide_picture_is_brought_to_a_square(fit: str) -> None:
    picture = as_picture(halves(16, 8), 4, fit)  # type: ignore[arg-type]
    assert (picture.shape, picture.dtype) == ((1, 4, 4), torch.uint8)
    assert picture[0, 2, [0, 3]].tolist() == [0, 255], "left is left"
    assert (picture[0, 0].tolist() == [0, 0, 0, 0]) == (fit == "pad"), "what it does not reach is black"


def test_a_crop_keeps_proportions_and_a_stretch_does_not() -> None:
    pixels = np.zeros((8, 24), np.uint8)
    pixels[:, 8:16] = 255  # the middle third
    image = Image.fromarray(pixels)
    assert bool((as_picture(image, 8, "crop") == 255).all())
    assert as_picture(image, 12, "stretch")[0, 5, [0, 2, 5, 6, 9, 11]].tolist() == [0, 0, 255, 255, 0, 0]


def test_a_size_of_nothing_is_its_own() -> None:
    assert as_picture(halves(7, 5)).shape == (1, 5, 7)
    assert as_picture(halves(7, 5), (6, 9)).shape == (1, 6, 9)


@pytest.mark.parametrize(
    ("mode", "channels", "wanted"), [("L", "auto", 1), ("RGB", "auto", 3), ("RGB", "grey", 1), ("L", "rgb", 3)]
)
def test_colours_are_as_the_picture_or_the_recipe_has_them(mode: str, channels: str, wanted: int) -> None:
    assert as_picture(halves(4, 4).convert(mode), 0, "crop", channels).shape[0] == wanted  # type: ignore[arg-type]


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA", "CMYK", "I;16", "I"])
def test_every_kind_of_picture_has_its_white_and_black(mode: str) -> None:
    image = halves(4, 4)
    if mode.startswith("I"):
        image = Image.fromarray(np.asarray(image).astype(np.uint16) * 257)
    picture = as_picture(image.convert(mode), 0, "crop", "grey")
    assert picture[0, 0].tolist() == [0, 0, 255, 255]


def test_what_is_transparent_is_white() -> None:
    assert as_picture(Image.new("RGBA", (2, 2), (0, 0, 0, 0)))[:, 0, 0].tolist() == [255, 255, 255]


def test_a_mask_is_not_smoothed_and_ends_where_its_picture_does() -> None:
    pixels = np.arange(64, dtype=np.uint8).reshape(8, 8)
    small = as_mask(Image.fromarray(pixels), 3, "stretch")
    assert (small.shape, small.dtype) == ((3, 3), torch.int64)
    assert set(small.flatten().tolist()) <= set(pixels.flatten().tolist())
    padded = as_mask(Image.fromarray(pixels[:4]), 8, "pad")
    assert padded[0].tolist() == [IGNORED] * 8
    assert IGNORED not in padded[4].tolist()


def test_a_mask_of_a_palette_has_the_numbers_not_the_colours() -> None:
    image = Image.fromarray(np.array([[0, 1, 255]], np.uint8))
    image.putpalette([9, 9, 9, 200, 0, 0] + [7] * 762)
    assert as_mask(image).tolist() == [[0, 1, 255]]
