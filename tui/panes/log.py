"""The last lines that the run, the libraries and the studio had to say."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Self

from textual.app import ComposeResult
from textual.events import Resize
from textual.geometry import Region, Size
from textual.reactive import Reactive
from textual.strip import Strip
from textual.widgets import RichLog

from tui.charts.direct import at_once
from tui.panes.pane import Pane

_LINES = 1000
_KEPT = 300  # that are wrapped anew for another width: it takes 0.1 ms each


class Lines(RichLog):
    """A log whose growth is its own affair.

    RichLog asks for a new layout of the whole screen at every line, and Textual would compose anew whatever lies in the
    least rectangle around it and its scrollbar. Here what differs goes straight to the terminal.
    """

    virtual_size = Reactive(Size(0, 0))

    def __init__(self, *, id: str) -> None:
        super().__init__(max_lines=_LINES, wrap=True, min_width=20, id=id)
        self._told: deque[str] = deque(maxlen=_KEPT)
        self._width = 0  # at which all that was told is wrapped; 0 where some of it is not
        self._seen = Size(0, 0)  # the size for which it was scrolled
        self._follows = True
        self._dressed: dict[int, Strip] = {}
        """Lines as the terminal gets them, by their number since the beginning."""

    def tell(self, lines: Sequence[str]) -> None:
        """Append lines, and follow them unless the person has scrolled up.

        While it can't be seen they are kept: RichLog would wrap them at its smallest width for good.
        """
        self._told.extend(lines)
        if not self.size.width or self.size.width != self._width:
            self._width = 0
            return
        if lines:
            at_once(self, lambda: at_once(self.vertical_scrollbar, lambda: self._append(lines)))

    def forget(self) -> None:
        """Begin anew."""
        self._told.clear()
        self.clear()
        self.scroll_home(animate=False, immediate=True)  # or what follows at once would begin far from the end

    def clear(self) -> Self:
        self._dressed.clear()
        return super().clear()

    def notify_style_update(self) -> None:
        self._dressed.clear()
        super().notify_style_update()

    def on_resize(self, event: Resize) -> None:
        """Wrap the last lines for the width that there is now, and stay at the end if it was shown."""
        self.call_later(self._wrap)  # RichLog, which keeps lines back until it has a size, hears of it after this

    def render_lines(self, crop: Region) -> list[Strip]:
        """The strips as they are: there is no border and no padding that Textual would have to add to each."""
        width, (left, right) = self.outer_size.width, crop.column_span
        strips = [self._line(self.scroll_offset.y + row, width) for row in crop.line_range]
        return strips if (left, right) == (0, width) else [strip.crop(left, right) for strip in strips]

    def _line(self, row: int, width: int) -> Strip:
        number = self._start_line + row if row < len(self.lines) else -1
        strip = self._dressed.get(number)
        if strip is None or strip.cell_length != width:
            line = self.lines[row] if number >= 0 else Strip([])
            strip = line.crop_extend(0, width, None).apply_style(self.rich_style)
            for each in self.get_line_filters():  # in colours that the terminal has
                strip = strip.apply_filter(each, self.background_colors[1])
            if len(self._dressed) > _LINES:
                self._dressed.clear()
            self._dressed[number] = strip
        return strip

    def _append(self, lines: Sequence[str]) -> None:
        for line in lines:
            self.write(line, scroll_end=False)
        if self._follows:
            self._follow()

    def _wrap(self) -> None:
        if not self.size.width:
            return
        follows = self._follows
        if self.size.width != self._width:
            self._width = self.size.width
            self.clear()
            for line in self._told:
                self.write(line, scroll_end=False)
        self._seen = self.size
        if follows:
            self._follow()

    def _follow(self) -> None:
        self.scroll_end(animate=False, immediate=True, x_axis=False)  # else it would be painted, then scrolled

    def watch_scroll_y(self, before: float, after: float) -> None:
        """A person scrolls; in another size than that which was seen, Textual does."""
        super().watch_scroll_y(before, after)
        if self.size == self._seen:
            self._follows = self.is_vertical_scroll_end

    def watch_virtual_size(self, before: Size, after: Size) -> None:
        """A layout only where a scrollbar comes or goes."""
        height = self.scrollable_content_region.height
        if (before.height > height) != (after.height > height):
            self.refresh(layout=True)
            return
        if self.show_vertical_scrollbar:
            self.vertical_scrollbar.window_virtual_size = after.height
        self.refresh()


class LogPane(Pane):
    """Lines, newest last. It follows the end unless the person scrolls up."""

    BORDER_TITLE = "Log [dim]7[/]"
    HELP = "What the run and the libraries print. All of it, with tracebacks, is in the run's log.txt."

    def compose(self) -> ComposeResult:
        yield Lines(id="log-lines")

    def add(self, lines: Sequence[str]) -> None:
        """Append lines."""
        self.query_one(Lines).tell(lines)

    def clear(self) -> None:
        """Begin anew, for another run."""
        self.query_one(Lines).forget()
