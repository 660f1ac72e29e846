"""A live chart: a few curves over steps, repainted as often as the run has news."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual.color import Color
from textual.geometry import Region, Size
from textual.reactive import reactive
from textual.strip import Strip
from textual.widget import Widget

from tui.charts.axis import Limits, log_limits, value_label, x_limits, y_limits
from tui.charts.direct import send_rows
from tui.charts.frame import LEAST_HEIGHT, LEAST_WIDTH, Frame, draw_frame
from tui.charts.line import Line
from tui.charts.raster import ACROSS, BRAILLE, LEFT_DOTS, draw_line, draw_markers

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Chart", "Line", "Mark"]

_RULE = "┊"
_DOTTED = 2  # cells from one dot of a dotted line to the next: every other cell stays to the curve below
_MARKER_SPACING = 3  # cells; closer than this ◆ would be a band that hides what it marks
_AXIS, _TICK, _MARK, _FIRST_LINE = range(4)  # which style a cell has; lines follow in their order


Mark = tuple[float, str]  # an x and the one character that stands under it


class Chart(Widget):
    """Curves with a legend and axes. Shows what `show` was given; the newest value of each curve is in the legend.

    plotext draws axes and labels, once for a size and a pair of limits; the curves are drawn over them as braille.
    """

    ALLOW_SELECT = False
    COMPONENT_CLASSES: ClassVar[set[str]] = {"chart--title", "chart--axis", "chart--tick", "chart--mark"}
    DEFAULT_CSS = """
    Chart {
        height: 1fr;
        & > .chart--title { color: $foreground; text-style: bold; }
        & > .chart--axis { color: $foreground 30%; }
        & > .chart--tick { color: $text-muted; }
        & > .chart--mark { color: $text-muted; }
        &:ansi > .chart--axis { text-style: dim; }
    }
    """

    title = reactive("")
    log_scale = reactive(False)
    """The y axis is logarithmic; values of 0 and below are gaps."""
    empty_text = reactive("Press t to train")
    """What is shown while there is no value."""

    def __init__(
        self,
        title: str,
        *,
        x_label: str = "step",
        log_x: bool = False,
        id: str | None = None,
        classes: str | None = None,
    ) -> None:
        """With `log_x` the x axis is logarithmic; points at 0 and below are left out."""
        super().__init__(id=id, classes=classes)
        self.set_reactive(Chart.title, title)
        self._x_label, self._log_x = x_label, log_x
        self._lines: tuple[Line, ...] = ()
        self._marks: tuple[Mark, ...] = ()
        self._x_max: float | None = None
        self._x_limits: Limits | None = None
        self._y_limits: Limits | None = None
        self._strips: list[Strip] = []
        self._stale = True
        self._painted_size = Size()
        self._header_strip: Strip | None = None
        self._header_says: tuple[object, ...] = ()
        self._still: tuple[Frame, NDArray[np.uint32], NDArray[np.int64]] | None = None
        self._grid: Grid | None = None
        self._parts: dict[str, Style] = {}
        self._dressed_styles: dict[Style | None, Style] = {}

    def show(self, lines: Sequence[Line], *, marks: Sequence[Mark] = (), x_max: float | None = None) -> None:
        """Show these curves from now on. Costs nothing to speak of when they are what is shown already.

        `marks` are thin vertical rules with a character at the bottom (the learning rate changed); `x_max` is the
        planned end of the run, without it the x axis grows with the curves. Later lines lie above earlier ones. Their
        arrays are the chart's from now on, which nobody can write into any more.
        """
        same_lines = len(lines) == len(self._lines) and all(map(Line.same_as, lines, self._lines))
        if same_lines and (tuple(marks), x_max) == (self._marks, self._x_max):
            return
        for line in lines:
            line.x.setflags(write=False)
            line.y.setflags(write=False)
        self._lines = tuple(lines)
        self._marks = tuple(marks)
        self._x_max = x_max
        self._repaint()

    def render_lines(self, crop: Region) -> list[Strip]:
        """The strips as they are: there is no border and no padding that Textual would have to add to each."""
        strips = self._painted()[crop.y : crop.bottom]
        left, right = crop.column_span
        return strips if (left, right) == (0, self.size.width) else [strip.crop(left, right) for strip in strips]

    def render_line(self, y: int) -> Strip:
        return self._painted()[y]

    def notify_style_update(self) -> None:
        self._stale = True  # another theme: colours are in the strips, the frame has none
        self._header_says = ()
        self._parts.clear()
        self._dressed_styles.clear()
        super().notify_style_update()

    def watch_title(self) -> None:
        self._repaint()

    def watch_empty_text(self) -> None:
        self._repaint()

    def watch_log_scale(self) -> None:
        self._y_limits = None
        self._repaint()

    def _repaint(self) -> None:
        """Paint anew; on the screen only the rows that differ."""
        self._stale = True
        size = self.size
        if not self.is_mounted or not self.is_on_screen or self._painted_size != size:
            self.refresh()
            return
        before = self._strips
        after = self._painted()
        rows = {y: new for y, (old, new) in enumerate(zip(before, after, strict=True)) if old is not new}
        if rows and not send_rows(self, rows):
            self.refresh(*(Region(0, y, size.width, 1) for y in rows))

    def _painted(self) -> list[Strip]:
        """Every row of the widget. A row that is as it was before is the same object as before."""
        size = self.size  # which Textual computes anew whenever it is asked
        if self._stale or self._painted_size != size:
            strips = self._paint(size)[: size.height]
            if len(strips) < size.height:
                strips += [self._dressed(Strip.blank(size.width))] * (size.height - len(strips))
            self._strips, self._painted_size, self._stale = strips, size, False
        return self._strips

    def _dressed(self, strip: Strip) -> Strip:
        return Strip([Segment(text, self._dress(style)) for text, style, _ in strip], strip.cell_length)

    def _paint(self, size: Size) -> list[Strip]:
        if size.width < LEAST_WIDTH or size.height < LEAST_HEIGHT + 1:
            return [self._dressed(strip) for strip in self._small(size)]
        header = self._header(size.width)
        lines = [self._visible(line) for line in self._lines]
        if not any(len(line.x) for line in lines):
            return [header, *map(self._dressed, self._centred(self._why_empty(), size.width, size.height - 1))]
        frame = self._frame(lines, size.width, size.height - 1)
        return [header, *self._canvas(lines, frame)]

    def _visible(self, line: Line) -> Line:
        """The line on the scale of the axes, without what lies before its first and after its last value."""
        x = _log10(line.x) if self._log_x else line.x
        y = _log10(line.y) if self.log_scale else line.y
        if len(y) and all(map(math.isfinite, (x[0], y[0], x[-1], y[-1]))):
            return replace(line, x=x, y=y)
        finite = np.flatnonzero(np.isfinite(x) & np.isfinite(y))
        part = slice(finite[0], finite[-1] + 1) if len(finite) else slice(0)
        return replace(line, x=x[part], y=y[part])

    def _frame(self, lines: Sequence[Line], width: int, height: int) -> Frame:
        """The frame around the visible lines; moves the limits first if they no longer fit."""
        lines = [line for line in lines if len(line.x)]
        first, last = min(float(line.x[0]) for line in lines), max(float(line.x[-1]) for line in lines)
        ends = [_extremes(line.y) for line in lines]
        low, high = min(low for low, _ in ends), max(high for _, high in ends)
        if self._log_x:
            self._x_limits = log_limits(first, last if self._x_max is None else max(last, math.log10(self._x_max)))
        else:
            self._x_limits = x_limits(first, last, self._x_limits, end=self._x_max)
        self._y_limits = (log_limits if self.log_scale else y_limits)(low, high, self._y_limits)
        return draw_frame(width, height, self._x_limits, self._y_limits, self.log_scale, self._x_label, self._log_x)

    def _canvas(self, lines: Sequence[Line], frame: Frame) -> list[Strip]:
        """The frame with rules, curves and markers over it, later over earlier, markers over all."""
        characters, styles = self._empty_canvas(frame)
        canvas = np.s_[: frame.rows, frame.left :]
        self._draw_marks(characters, styles, frame)

        dots = np.zeros((frame.rows, frame.columns), np.uint8)
        for style, line in enumerate(lines, _FIRST_LINE):
            cells = draw_line(line.x, line.y, frame.window, frame.columns, frame.rows)
            if line.points:
                cells = cells & np.where(np.arange(frame.columns) % _DOTTED == 0, LEFT_DOTS, 0).astype(np.uint8)
            dots |= cells
            styles[canvas][cells > 0] = style
        characters[canvas][dots > 0] = BRAILLE + dots[dots > 0].astype(np.uint32)

        for style, line in enumerate(lines, _FIRST_LINE):
            if line.points:
                rows, columns = draw_markers(line.x, line.y, frame.window, frame.columns, frame.rows)
                apart = np.diff(columns // _MARKER_SPACING, append=-1) != 0  # the newest of each group
                characters[canvas][rows[apart], columns[apart]] = ord(line.marker)
                styles[canvas][rows[apart], columns[apart]] = style
        self._grid = Grid(characters, styles, self._styles([line.colour for line in lines]), self._grid)
        return self._grid.strips

    def _empty_canvas(self, frame: Frame) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
        """Characters of the frame alone and the numbers of their styles, both (rows + 2, width)."""
        if self._still is None or self._still[0] is not frame:
            codes = np.frombuffer("".join(frame.text).encode("utf-32-le"), np.uint32).reshape(len(frame.text), -1)
            self._still = frame, codes, np.where((codes >= 0x2500) & (codes < 0x2580), _AXIS, _TICK)
        return self._still[1].copy(), self._still[2].copy()

    def _draw_marks(self, characters: NDArray[np.uint32], styles: NDArray[np.int64], frame: Frame) -> None:
        """A rule through the canvas for each mark in sight, its character on the axis."""
        for place, glyph in self._marks:
            x = math.log10(place) if self._log_x else place
            if frame.window.left <= x <= frame.window.right:
                across = frame.window.across(np.array([x]), ACROSS * frame.columns)
                column = frame.left + round(float(across[0])) // ACROSS
                characters[: frame.rows, column] = ord(_RULE)
                characters[frame.rows, column] = ord(glyph[:1] if cell_len(glyph[:1]) == 1 else "•")
                styles[: frame.rows + 1, column] = _MARK

    def _header(self, width: int) -> Strip:
        """Title and legend in one row, the same strip as before if it says the same."""
        lines = [(line.label, line.glyph, line.colour, value_label(line.last())) for line in self._lines]
        says = (self.title, self.log_scale, width, *lines)
        if self._header_strip is None or says != self._header_says:
            self._header_strip, self._header_says = self._dressed(self._legends(width)), says
        return self._header_strip

    def _legends(self, width: int) -> Strip:
        """Entries that don't fit are left out, from the last."""
        segments = [Segment(self.title, self._part("title"))]
        if self.log_scale:
            segments.append(Segment(" log", self._part("tick")))
        for line in self._lines:
            entry = [Segment("  "), *self._legend(line)]
            if sum(cell_len(segment.text) for segment in [*segments, *entry]) > width:
                break
            segments += entry
        return Strip(segments).crop_extend(0, width, None)

    def _legend(self, line: Line) -> list[Segment]:
        colour = self._coloured(line.colour)
        return [
            Segment(f"{line.glyph} ", colour),
            Segment(f"{line.label} " if line.label else "", self._part("tick")),
            Segment(value_label(line.last()), self._bold(line.colour)),
        ]

    def _small(self, size: Size) -> list[Strip]:
        """Where no axes fit: the title and the newest values, one below the other if they don't fit in a row."""
        if size.width >= LEAST_WIDTH or size.height == 1:
            return [self._legends(size.width)][: size.height]
        title = Segment(self.title, self._part("title"))
        rows = [[title], *(self._legend(line) for line in self._lines)]
        return [Strip(row).crop_extend(0, size.width, None) for row in rows[: size.height]]

    def _why_empty(self) -> str:
        if not any(len(line.y) for line in self._lines):
            return self.empty_text
        return "No value above 0 to show on a log axis" if self.log_scale else "No finite value yet"

    def _centred(self, text: str, width: int, height: int) -> list[Strip]:
        style = self._part("tick")
        row = Strip([Segment(" " * max(0, (width - cell_len(text)) // 2)), Segment(text, style)])
        strips = [Strip.blank(width)] * height
        strips[(height - 1) // 2] = row.crop_extend(0, width, None)
        return strips

    def _styles(self, colours: Sequence[str]) -> list[Style]:
        """One style for each number in the grid of styles, as the terminal will get it."""
        return [self._dress(self._part(part)) for part in ("axis", "tick", "mark")] + [
            self._dress(self._coloured(colour)) for colour in colours
        ]

    # Textual asks a widget's ancestors for what a style comes to. It comes to the same until `notify_style_update`.

    def _part(self, name: str) -> Style:
        """The style of a part of the chart."""
        if name not in self._parts:
            self._parts[name] = self.get_component_rich_style(f"chart--{name}")
        return self._parts[name]

    def _coloured(self, variable: str) -> Style:
        """A variable of the theme on this widget's background; text's own colour if the theme lacks it."""
        key = f"${variable}"
        if key not in self._parts:
            variables = self.app.theme_variables
            _, background = self.background_colors
            colour = background + Color.parse(variables.get(variable, variables["foreground"]))
            self._parts[key] = Style(color=colour.rich_color)
        return self._parts[key]

    def _bold(self, variable: str) -> Style:
        key = f"bold ${variable}"
        if key not in self._parts:
            self._parts[key] = self._coloured(variable) + Style(bold=True)
        return self._parts[key]

    def _dress(self, style: Style | None) -> Style:
        """The style on this widget's background, in colours that the terminal has."""
        if style not in self._dressed_styles:
            segments = [Segment(" ", self.rich_style + style)]
            for each in self.get_line_filters():
                segments = each.apply(segments, self.background_colors[1])
            self._dressed_styles[style] = segments[0].style or Style()
        return self._dressed_styles[style]


def _extremes(values: NDArray[np.float64]) -> tuple[float, float]:
    """The least and the greatest of the finite values, of which there is one."""
    low, high = float(values.min()), float(values.max())
    return (low, high) if math.isfinite(low) and math.isfinite(high) else _extremes(values[np.isfinite(values)])


def _log10(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Powers of ten; NaN for 0 and below."""
    return np.log10(values, where=values > 0, out=np.full(len(values), np.nan))


class Grid:
    """Rows of characters as strips; a row that is as it was in the grid `before` is its strip again.

    `characters` and `styles`, numbers of `table`, are (rows, width).
    """

    def __init__(
        self,
        characters: NDArray[np.uint32],
        styles: NDArray[np.int64],
        table: Sequence[Style],
        before: Grid | None = None,
    ) -> None:
        self._characters, self._styles, self._table = characters, styles, table
        if before is None or before._table != table or before._characters.shape != characters.shape:
            self.strips = [Strip.blank(0)] * len(characters)
            self._draw(range(len(characters)))
            return
        self.strips = list(before.strips)  # a strip keeps what the terminal is sent for it
        differs = ((characters != before._characters) | (styles != before._styles)).any(axis=1)
        self._draw(np.flatnonzero(differs).tolist())

    def _draw(self, rows: Sequence[int]) -> None:
        """Neighbours of one style are one segment."""
        width = self._characters.shape[1]
        changes = self._styles[:, 1:] != self._styles[:, :-1]
        for row in rows:
            text, styles = self._characters[row].tobytes().decode("utf-32-le"), self._styles[row]
            edges = [0, *(changes[row].nonzero()[0] + 1).tolist(), width]
            segments = [Segment(text[a:b], self._table[styles[a]]) for a, b in pairwise(edges)]
            self.strips[row] = Strip(segments, width)
