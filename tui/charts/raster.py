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
# them comes upon cold caches and takes some microseconds. Of more than 500 elements NumPy lets go of the GIL besides,
# which the training has to be woken for, and so has the painter to get it back. So points become the extremes of their
# columns first.


def draw_line(x: Floats, y: Floats, window: Window, columns: int, rows: int) -> Patterns:
    """The curve through the points, connected except where `y` is not finite. `x` is finite and ascends; (R, C)."""
    wide, high = columns * ACROSS, rows * DOWN
    return to_braille(*_columns(x, y, window, wide, high), rows)


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


def _columns(x: Floats, y: Floats, window: Window, wide: int, high: int) -> tuple[Ints, Ints]:
    """The topmost and bottommost dot of each dot column; one that holds nothing has `top > bottom`."""
    top, bottom = np.full(wide, high), np.full(wide, -1)
    if not len(x):
        return top, bottom
    held, starts = _held(x, window, wide)
    lowest, highest = np.minimum.reduceat(y, starts), np.maximum.reduceat(y, starts)
    gaps = None
    if not (np.isfinite(lowest).all() and np.isfinite(highest).all()):
        finite = np.isfinite(y)
        if not finite.any():
            return top, bottom
        gaps = np.cumsum(~finite, dtype=np.int64)[finite]  # points with the same number have no gap between them
        x, y = x[finite], y[finite]
        held, starts = _held(x, window, wide)
        lowest, highest = np.minimum.reduceat(y, starts), np.maximum.reduceat(y, starts)
    top[held] = np.rint(window.down(highest, high)).astype(np.int64)
    bottom[held] = np.rint(window.down(lowest, high)).astype(np.int64)

    joined = np.zeros(wide, dtype=np.bool_)  # the curve comes into it from the column before
    to = starts[1:]  # where the curve leaves a column: the point after, in the next column that holds one
    crossed = held[1:] - held[:-1] - 1
    entered = held[1:]
    if gaps is not None:
        whole = gaps[to - 1] == gaps[to]
        to, crossed, entered = to[whole], crossed[whole], entered[whole]
    joined[entered] = True
    if crossed.any():
        # Columns that a segment crosses without a point in them, one entry for each.
        segment = np.repeat(np.arange(len(to)), crossed)
        nth = np.arange(len(segment)) - np.repeat(np.cumsum(crossed) - crossed, crossed)
        between = (entered - crossed)[segment] + nth
        left, right = window.across(x[to - 1], wide)[segment], window.across(x[to], wide)[segment]
        above, below = window.down(y[to - 1], high)[segment], window.down(y[to], high)[segment]
        rows = np.rint(above + (between - left) / (right - left) * (below - above))
        top[between] = bottom[between] = rows.astype(np.int64)
        joined[between] = True
    _close_steps(top, bottom, joined)
    return top, bottom


def _held(x: Floats, window: Window, wide: int) -> tuple[Ints, Ints]:
    """The dot columns that hold a point, and which point is the first of each."""
    edges = window.left + (np.arange(1, wide) - 0.5) * ((window.right - window.left) / (wide - 1))
    bounds = np.concatenate(([0], x.searchsorted(edges), [len(x)]))
    held = (bounds[1:] > bounds[:-1]).nonzero()[0]
    return held, bounds[held]


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
