"""The last lines that the run, the libraries and the studio had to say."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from textual.app import ComposeResult
from textual.events import Resize
from textual.geometry import Size
from textual.reactive import Reactive
from textual.widgets import RichLog

from tui.panes.pane import Pane

_LINES = 1000
_KEPT = 300  # that are wrapped anew for another width: it takes 0.1 ms each


class Lines(RichLog):
    """A log whose growth is its own affair: RichLog asks for a new layout of the whole screen at every line."""

    virtual_size = Reactive(Size(0, 0))

    def __init__(self, *, id: str) -> None:
        super().__init__(max_lines=_LINES, wrap=True, min_width=20, id=id)
        self._told: deque[str] = deque(maxlen=_KEPT)
        self._width = 0  # at which all that was told is wrapped; 0 where some of it is not

    def tell(self, lines: Sequence[str]) -> None:
        """Append lines, and follow them unless the person has scrolled up.

        While it can't be seen they are kept: RichLog would wrap them at its smallest width for good.
        """
        self._told.extend(lines)
        if not self.size.width or self.size.width != self._width:
            self._width = 0
            return
        follows = self.is_vertical_scroll_end
        for line in lines:
            self.write(line, scroll_end=False)
        if lines and follows:
            self._follow()

    def forget(self) -> None:
        """Begin anew."""
        self._told.clear()
        self.clear()

    def on_resize(self, event: Resize) -> None:
        """Wrap the last lines for the width that there is now."""
        self.call_later(self._wrap)  # RichLog, which keeps lines back until it has a size, hears of it after this

    def _wrap(self) -> None:
        if not self.size.width or self.size.width == self._width:
            return
        self._width, follows = self.size.width, self.is_vertical_scroll_end
        self.clear()
        for line in self._told:
            self.write(line, scroll_end=False)
        if follows:
            self._follow()

    def _follow(self) -> None:
        self.scroll_end(animate=False, immediate=True, x_axis=False)  # else it would be painted, then scrolled

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
