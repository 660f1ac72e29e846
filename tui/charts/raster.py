"""Lines as braille dots, in NumPy alone: two dots across and four down in every cell of the terminal.

In here R is rows of cells, C columns of cells, N points. A picture of dots has its row 0 at the top.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:  # nothing of NumPy is used at import, so that it can come after the first frame; see engine.start
    from numpy.typing import NDArray

    Patterns = NDArray[np.uint8]  # (R, C)
    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]

ACROSS, DOWN = 2, 4  # dots in a cell
BRAILLE = 0x2800
# Unicode numbers the dots of a cell down the left column, down the right one, and the bottom pair last.
_BITS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
LEFT_DOTS = sum(left for left, _ in _BITS)


@dataclass(frozen=True)
class Window:
    """The part of the plane that is seen; what lies outside lands on the edge."""

    left: float
    right: float
    bottom: float
    top: float

    def across(self, x: Floats, dots: int) -> Floats:
        """Distance of `x` from the left edge in dots, 0 to `dots - 1`."""
        return (_between(x, self.left, self.right) - self.left) / (self.right - self.left) * (dots - 1)

    def down(self, y: Floats, dots: int) -> Floats:
        """Distance of `y` from the top edge in dots, 0 to `dots - 1`."""
        return (self.top - _between(y, self.bottom, self.top)) / (self.top - self.bottom) * (dots - 1)


def _between(values: Floats, low: float, high: float) -> Floats:
    return np.minimum(np.maximum(values, low), high)  # np.clip takes several times as long for so few


# In what follows it is the number of NumPy's calls that takes the time, not the points: beside a training every one of
# them comes upon cold caches and takes some microseconds.


def draw_line(x: Floats, y: Floats, window: Window, columns: int, rows: int) -> Patterns:
    """The curve through the points, connected except where `y` is not finite. `x` ascends; (R, C)."""
    finite = np.isfinite(x) & np.isfinite(y)
    gaps = None
    if not finite.all():
        gaps = np.cumsum(~finite, dtype=np.int64)[finite]  # points with the same number have no gap between them
        x, y = x[finite], y[finite]
    wide, high = columns * ACROSS, rows * DOWN
    top, bottom, joined = _columns(window.across(x, wide), window.down(y, high), gaps, wide, high)
    _close_steps(top, bottom, joined)
    return to_braille(top, bottom, rows)


def draw_markers(x: Floats, y: Floats, window: Window, columns: int, rows: int) -> tuple[Ints, Ints]:
    """Row and column of the cell that holds each finite point."""
    finite = np.isfinite(x) & np.isfinite(y)
    across = np.rint(window.across(x[finite], columns * ACROSS)).astype(np.int64)
    down = np.rint(window.down(y[finite], rows * DOWN)).astype(np.int64)
    return down // DOWN, across // ACROSS


def to_braille(top: Ints, bottom: Ints, rows: int) -> Patterns:
    """The braille patterns of dot columns that are filled from `top` to `bottom`, 0 where a cell is empty; (R, C)."""
    above = np.arange(0, rows * DOWN, DOWN)[:, None]
    first = np.minimum(np.maximum(top - above, 0), DOWN)
    end = np.minimum(np.maximum(bottom + 1 - above, 0), DOWN)
    both = first * (DOWN + 1) + end
    left, right = _half_cells()
    cells: Patterns = left[both[:, ::2]] | right[both[:, 1::2]]
    return cells


@cache
def _half_cells() -> tuple[Patterns, Patterns]:
    """The pattern of a cell's left and right column that is filled from one dot to before another.

    `patterns[5 * first + end]`
    """
    left, right = (
        [sum(bits[side] for bits in _BITS[first:end]) for first in range(DOWN + 1) for end in range(DOWN + 1)]
        for side in range(ACROSS)
    )
    return np.array(left, np.uint8), np.array(right, np.uint8)


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


def _columns(
    across: Floats, down: Floats, gaps: Ints | None, wide: int, high: int
) -> tuple[Ints, Ints, NDArray[np.bool_]]:
    """The topmost and bottommost dot of each dot column, and whether the curve comes into it from the column before.

    A column that holds nothing has `top > bottom`. Ten thousand points cost what their columns cost: points that
    share a column become its extremes, and only a segment that leaves its column is looked at again.
    """
    top, bottom = np.full(wide, high), np.full(wide, -1)
    joined = np.zeros(wide, dtype=np.bool_)
    if not len(across):
        return top, bottom, joined
    column, row = np.rint(across).astype(np.int64), np.rint(down).astype(np.int64)
    steps = column[1:] - column[:-1]
    leaves = steps.nonzero()[0]
    starts = np.concatenate(([0], leaves + 1))
    held = column[starts]
    top[held] = np.minimum.reduceat(row, starts)
    bottom[held] = np.maximum.reduceat(row, starts)

    if gaps is not None:
        leaves = leaves[gaps[leaves] == gaps[leaves + 1]]
    joined[column[leaves + 1]] = True
    # Columns that a segment crosses without a point in them, one entry for each.
    first = leaves[steps[leaves] > 1]
    if len(first):
        crossed = steps[first] - 1
        segment = np.repeat(first, crossed)
        entered = column[segment] + 1 + np.arange(len(segment)) - np.repeat(np.cumsum(crossed) - crossed, crossed)
        part = (entered - across[segment]) / (across[segment + 1] - across[segment])
        between = down[segment] + part * (down[segment + 1] - down[segment])
        top[entered] = bottom[entered] = np.rint(between).astype(np.int64)
        joined[entered] = True
    return top, bottom, joined


def _close_steps(top: Ints, bottom: Ints, joined: NDArray[np.bool_]) -> None:
    """Fill, in place, the empty height between joined neighbours: each column reaches half way to the other."""
    right = joined.nonzero()[0]
    left = right - 1
    falls, rises = top[right] - bottom[left], top[left] - bottom[right]
    fall, rise = falls > 1, rises > 1
    before_fall, fallen, before_rise, risen = left[fall], right[fall], left[rise], right[rise]
    # Both sides are computed from the extremes as they were: a column may have a step on its left and on its right.
    fall_middle = bottom[before_fall] + falls[fall] // 2
    rise_middle = bottom[risen] + rises[rise] // 2
    bottom[before_fall] = np.maximum(bottom[before_fall], fall_middle)
    top[fallen] = np.minimum(top[fallen], fall_middle + 1)
    top[before_rise] = np.minimum(top[before_rise], rise_middle + 1)
    bottom[risen] = np.maximum(bottom[risen], rise_middle)
