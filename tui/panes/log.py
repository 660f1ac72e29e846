"""The last lines that the run, the libraries and the studio had to say."""

from __future__ import annotations

from collections.abc import Sequence

from textual.app import ComposeResult
from textual.geometry import Size
from textual.reactive import Reactive
from textual.widgets import RichLog

from tui.panes.pane import Pane


class Lines(RichLog):
    """A log whose growth is its own affair: RichLog asks for a new layout of the whole screen at every line."""

    virtual_size = Reactive(Size(0, 0))

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
        yield Lines(max_lines=1000, wrap=True, min_width=20, id="log-lines")

    def add(self, lines: Sequence[str]) -> None:
        """Append lines."""
        log = self.query_one(RichLog)
        follows = log.is_vertical_scroll_end
        for line in lines:
            log.write(line, scroll_end=follows and not log.size)  # one that was never seen writes them later
        if lines and follows:
            log.scroll_end(animate=False, immediate=True, x_axis=False)  # else it would be painted, then scrolled

    def clear(self) -> None:
        """Begin anew, for another run."""
        self.query_one(RichLog).clear()
