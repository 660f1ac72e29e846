"""Lines as braille dots, in NumPy alone: two dots across and four down in every cell of the terminal.

In here R is rows of cells, C columns of cells, N points. A picture of dots has its row 0 at the top.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:  # nothing of NumPy is used at import, so that it can come after the first frame; see engine.start
    from numpy.typing import NDArray

    Dots = NDArray[np.bool_]  # (4R, 2C)
    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]

ACROSS, DOWN = 2, 4  # dots in a cell
BRAILLE = 0x2800
# Unicode numbers the dots of a cell down the left column, down the right one, and the bottom pair last.
_BITS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))


@dataclass(frozen=True)
class Window:
    """The part of the plane that is seen; what lies outside lands on the edge."""

    left: float
    right: float
    bottom: float
    top: float

    def across(self, x: Floats, dots: int) -> Floats:
        """Distance of `x` from the left edge in dots, 0 to `dots - 1`."""
        return (np.clip(x, self.left, self.right) - self.left) / (self.right - self.left) * (dots - 1)

    def down(self, y: Floats, dots: int) -> Floats:
        """Distance of `y` from the top edge in dots, 0 to `dots - 1`."""
        return (self.top - np.clip(y, self.bottom, self.top)) / (self.top - self.bottom) * (dots - 1)


def draw_line(x: Floats, y: Floats, window: Window, columns: int, rows: int) -> Dots:
    """The curve through the points, connected except where `y` is not finite. `x` ascends; (4R, 2C)."""
    wide, high = columns * ACROSS, rows * DOWN
    finite = np.isfinite(x) & np.isfinite(y)
    run = np.cumsum(~finite, dtype=np.int64)[finite]  # points with the same number have no gap between them
    across, down = window.across(x[finite], wide), window.down(y[finite], high)
    top, bottom, joined = _columns(across, down, run, wide, high)
    _close_steps(top, bottom, joined)
    row = np.arange(high)[:, None]
    return (row >= top) & (row <= bottom)


def draw_markers(x: Floats, y: Floats, window: Window, columns: int, rows: int) -> tuple[Ints, Ints]:
    """Row and column of the cell that holds each finite point."""
    finite = np.isfinite(x) & np.isfinite(y)
    across = np.rint(window.across(x[finite], columns * ACROSS)).astype(np.int64)
    down = np.rint(window.down(y[finite], rows * DOWN)).astype(np.int64)
    return down // DOWN, across // ACROSS


def to_braille(dots: Dots) -> NDArray[np.uint8]:
    """Which of the 256 braille patterns each cell shows, 0 where it is empty; (R, C)."""
    high, wide = dots.shape
    cells = dots.reshape(high // DOWN, DOWN, wide // ACROSS, ACROSS)
    patterns: NDArray[np.uint8] = np.einsum("rdca,da->rc", cells.view(np.uint8), np.array(_BITS, np.uint8))
    return patterns


def thin(x: Floats, y: Floats, window: Window, columns: int) -> tuple[Floats, Floats]:
    """At most two points a column, its lowest and its highest, in the order they came; a gap stays a gap."""
    if len(x) <= 2 * columns:
        return x, y
    column = np.rint(window.across(x, columns)).astype(np.int64)
    starts = np.flatnonzero(np.diff(column, prepend=-1))
    kept = np.zeros(len(x), dtype=np.bool_)
    for start, end in zip(starts, [*starts[1:], len(x)], strict=True):
        part = y[start:end]
        if np.isfinite(part).any():
            part = np.where(np.isfinite(part), part, np.nan)
            kept[[start + np.nanargmin(part), start + np.nanargmax(part)]] = True
        else:
            kept[start] = True
    return x[kept], y[kept]


def _columns(across: Floats, down: Floats, run: Ints, wide: int, high: int) -> tuple[Ints, Ints, NDArray[np.bool_]]:
    """The topmost and bottommost dot of each dot column, and whether the curve comes into it from the column before.

    A column that holds nothing has `top > bottom`. Ten thousand points cost what their columns cost: points that
    share a column become its extremes, and only a segment that leaves its column is looked at again.
    """
    top, bottom = np.full(wide, high), np.full(wide, -1)
    joined = np.zeros(wide, dtype=np.bool_)
    if not len(across):
        return top, bottom, joined
    column, row = np.rint(across).astype(np.int64), np.rint(down).astype(np.int64)
    starts = np.flatnonzero(np.diff(column, prepend=-1))
    top[column[starts]] = np.minimum.reduceat(row, starts)
    bottom[column[starts]] = np.maximum.reduceat(row, starts)

    # Segments from one column to another, one entry for each column they step into.
    first = np.flatnonzero((np.diff(column) > 0) & (np.diff(run) == 0))
    steps = column[first + 1] - column[first]
    segment = np.repeat(first, steps)
    entered = column[segment] + 1 + np.arange(len(segment)) - np.repeat(np.cumsum(steps) - steps, steps)
    joined[entered] = True
    inside = entered < column[segment + 1]  # the last column of a segment has its own point already
    segment, entered = segment[inside], entered[inside]
    part = (entered - across[segment]) / (across[segment + 1] - across[segment])
    between = np.rint(down[segment] + part * (down[segment + 1] - down[segment])).astype(np.int64)
    top[entered] = np.minimum(top[entered], between)
    bottom[entered] = np.maximum(bottom[entered], between)
    return top, bottom, joined


def _close_steps(top: Ints, bottom: Ints, joined: NDArray[np.bool_]) -> None:
    """Fill, in place, the empty height between joined neighbours: each column reaches half way to the other."""
    right = np.flatnonzero(joined)
    left = right - 1
    falls = top[right] - bottom[left] > 1
    rises = top[left] - bottom[right] > 1
    fall, rise = right[falls], right[rises]
    fall_middle = (bottom[fall - 1] + top[fall]) // 2
    rise_middle = (top[rise - 1] + bottom[rise]) // 2
    # Both sides are computed from the extremes as they were: a column may have a step on its left and on its right.
    bottom[fall - 1] = np.maximum(bottom[fall - 1], fall_middle)
    top[fall] = np.minimum(top[fall], fall_middle + 1)
    top[rise - 1] = np.minimum(top[rise - 1], rise_middle + 1)
    bottom[rise] = np.maximum(bottom[rise], rise_middle)
