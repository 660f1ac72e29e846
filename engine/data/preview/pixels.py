"""A sample's picture in the pixels of a screen, with its mask or its boxes drawn over it."""

# H height · W width

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from engine.data.preview.drawn import Box, Sample

Colour = tuple[int, int, int]

_SQUARES = 3  # enlarged so often or more, pixels stay squares
_TINT = 0.45
_SPARSE = (5, 2)  # cells between two signs in an area


@dataclass(frozen=True)
class Marks:
    """How classes are marked: a colour, and a letter, for each number. `cell` is the size of text: (width, height)."""

    colour: Callable[[int], Colour]
    sign: Callable[[int], str]
    cell: tuple[int, int]

    @property
    def line(self) -> int:
        """How wide an outline is."""
        return max(1, self.cell[1] // 10)


def in_pixels(sample: Sample, width: int, height: int, marks: Marks) -> np.ndarray:
    """The picture as large as `width` × `height` pixels allow: (H, W, 3) bytes.

    The areas of a mask are tinted and outlined, and have the sign of their class here and there; class 0 is left as it
    is. Boxes are frames with the name of what is in them. The sample must have a picture.
    """
    assert sample.picture is not None
    tall, wide = sample.picture.shape[:2]
    factor = min(width / wide, height / tall)
    factor = int(factor) if factor >= _SQUARES else factor
    size = min(width, max(1, round(wide * factor))), min(height, max(1, round(tall * factor)))
    image = Image.fromarray(sample.picture).convert("RGB").resize(size, _way(factor))
    if sample.mask is not None:
        image = _masked(image, sample.mask, marks)
    if sample.boxes:
        _frame(image, sample.boxes, size[0] / wide, size[1] / tall, marks)
    return np.asarray(image)


def _way(factor: float) -> Image.Resampling:
    if factor < 1:
        return Image.Resampling.BOX
    return Image.Resampling.NEAREST if factor >= _SQUARES else Image.Resampling.BICUBIC


def _masked(image: Image.Image, mask: np.ndarray, marks: Marks) -> Image.Image:
    width, height = image.size
    classes = mask[np.arange(height) * mask.shape[0] // height][:, np.arange(width) * mask.shape[1] // width]
    inside = classes > 0
    colours = np.zeros((height, width, 3))
    for number in np.unique(classes[inside]).tolist():
        colours[classes == number] = marks.colour(number)
    strength = np.where(_edge(classes, marks.line) & inside, 1.0, np.where(inside, _TINT, 0.0))[:, :, None]
    drawn = Image.fromarray((np.asarray(image) * (1 - strength) + colours * strength).astype(np.uint8))
    _sign(drawn, classes, marks)
    return drawn


def _edge(classes: np.ndarray, line: int) -> np.ndarray:
    """Where another class is at most `line` pixels away, (H, W)."""
    edge = np.zeros(classes.shape, bool)
    for each in range(1, line + 1):
        down, across = classes[each:] != classes[:-each], classes[:, each:] != classes[:, :-each]
        edge[each:] |= down
        edge[:-each] |= down
        edge[:, each:] |= across
        edge[:, :-each] |= across
    return edge


def _sign(image: Image.Image, classes: np.ndarray, marks: Marks) -> None:
    """Every few cells the sign of the class that is there."""
    draw, font = ImageDraw.Draw(image), _font(marks)
    width, height = marks.cell
    for row in range(0, image.height // height, _SPARSE[1]):
        shift = row // _SPARSE[1] % 2 * (_SPARSE[0] // 2 + 1) + 1
        for column in range(shift, image.width // width, _SPARSE[0]):
            left, top = column * width, row * height
            middle = left + width // 2, top + height // 2
            number = int(classes[middle[1], middle[0]])
            if number > 0:
                draw.rectangle((left, top, left + width - 1, top + height - 1), marks.colour(number))
                draw.text(middle, marks.sign(number), (0, 0, 0), font, "mm")


def _frame(image: Image.Image, boxes: Sequence[Box], across: float, down: float, marks: Marks) -> None:
    """Frames first, names over them: a name that a later frame crosses can't be read."""
    draw, font = ImageDraw.Draw(image), _font(marks)
    names = sorted({box.label for box in boxes})
    colours = [marks.colour(names.index(box.label) + 1) for box in boxes]
    corners = []
    for box, colour in zip(boxes, colours, strict=True):
        left, right = (min(max(int(x * across), 0), image.width - 1) for x in (box.left, box.right))
        top, bottom = (min(max(int(y * down), 0), image.height - 1) for y in (box.top, box.bottom))
        draw.rectangle((left, top, max(left, right), max(top, bottom)), outline=colour, width=marks.line)
        corners.append((left, top))
    for box, colour, (left, top) in zip(boxes, colours, corners, strict=True):
        wide = int(draw.textlength(box.label, font)) + 2 * marks.line
        left, top = max(0, min(left, image.width - wide)), min(top, max(0, image.height - marks.cell[1]))
        draw.rectangle((left, top, left + wide, top + marks.cell[1] - 1), colour)
        draw.text((left + marks.line, top + marks.cell[1] // 2), box.label, (0, 0, 0), font, "lm")


def _font(marks: Marks) -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    return ImageFont.load_default(marks.cell[1] * 0.8)
