"""Real steps that no run keeps, taken in a thread while a dialog shows what they find."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Horizontal, Vertical
from textual.widgets import Button, Static

from engine.errors import StudioError
from engine.recipe import Recipe
from engine.training.control import Control, Stopped
from tui.dialogs.dialog import Dialog
from tui.training import Desk

_FRAME_S = 0.1


class TrialScreen(Dialog[Mapping[str, Any] | None]):
    """Returns the dotted settings that the person wants to use, or None. Escape ends the steps.

    A finder says what is measured (`measure`, in the thread), how it is shown (`body`, `show_news`), what is offered.
    """

    CSS_PATH = "dialogs.tcss"
    BINDINGS = [Binding("escape", "leave", "Cancel", tooltip="End the steps, change nothing", id="trial.cancel")]
    TITLE_TEXT = ""

    def __init__(self, desk: Desk, recipe: Recipe) -> None:
        super().__init__()
        self.desk, self.recipe = desk, recipe
        self.control = Control()
        self.over = False
        """Whether the thread has ended; written by it, last of all."""
        self.trouble = ""
        """Why it ended without a result; written by the thread."""
        self._leaving = False

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog -large") as dialog:
            dialog.border_title = self.TITLE_TEXT
            dialog.border_subtitle = "enter · escape"
            yield from self.body()
            yield Static("Building the model, loading the data…", id="trial-line", markup=False)
            with Horizontal(classes="buttons"):
                yield Button("Use it", variant="success", id="use", compact=True, disabled=True)
                yield Button("Cancel", id="cancel", compact=True)

    def on_mount(self) -> None:
        """Begin."""
        self.query_one("#cancel", Button).focus()
        self._clock = self.set_interval(_FRAME_S, self._tick)
        self._work()

    def on_unmount(self) -> None:
        """However the dialog is left, the steps end."""
        self.control.stop()

    @abstractmethod
    def body(self) -> ComposeResult:
        """The widgets that show what is measured."""

    @abstractmethod
    def measure(self) -> None:
        """Take the steps. Runs in a thread of its own. Raises StudioError or Stopped."""

    @abstractmethod
    def show_news(self) -> str:
        """Draw what was measured so far; the line below it."""

    @abstractmethod
    def offer(self) -> Mapping[str, Any] | None:
        """What `Use it` would set; None while there is nothing."""

    def action_leave(self) -> None:
        """End the steps, then close; pressed again, close at once."""
        if self.over or self._leaving:
            self.dismiss(None)
        self._leaving = True
        self.control.stop()

    @work(thread=True, exit_on_error=False, group="trial", description="steps that no run keeps")
    def _work(self) -> None:
        try:
            self.measure()
        except Stopped:
            pass
        except StudioError as error:
            self.trouble = str(error)
        finally:
            self.over = True

    def _tick(self) -> None:
        over = self.over  # read first: what the thread wrote before it is all there
        if over and self._leaving:
            self.dismiss(None)
            return
        line = self.query_one("#trial-line", Static)
        text = self.trouble or self.desk.download or self.show_news()
        line.set_class(bool(self.trouble), "-wrong")
        line.update("Ending after this step…" if self._leaving else text)
        if not over:
            return
        self._clock.stop()
        button = self.query_one("#use", Button)
        button.disabled = self.offer() is None
        if not button.disabled:
            button.focus()

    @on(Button.Pressed, "#use")
    def _use(self) -> None:
        self.dismiss(self.offer())

    @on(Button.Pressed, "#cancel")
    def _cancel(self) -> None:
        self.action_leave()
