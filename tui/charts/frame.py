"""The still part of a chart: axes, ticks and their labels, drawn by plotext."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from tui.charts.axis import Limits, Tick, linear_ticks, log_ticks
from tui.charts.raster import ACROSS, DOWN, Window

LEAST_WIDTH, LEAST_HEIGHT = 20, 4  # below this there is more frame than curve


@dataclass(frozen=True)
class Frame:
    """Axes and labels as rows of text of one width, around a canvas that begins `left` cells in, in the top row."""

    text: tuple[str, ...]
    left: int
    columns: int
    rows: int
    window: Window  # what the canvas shows


@dataclass(frozen=True)
class Axes:
    """Ticks for a chart of some size and how much of it is left for the canvas."""

    x_ticks: list[Tick]
    y_ticks: list[Tick]
    margin: int  # cells that the y labels take
    columns: int
    rows: int


@lru_cache(maxsize=64)  # a few charts, each with a size before and after maximising, on both scales
def draw_frame(
    width: int, height: int, x: Limits, y: Limits, log_scale: bool = False, x_label: str = "", log_x: bool = False
) -> Frame:
    """The frame for these limits, `width` × `height` cells large and at least `LEAST_WIDTH` × `LEAST_HEIGHT`.

    `log_scale` is the y axis's. Limits of a logarithmic axis are powers of ten.
    """
    axes = lay_out(width, height, x, y, log_scale, x_label, log_x)
    figure = new_figure(width, height, _on_dots(axes))
    text = [row.ljust(width) for row in figure.build().string(colorless=True).split("\n")[:height]]
    if len(x_label) <= axes.margin:
        # In the corner under the y labels it costs no row; plotext's own axis label would.
        text[-1] = x_label.rjust(axes.margin) + text[-1][axes.margin :]
    window = Window(x.low, x.high, y.low, y.high)
    return Frame(tuple(text), axes.margin + 1, axes.columns, axes.rows, window)


def lay_out(
    width: int, height: int, x: Limits, y: Limits, log_scale: bool = False, x_label: str = "", log_x: bool = False
) -> Axes:
    """As many ticks as can be read in a chart of this size."""
    rows = height - 2  # the axis, and the labels under it
    y_ticks = (log_ticks if log_scale else linear_ticks)(y, most=max(2, rows // 2 if rows < 8 else rows // 3 + 1))
    margin = max(len(tick.label) for tick in y_ticks)
    if width >= 2 * LEAST_WIDTH and len(x_label) <= 6:
        margin = max(margin, len(x_label))
    columns = width - margin - 1
    x_ticks = (log_ticks if log_x else linear_ticks)(x, most=max(2, columns // 9))
    return Axes(x_ticks, [Tick(tick.position, tick.label.rjust(margin)) for tick in y_ticks], margin, columns, rows)


def new_figure(width: int, height: int, axes: Axes) -> Any:
    """A plotext figure of its own with these axes, without colours, of this size whatever the terminal's is.

    Both of its axes go from 0 to 1: plotext prints a warning, into the middle of the screen, for limits that floats
    can't tell apart.
    """
    import plotext  # 0.14 s, and the first frame of the studio has no curve

    # plotext.figure is one for the whole process and clips itself to the terminal; a terminal without limits and a
    # figure under it share nothing with it.
    terminal = type(plotext.terminal)().limit(False, False)
    figure = type(plotext.figure)(parent=terminal)
    figure.theme("colorless").canvas("default").plot_size(width, height)
    figure.axes(False, axis="x", side="upper").axes(False, axis="y", side="right")
    for axis, ticks in (("x", axes.x_ticks), ("y", axes.y_ticks)):
        figure.ruler(axis).lim(0, 1)
        figure.ruler(axis).ticks([tick.position for tick in ticks], [tick.label for tick in ticks])
    return figure


def _on_dots(axes: Axes) -> Axes:
    """The same ticks, each moved to the middle of the cell into which the raster puts its value."""
    x_ticks = [Tick(_cell(tick.position, axes.columns, ACROSS), tick.label) for tick in axes.x_ticks]
    # A row is counted from the top.
    y_ticks = [Tick(1 - _cell(1 - tick.position, axes.rows, DOWN), tick.label) for tick in axes.y_ticks]
    return replace(axes, x_ticks=x_ticks, y_ticks=y_ticks)


def _cell(position: float, cells: int, dots: int) -> float:
    return round(position * (cells * dots - 1)) // dots / (cells - 1)
