"""Memory and load of each device, with a minute of history."""

from __future__ import annotations

from textual import getters
from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.content import Content

from engine.devices.monitor import Snapshot
from tui.panes.pane import Zoomable
from tui.widgets.device_cards import draw
from tui.widgets.told import Told


class DevicesPane(VerticalScroll, Zoomable, can_focus=True):
    """The numbers of each device with a minute of history. Shows the snapshots it is given, computes nothing."""

    HELP = """Memory bars are split by owner: █ this process, ▒ others, ░ free.

    `alloc` is what torch's allocator has given out to this process, `reserved` or `resv` what it holds, `peak` the
    most it ever gave out. `threads` are those that share an operation of a training on the CPU: small ones are done
    sooner by one. Graphs show the last minute: temperature from 20 to 100 °C, power up to the board's limit,
    torch's memory up to the most it held. `m` shows this pane alone, and with taller graphs."""
    BORDER_TITLE = "Devices [dim]6[/]"
    ALLOW_MAXIMIZE = True  # VerticalScroll refuses
    DEFAULT_CSS = """
    DevicesPane { padding: 0 1; scrollbar-size-vertical: 1; }
    DevicesPane > Static { height: auto; text-wrap: nowrap; text-overflow: clip; }
    """

    meters = getters.query_one(Told)

    def __init__(
        self, *, name: str | None = None, id: str | None = None, classes: str | None = None, disabled: bool = False
    ) -> None:
        super().__init__(name=name, id=id, classes=classes, disabled=disabled)
        self._history: tuple[Snapshot, ...] = ()
        self._painted = Content()
        self._rows = 0
        self._threads = 0

    def compose(self) -> ComposeResult:
        yield Told()

    def show(self, history: tuple[Snapshot, ...], threads: int = 0) -> None:
        """Show these snapshots, oldest first; paints only what differs from what is there.

        `threads` share an operation of the training on the CPU; 0 where there is none.
        """
        if history is not self._history or threads != self._threads:
            self._history, self._threads = history, threads
            self._paint()

    def on_resize(self) -> None:
        self._paint()

    def _paint(self) -> None:
        width, height = self.size
        if not width:
            return  # not laid out yet; on_resize comes when it is
        lines = draw(self._history, width, height, self._threads)
        if len(lines) > height:
            lines = draw(self._history, width - self.styles.scrollbar_size_vertical, height, self._threads)
        content = Content("\n").join(lines)
        if not content.is_same(self._painted):
            self._painted = content
            if len(lines) == self._rows:
                self.meters.tell(content)
            else:
                self.meters.update(content)  # a new layout is of the whole screen
                self._rows = len(lines)
