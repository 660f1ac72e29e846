"""Change the learning rate of the run that is training."""

from __future__ import annotations

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Horizontal, Vertical
from textual.screen import ModalScreen
from textual.widgets import Button, Input, Static

from engine.recipe import format_value


class LearningRateScreen(ModalScreen[float | None]):
    """Returns the new rate, or None. ↑ and ↓ double and halve it."""

    CSS_PATH = "dialogs.tcss"
    BINDINGS = [
        Binding("escape", "dismiss(None)", "Cancel", tooltip="Change nothing", id="lr.cancel"),
        Binding("up", "scale(2)", "Double", tooltip="Twice the rate", id="lr.double"),
        Binding("down", "scale(0.5)", "Halve", tooltip="Half the rate", id="lr.halve"),
    ]

    def __init__(self, current: float) -> None:
        super().__init__()
        self._current = current

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog -small") as dialog:
            dialog.border_title = "Learning rate"
            dialog.border_subtitle = "↑ double · ↓ halve · enter · escape"
            yield Static(f"It is {self._current:g} now. From the next step on:", classes="about")
            yield Input(format_value(float(f"{self._current:.4g}")), id="rate", compact=True)
            yield Static(id="rate-error", classes="error")
            with Horizontal(classes="buttons"):
                yield Button("OK", variant="success", id="ok", compact=True)
                yield Button("Cancel", id="cancel", compact=True)

    def on_mount(self) -> None:
        """Type at once."""
        self.query_one(Input).focus()

    def action_scale(self, factor: float) -> None:
        """Multiply the rate in the field."""
        rate = self._rate()
        if rate is not None:
            self.query_one(Input).value = format_value(float(f"{rate * factor:.4g}"))

    @on(Input.Changed)
    def _typed(self, event: Input.Changed) -> None:
        event.stop()
        wrong = self._rate() is None
        text = f"'{event.value}' is not a positive number. Try 0.001." if wrong else ""
        self.query_one("#rate-error", Static).update(text)

    @on(Input.Submitted)
    @on(Button.Pressed, "#ok")
    def _accept(self) -> None:
        rate = self._rate()
        if rate is not None:
            self.dismiss(rate)

    @on(Button.Pressed, "#cancel")
    def _cancel(self) -> None:
        self.dismiss(None)

    def _rate(self) -> float | None:
        try:
            rate = float(self.query_one(Input).value)
        except ValueError:
            return None
        return rate if 0 < rate < float("inf") else None
