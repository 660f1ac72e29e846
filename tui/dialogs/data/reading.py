"""Waiting for files to be read."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.widgets import Static

from engine.data.sources import Source
from engine.errors import StudioError
from tui.dialogs.dialog import Dialog
from tui.looking import Errand
from tui.widgets.titles import plain

_FRAME_S = 0.1


class ReadingScreen(Dialog[Source | StudioError | None]):
    """Returns what was found, or what is wrong.

    Escape calls the reading off and returns None.
    """

    CSS_PATH = "../dialogs.tcss"
    BINDINGS = [Binding("escape", "leave", "Cancel", tooltip="Read no further, change nothing", id="reading.cancel")]

    def __init__(self, name: str, errand: Errand, read: Callable[[], Source]) -> None:
        super().__init__()
        self._title, self._errand, self._work = name, errand, read

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog -small") as dialog:
            dialog.border_title = plain(f"Reading {self._title}")
            dialog.border_subtitle = "escape"
            yield Static("…", id="reading-line", markup=False)

    def on_mount(self) -> None:
        """Begin."""
        self.set_interval(_FRAME_S, self._tick)
        self._read()

    def on_unmount(self) -> None:
        """However the dialog is left, the reading ends."""
        self._errand.cancel()

    def action_leave(self) -> None:
        """Read no further."""
        self.dismiss(None)

    @work(exit_on_error=False, group="reading")
    async def _read(self) -> None:
        try:
            found: Source | StudioError = await asyncio.to_thread(self._work)
        except StudioError as error:
            found = error
        if self.is_current:
            self.dismiss(found)

    def _tick(self) -> None:
        self.query_one("#reading-line", Static).update(self._errand.text or "…")
