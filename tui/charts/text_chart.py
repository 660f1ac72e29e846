"""A chart as plain text, for `torch-tui show RUN` and for logs: one picture, no widget."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from tui.charts.axis import log_limits, value_label, x_limits, y_limits
from tui.charts.frame import LEAST_HEIGHT, LEAST_WIDTH, lay_out, new_figure
from tui.charts.line import Line
from tui.charts.raster import Window, thin

# The terminal's own colours for variables of the studio's theme; any other is drawn in the colour of its text.
_COLOURS = {
    "primary": "blue+",
    "secondary": "cyan",
    "accent": "magenta+",
    "warning": "orange+",
    "success": "green+",
    "error": "red+",
}
_MARKER_SPACING = 6  # cells for at most two ◆


def chart_text(
    title: str, lines: Sequence[Line], width: int, height: int, *, colour: bool = True, log_x: bool = False
) -> str:
    """The chart in at most `height` rows of at most `width` cells; without escape codes when `colour` is off.

    With `log_x` the lines' x are powers of ten.
    """
    headline = "   ".join([title, *(f"{line.glyph} {line.label} {value_label(line.last())}" for line in lines)])
    lines = [_finite(line) for line in lines]
    lines = [line for line in lines if len(line.x)]
    if not lines or width < LEAST_WIDTH or height < LEAST_HEIGHT + 1:
        return headline[:width]
    picture = _picture(lines, width, height - 1, colour, log_x)
    return "\n".join([headline[:width], *(row.rstrip() for row in picture.split("\n")[: height - 1])])


def _picture(lines: Sequence[Line], width: int, height: int, colour: bool, log_x: bool) -> str:
    """Axes and curves, drawn by plotext from no more than two points a column."""
    import plotext  # 0.14 s that no other command should wait for

    x = (log_limits if log_x else x_limits)(
        min(float(line.x[0]) for line in lines), max(float(line.x[-1]) for line in lines)
    )
    y = y_limits(min(float(np.nanmin(line.y)) for line in lines), max(float(np.nanmax(line.y)) for line in lines))
    window = Window(x.low, x.high, y.low, y.high)
    axes = lay_out(width, height, x, y, log_x=log_x)
    figure = new_figure(width, height, axes)
    for line in lines:
        few = max(1, axes.columns // _MARKER_SPACING if line.points else axes.columns)
        across, up = thin(line.x, line.y, window, few)
        across, up = window.across(across, 2), 1 - window.down(up, 2)  # both 0 to 1, as the figure's axes
        seen = np.isfinite(up)
        pixel = plotext.pixel(foreground=_COLOURS.get(line.colour, "default"))
        marker = plotext.marker(line.marker if line.points else "braille", pixel)
        signal = figure.signal(across[seen].tolist(), up[seen].tolist(), marker=marker)
        if not line.points:
            for index in np.flatnonzero(seen[1:] & seen[:-1]) + 1:  # no line across a gap
                signal.line(int(np.count_nonzero(seen[:index])))
        figure.draw(signal)
    return str(figure.build().string(colorless=not colour))


def _finite(line: Line) -> Line:
    """The line from its first to its last finite value, NaN for each gap between."""
    finite = np.flatnonzero(np.isfinite(line.x) & np.isfinite(line.y))
    part = slice(finite[0], finite[-1] + 1) if len(finite) else slice(0)
    y = line.y[part]
    return replace(line, x=line.x[part], y=np.where(np.isfinite(y), y, np.nan))
