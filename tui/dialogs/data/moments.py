"""The mean and the deviation of each channel, measured while one waits, and offered as a transform."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Horizontal, Vertical
from textual.widgets import Button, DataTable, Static

from engine.errors import StudioError
from engine.recipe import Part, format_value
from tui.dialogs.dialog import Dialog
from tui.looking import CalledOff, Errand
from tui.training import Desk
from tui.widgets.table import Table

if TYPE_CHECKING:
    from engine.data.preview import Moments, View

_FRAME_S = 0.1
_HEADS = "", "mean", "deviation"


class MomentsScreen(Dialog[Part | None]):
    """Returns the transform to put in, or None. Escape ends the measuring."""

    CSS_PATH = ["../dialogs.tcss", "data.tcss"]
    BINDINGS = [Binding("escape", "dismiss(None)", "Cancel", tooltip="End it, change nothing", id="moments.cancel")]

    def __init__(self, desk: Desk, view: View) -> None:
        super().__init__()
        self._desk, self._view = desk, view
        self._errand = Errand()
        self.found: Moments | None = None

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog") as dialog:
            dialog.border_title = "Mean and deviation of the training samples"
            dialog.border_subtitle = "enter · escape"
            yield Table(id="moments", cursor_type="none", show_cursor=False)
            yield Static("…", id="moments-line", markup=False)
            with Horizontal(classes="buttons"):
                yield Button("Use it", variant="success", id="use", compact=True, disabled=True)
                yield Button("Cancel", id="cancel", compact=True)

    def on_mount(self) -> None:
        """Begin."""
        table = self.query_one(DataTable)
        table.add_columns(*_HEADS)
        table.can_focus = False
        self.query_one("#cancel", Button).focus()
        self._clock = self.set_interval(_FRAME_S, self._tick)
        self._measure()

    def on_unmount(self) -> None:
        """However the dialog is left, the measuring ends."""
        self._errand.cancel()

    @on(Button.Pressed, "#use")
    def _use(self) -> None:
        self.dismiss(self.found.step if self.found is not None else None)

    @on(Button.Pressed, "#cancel")
    def _cancel(self) -> None:
        self.dismiss(None)

    @work(exit_on_error=False, group="measure")
    async def _measure(self) -> None:
        view, errand = self._view, self._desk.data.begin("measure", self._errand)
        line = self.query_one("#moments-line", Static)
        try:
            found = await asyncio.to_thread(errand.run, lambda: self._desk.data.measure(view, errand))
        except CalledOff:
            return
        except StudioError as error:
            self._clock.stop()
            line.add_class("-wrong")
            line.update(f"✗ {error}")
            return
        self._clock.stop()
        self.found = found
        table = self.query_one(DataTable)
        named = zip(found.names, found.mean, found.std, strict=True)
        rows = [(name, f"{mean:.4g}", f"{std:.4g}") for name, mean, std in named]
        table.add_rows(rows)
        line.update(_offer(found))
        button = self.query_one("#use", Button)
        button.disabled = False
        button.focus()

    def _tick(self) -> None:
        self.query_one("#moments-line", Static).update(self._errand.text or "…")


def _offer(found: Moments) -> str:
    """What `Use it` would do."""
    skipped = f" {found.skipped:,} could not be read." if found.skipped else ""
    over = f"Over {found.count:,} training samples.{skipped} "
    if found.step.name == "Standardize":
        return f"{over}Standardize in data.transforms measures the same itself, at every start."
    values = ", ".join(f"{name} = {format_value(value)}" for name, value in found.step.parameters.items())
    return f"{over}Into data.transforms: Normalize, {values}. Pictures count from 0 to 1."
