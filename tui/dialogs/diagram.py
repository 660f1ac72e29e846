"""The model drawn as blocks, from the data at the top to the scores at the bottom."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import ScrollableContainer, Vertical
from textual.widgets import Static

from tui.charts.diagram import diagram
from tui.dialogs.dialog import Dialog
from tui.widgets.titles import plain

if TYPE_CHECKING:
    from engine.models.rows import LayerRow


class DiagramScreen(Dialog[None]):
    """Shows a traced model; the arrows scroll."""

    CSS_PATH = "dialogs.tcss"
    BINDINGS = [Binding("escape,g,q", "dismiss(None)", "Close", tooltip="Back to the studio", id="diagram.close")]

    def __init__(self, title: str, rows: Sequence[LayerRow]) -> None:
        super().__init__()
        self._title, self._rows = title, rows

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog -whole") as dialog:
            dialog.border_title = plain(self._title)
            dialog.border_subtitle = "↑↓←→ scroll · escape"
            with ScrollableContainer(id="diagram-scroll"):
                yield Static(Text("\n".join(diagram(self._rows)), no_wrap=True), id="diagram")

    def on_mount(self) -> None:
        """The middle of a drawing that is wider than the screen is where the data goes in."""
        self.query_one(ScrollableContainer).focus()
        self.call_after_refresh(self._centre)

    def _centre(self) -> None:
        scroll = self.query_one(ScrollableContainer)
        scroll.scroll_to(x=scroll.max_scroll_x // 2, animate=False)
