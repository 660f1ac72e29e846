"""Pictures in a terminal: two pixels a cell, by the upper half block."""

from __future__ import annotations

import numpy as np
from rich.color import Color
from rich.style import Style
from rich.text import Text


def fit(picture: np.ndarray, columns: int, rows: int) -> np.ndarray:
    """`picture` (height, width[, 3]) shrunk by averaging so that it takes at most `columns` × `rows` cells."""
    height, width = picture.shape[:2]
    scale = min(1.0, columns / width, 2 * rows / height)
    new_height, new_width = max(1, int(height * scale)), max(1, int(width * scale))
    down = _average(picture.astype(np.float64), height, new_height, 0)
    return np.asarray(_average(down, width, new_width, 1).round().astype(np.uint8))


def half_blocks(picture: np.ndarray) -> list[Text]:
    """One Text a row of cells, of bytes (height, width) or (height, width, 3)."""
    colour = np.repeat(picture[:, :, None], 3, axis=2) if picture.ndim == 2 else picture
    if len(colour) % 2:
        colour = np.concatenate([colour, np.zeros_like(colour[:1])])
    lines = []
    for upper, lower in zip(colour[::2], colour[1::2], strict=True):
        line = Text()
        for top, bottom in zip(upper.tolist(), lower.tolist(), strict=True):
            line.append("▀", Style(color=Color.from_rgb(*top), bgcolor=Color.from_rgb(*bottom)))
        lines.append(line)
    return lines


def shades(picture: np.ndarray) -> list[Text]:
    """The same without colour, for NO_COLOR: one character a cell by brightness."""
    grey = picture.mean(axis=2) if picture.ndim == 3 else picture.astype(np.float64)
    if len(grey) % 2:
        grey = np.concatenate([grey, np.zeros_like(grey[:1])])
    cells = (grey[::2] + grey[1::2]) / 2
    ramp = np.array(list(" .:-=+*#%@"))
    return [Text("".join(row)) for row in ramp[(cells / 256 * len(ramp)).astype(int)]]


def beside(blocks: list[list[Text]], gap: int = 1) -> list[Text]:
    """Blocks of lines next to each other, each padded to its width."""
    rows = max((len(block) for block in blocks), default=0)
    lines = []
    for row in range(rows):
        line = Text()
        for block in blocks:
            width = max(part.cell_len for part in block)
            part = block[row] if row < len(block) else Text()
            line.append_text(part)
            line.append(" " * (width - part.cell_len + gap))
        lines.append(line)
    return lines


def _average(values: np.ndarray, size: int, target: int, axis: int) -> np.ndarray:
    """Mean over `target` nearly equal slices of an axis."""
    edges = np.linspace(0, size, target + 1).round().astype(int)
    counts = np.maximum(np.diff(edges), 1)
    sums = np.add.reduceat(values, np.minimum(edges[:-1], size - 1), axis=axis)
    shape = [1] * values.ndim
    shape[axis] = target
    return np.asarray(sums / counts.reshape(shape))
