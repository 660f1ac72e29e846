"""A layer's weights, activations and gradients as histograms of eighth blocks, each above a heat map of how it moved.

Histogram and heat map have one axis of numbers, so that what stands above each other is the same; time goes down.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from rich.text import Text

from engine.insight.histograms import KINDS, Histogram, Spread
from tui.widgets.amounts import count_text

_BLOCKS = " ▁▂▃▄▅▆▇█"
_SHADES = " ░▒▓█"  # told apart without colour
_GAP = 2
_NONE = 0.1  # a number whose bin goes over several columns is a part of one in each
_OUTSIDE = 0.005  # of the numbers lie beyond either end of the axis: a few far ones would leave the rest one column
_MISSING = {"weights": "no numbers", "activations": "not seen", "gradients": "no gradient"}
_FRAME = 5  # rows for the title, the axis, its labels, the range and the counts
Past = Sequence[tuple[int, Spread]]


@dataclass(frozen=True)
class Axis:
    """The ascending bounds of columns, n + 1 of them. By powers of ten the middle one holds what is below `least`."""

    edges: np.ndarray
    least: float | None = None

    def column(self, number: float) -> int | None:
        """The column that holds a number; None outside."""
        place = int(np.searchsorted(self.edges, number, side="right")) - 1
        return place if 0 <= place < len(self.edges) - 1 else None


def spread_text(past: Past, width: int, height: int, *, powers: bool) -> Text:
    """`past`, the newest last, in `height` lines of `width`: its kinds side by side, and the steps of the heat map.

    With `powers` an axis shows sizes by powers of ten, on either side of zero.
    """
    rows = max((height - _FRAME) // 3, 2)
    shown = _evenly(past, max(height - _FRAME - rows, 1))
    labels = ["step", *(_count(step) for step, _ in shown)]
    gutter = max(map(len, labels)) + 1
    room = (width - gutter) // len(KINDS) - _GAP
    columns = [
        _kind(kind, [(step, getattr(spread, kind)) for step, spread in shown], room, rows, powers=powers)
        for kind in KINDS
    ]
    left = [*[""] * (rows + 2), *labels, "", ""]
    return Text("\n").join(
        Text.assemble((text.rjust(gutter - 1) + " ", "dim"), *[part for cell in cells for part in (cell, " " * _GAP)])
        for text, cells in zip(left, zip(*columns, strict=True), strict=True)
    )


def axis_of(histograms: Sequence[Histogram], columns: int, *, powers: bool) -> Axis | None:
    """One axis for all of them, without the few farthest numbers; None where all are zero or wild."""
    if not any(each.range for each in histograms):
        return None
    lows, highs = (
        [number for each in histograms if (number := each.quantile(end, zeros=False, sizes=powers)) is not None]
        for end in (_OUTSIDE, 1 - _OUTSIDE)
    )
    if not powers:
        return Axis(np.linspace(min(lows), max(highs), columns + 1))
    half = np.geomspace(min(lows), max(highs), (columns + 1) // 2)
    return Axis(np.concatenate([-half[::-1], half]), float(half[0]))


def bars(counts: np.ndarray, rows: int) -> list[str]:
    """`rows` lines of eighth blocks; a column with any number in it is never empty."""
    most = counts.max(initial=0)
    eighths = [max(round(count / most * rows * 8), 1) if count > _NONE else 0 for count in counts]
    return ["".join(_BLOCKS[min(max(height - 8 * row, 0), 8)] for height in eighths) for row in range(rows - 1, -1, -1)]


def shades(counts: np.ndarray) -> str:
    """One line of the heat map: ░ holds a few, █ the most of the line."""
    most = counts.max(initial=0)
    return "".join(_SHADES[max(round(count / most * 4), 1) if count > _NONE else 0] for count in counts)


def _kind(
    kind: str, shown: Sequence[tuple[int, Histogram | None]], width: int, rows: int, *, powers: bool
) -> list[Text]:
    """The lines of one kind, each `width` wide."""
    newest = shown[-1][1]
    known = [histogram for _, histogram in shown if histogram is not None]
    axis = axis_of(known, width, powers=powers)
    heat = [
        shades(histogram.columns(axis.edges)) if histogram and axis else "" if histogram else _MISSING[kind]
        for _, histogram in shown
    ]
    title = f"{kind} {newest.total:,}" if newest else f"{kind}: {_MISSING[kind]}"
    drawn = bars(newest.columns(axis.edges), rows) if newest and axis else [""] * rows
    lines = [
        (title, "bold"),
        *((line, "cyan") for line in drawn),
        (_axis_line(newest, axis), ""),
        (_labels(newest, axis), ""),
        *((line, "cyan") for line in heat),
        (_range(newest), "dim"),
        (_counts(newest, width), "bold red" if newest and newest.wild else "dim"),
    ]
    return [Text(line[:width].ljust(width), style) for line, style in lines]


def _axis_line(newest: Histogram | None, axis: Axis | None) -> str:
    """`─────┼─▲───`: where zero and the median lie."""
    if axis is None:
        return ""
    cells = ["─"] * (len(axis.edges) - 1)
    for mark, number in (("┼", 0.0), ("▲", newest.quantile(0.5) if newest else None)):
        place = None if number is None else axis.column(number)
        if place is not None:
            cells[place] = mark
    return "".join(cells)


def _labels(newest: Histogram | None, axis: Axis | None) -> str:
    """The ends of the axis and, between them, the median, which is known to an eighth, or the least of the powers."""
    if axis is None:
        return ""
    low, high, width = _short(axis.edges[0]), _short(axis.edges[-1]), len(axis.edges) - 1
    median = newest.quantile(0.5) if newest else None
    middle = "" if median is None else f"▲~{_short(median)}"
    middle = middle if axis.least is None else f"±{_short(axis.least)}"
    between = width - len(low) - len(high)
    return low + (middle if len(middle) + 2 <= between else "").center(between) + high


def _range(newest: Histogram | None) -> str:
    """`all in -0.31 … 0.42`: the few beyond the axis included."""
    ends = newest.range if newest else None
    return f"in {_short(ends[0])} … {_short(ends[1])}" if ends else ""


def _counts(newest: Histogram | None, width: int) -> str:
    """What no column shows: wild numbers and zeros, and of how many, where there is room to say so."""
    if newest is None:
        return ""
    wild = f"NaN/inf {newest.wild:,}" if newest.wild else "no NaN"
    said = f"{wild} · zeros {newest.zeros / newest.seen:.0%}"
    sampled = f" of {_count(newest.seen)}" if newest.seen < newest.total else ""
    return said + (sampled if len(said + sampled) <= width else "")


def _short(number: float) -> str:
    """In at most eight columns."""
    if not number or 1e-2 <= abs(number) < 1e3:
        return f"{number:.2g}"
    digits, power = f"{number:.1e}".split("e")
    return f"{digits}e{int(power)}"


def _count(number: int) -> str:
    """`12.3k`."""
    return count_text(number).replace(" ", "")


def _evenly(past: Past, rows: int) -> Past:
    """At most `rows` of them, the first and the last among them, evenly apart; of one row the last."""
    if len(past) <= rows:
        return past
    return [past[round(place)] for place in np.linspace(0, len(past) - 1, rows)] if rows > 1 else past[-1:]
