"""Pictures in a terminal: two pixels a cell, by the upper half block, with masks and boxes over them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from rich.cells import cell_len
from rich.color import Color
from rich.segment import Segment
from rich.style import Style

if TYPE_CHECKING:
    from engine.data.preview import Box

Row = list[Segment]
"""One line of cells."""

# Told apart by the colour-blind too (Okabe and Ito); a class's sign stands in its area beside that.
_PALETTE = ((86, 180, 233), (230, 159, 0), (0, 158, 115), (240, 228, 66), (213, 94, 0), (204, 121, 167), (0, 114, 178))
_SIGNS = "0123456789abcdefghijklmnopqrstuvwxyz"
_TINT = 0.45
_SPARSE = 5  # cells between two signs in an area
_HEAT = ((0, 0, 4), (80, 18, 123), (182, 54, 121), (251, 136, 97), (252, 253, 191))


def fit(picture: np.ndarray, columns: int, rows: int, *, enlarge: bool = False) -> np.ndarray:
    """`picture` (height, width[, 3]) shrunk by averaging so that it takes at most `columns` × `rows` cells.

    A smaller one stays as it is or, to `enlarge` it, has every pixel doubled, trebled, and so on while there is room.
    """
    height, width = picture.shape[:2]
    scale = min(columns / width, 2 * rows / height)
    if scale >= 1:
        times = int(scale) if enlarge else 1
        return np.asarray(picture.repeat(times, 0).repeat(times, 1), dtype=np.uint8)
    new_height, new_width = max(1, int(height * scale)), max(1, int(width * scale))
    down = _average(picture.astype(np.float64), height, new_height, 0)
    return np.asarray(_average(down, width, new_width, 1).round().astype(np.uint8))


def half_blocks(picture: np.ndarray) -> list[Row]:
    """One row of cells a pair of lines, of bytes (height, width) or (height, width, 3)."""
    colour = np.repeat(picture[:, :, None], 3, axis=2) if picture.ndim == 2 else picture
    if len(colour) % 2:
        colour = np.concatenate([colour, np.zeros_like(colour[:1])])
    return [
        [Segment("▀", _style(*top, *bottom)) for top, bottom in zip(upper.tolist(), lower.tolist(), strict=True)]
        for upper, lower in zip(colour[::2], colour[1::2], strict=True)
    ]


def shades(picture: np.ndarray) -> list[Row]:
    """The same without colour, for NO_COLOR: one character a cell by brightness."""
    grey = picture.mean(axis=2) if picture.ndim == 3 else picture.astype(np.float64)
    if len(grey) % 2:
        grey = np.concatenate([grey, np.zeros_like(grey[:1])])
    cells = (grey[::2] + grey[1::2]) / 2
    ramp = np.array(list(" .:-=+*#%@"))
    return [list(map(Segment, row)) for row in ramp[(cells / 256 * len(ramp)).astype(int)].tolist()]


def cells(picture: np.ndarray, *, colour: bool) -> list[Row]:
    """A picture that fits, in colour or without."""
    return half_blocks(picture) if colour else shades(picture)


def masked(picture: np.ndarray, mask: np.ndarray, columns: int, rows: int, *, colour: bool, enlarge: bool) -> list[Row]:
    """A picture with its areas tinted, outlined, and with the sign of their class here and there; class 0 is left."""
    small = fit(picture, columns, rows, enlarge=enlarge)
    height, width = small.shape[:2]
    down = np.arange(height) * mask.shape[0] // height
    across = np.arange(width) * mask.shape[1] // width
    classes = mask[down][:, across]
    inside = classes > 0
    edge = np.zeros_like(inside)
    edge[:, 1:] |= classes[:, 1:] != classes[:, :-1]
    edge[1:] |= classes[1:] != classes[:-1]
    tints = np.array(_PALETTE, np.float64)[(classes - 1) % len(_PALETTE)]
    full = np.repeat(small[:, :, None], 3, axis=2) if small.ndim == 2 else small
    strength = np.where(edge & inside, 1.0, np.where(inside, _TINT, 0.0))[:, :, None]
    drawn = cells((full * (1 - strength) + tints * strength).astype(np.uint8), colour=colour)
    for y in range(0, len(drawn), 2):
        for x in range((y // 2) % 2 * (_SPARSE // 2 + 1) + 1, width, _SPARSE):
            number = int(classes[min(2 * y, height - 1), x])
            if number > 0:
                drawn[y][x] = Segment(sign(number), _sign_style(number, colour=colour))
    return drawn


def boxed(
    picture: np.ndarray, boxes: Sequence[Box], columns: int, rows: int, *, colour: bool, enlarge: bool
) -> list[Row]:
    """A picture with the outlines of its objects, each with its name at the top."""
    small = fit(picture, columns, rows, enlarge=enlarge)
    drawn = cells(small, colour=colour)
    down, across = small.shape[0] / picture.shape[0] / 2, small.shape[1] / picture.shape[1]
    names = sorted({box.label for box in boxes})
    for box in boxes:
        left, right = (min(max(int(edge * across), 0), len(drawn[0]) - 1) for edge in (box.left, box.right - 1e-6))
        top, bottom = (min(max(int(edge * down), 0), len(drawn) - 1) for edge in (box.top, box.bottom - 1e-6))
        style = _sign_style(names.index(box.label) + 1, colour=colour)
        line = {(top, x): "─" for x in range(left, right)} | {(bottom, x): "─" for x in range(left, right)}
        line |= {(y, left): "│" for y in range(top, bottom)} | {(y, right): "│" for y in range(top, bottom)}
        line |= {(top, left): "┌", (top, right): "┐", (bottom, left): "└", (bottom, right): "┘"}
        room = max(1, right - left - 1) if right - left > 2 else 1
        start = left + (1 if right - left > 2 else 0)
        line |= {(top, start + at): letter for at, letter in enumerate(_in_cells(box.label, room))}
        for (y, x), character in line.items():
            _cover(drawn[y], x, Segment(character, style))
    return drawn


def _cover(row: Row, at: int, segment: Segment) -> None:
    """Put it into a cell; of a wide character that had half of its cells there, a line is left in the other."""
    before = row[at].text
    if not before:
        row[at - 1] = Segment("─", segment.style)
    elif cell_len(before) == 2:
        row[at + 1] = Segment("─", segment.style)
    row[at] = segment


def _in_cells(text: str, columns: int) -> list[str]:
    """What stands in each of so many cells: a wide character takes one and leaves the next empty."""
    found: list[str] = []
    for letter in text:
        width = cell_len(letter)
        if len(found) + width > columns:
            break
        if width:
            found += [letter, ""][:width]
        elif found:  # an accent, or what joins an emoji
            found[-width - 1] += letter
    return found


def sign(number: int) -> str:
    """The character that stands for a class in a mask."""
    return _SIGNS[number % len(_SIGNS)]


def tint(number: int) -> tuple[int, int, int]:
    """The colour that stands for a class, which is never 0."""
    return _PALETTE[(number - 1) % len(_PALETTE)]


def legend(names: Sequence[tuple[int, str]], *, colour: bool) -> Row:
    """`1 cat  2 dog`, each sign as it stands in the mask."""
    row: Row = []
    for number, name in names:
        row += [Segment(sign(number), _sign_style(number, colour=colour)), Segment(f" {name}  ")]
    return row


def wave(envelope: np.ndarray, columns: int, rows: int) -> list[Row]:
    """The least and the greatest of sound (2, n), between -1 and 1, as an outline filled in between."""
    at = np.linspace(0, envelope.shape[1], min(columns, envelope.shape[1]) + 1).astype(int)
    least, greatest = np.minimum.reduceat(envelope[0], at[:-1]), np.maximum.reduceat(envelope[1], at[:-1])
    lines = 2 * rows
    first = np.clip(((1 - greatest) / 2 * lines).astype(int), 0, lines - 1)
    last = np.clip(((1 - least) / 2 * lines).astype(int), 0, lines - 1)
    line = np.arange(lines)[:, None]
    filled = (line >= first) & (line <= last)  # (lines, columns)
    characters = np.array(list(" ▀▄█"))[filled[::2] + 2 * filled[1::2]]
    return [[Segment("".join(row), _WAVE)] for row in characters.tolist()]


def heat(picture: np.ndarray) -> np.ndarray:
    """Bytes (height, width) as the colours of heat (height, width, 3)."""
    at = np.linspace(0, 255, len(_HEAT))
    return np.stack([np.interp(picture, at, np.array(_HEAT)[:, each]) for each in range(3)], axis=2).astype(np.uint8)


def beside(blocks: Sequence[list[Row]], gap: int = 1) -> list[Row]:
    """Blocks of rows next to each other, each padded to its width."""
    widths = [max(map(row_width, block), default=0) for block in blocks]
    rows = []
    for number in range(max(map(len, blocks), default=0)):
        line: Row = []
        for block, width in zip(blocks, widths, strict=True):
            part = block[number] if number < len(block) else []
            line += [*part, Segment(" " * (width - row_width(part) + gap))]
        rows.append(line)
    return rows


def row_width(row: Row) -> int:
    """The columns that a row takes."""
    return sum(segment.cell_length for segment in row)


_WAVE = Style(color="cyan")


@lru_cache(maxsize=1 << 15)
def _style(*colours: int) -> Style:
    return Style(color=Color.from_rgb(*colours[:3]), bgcolor=Color.from_rgb(*colours[3:]))


@lru_cache
def _sign_style(number: int, *, colour: bool) -> Style:
    if not colour:
        return Style(bold=True, reverse=True)
    return Style(color="black", bgcolor=Color.from_rgb(*tint(number)), bold=True)


def _average(values: np.ndarray, size: int, target: int, axis: int) -> np.ndarray:
    """Mean over `target` nearly equal slices of an axis."""
    edges = np.linspace(0, size, target + 1).round().astype(int)
    counts = np.maximum(np.diff(edges), 1)
    sums = np.add.reduceat(values, np.minimum(edges[:-1], size - 1), axis=axis)
    shape = [1] * values.ndim
    shape[axis] = target
    return np.asarray(sums / counts.reshape(shape))
