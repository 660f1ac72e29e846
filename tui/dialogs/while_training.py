"""Change the run that is training: learning rate, weight decay, epochs."""

from __future__ import annotations

import math

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Horizontal, Vertical
from textual.widgets import Button, Input, Label, Static

from engine.recipe import format_value
from tui.dialogs.dialog import Dialog
from tui.training import Changes


class WhileTrainingScreen(Dialog[Changes | None]):
    """Returns what was changed and nothing else, or None. ↑ and ↓ double and halve; epochs go up and down by one.

    A `weight_decay` of None: the run's optimizer has none.
    """

    CSS_PATH = "dialogs.tcss"
    BINDINGS = [
        Binding("escape", "dismiss(None)", "Cancel", tooltip="Change nothing", id="change.cancel"),
        Binding("up", "scale(1)", "Double", tooltip="Twice the value, or an epoch more", id="change.double"),
        Binding("down", "scale(-1)", "Halve", tooltip="Half the value, or an epoch less", id="change.halve"),
    ]

    def __init__(self, learning_rate: float, weight_decay: float | None, epochs: int, begun: int) -> None:
        super().__init__()
        self._before = {"rate": f"{learning_rate:.4g}", "epochs": str(epochs)}
        if weight_decay is not None:
            self._before["decay"] = f"{weight_decay:.4g}"
        self._before = {name: format_value(float(text)) for name, text in self._before.items()}
        self._begun = begun

    def compose(self) -> ComposeResult:
        titles = {"rate": "learning rate", "decay": "weight decay", "epochs": "epochs in all"}
        with Vertical(classes="dialog -small") as dialog:
            dialog.border_title = "While it trains"
            dialog.border_subtitle = "↑ double · ↓ halve · tab · enter · escape"
            yield Static("From the next step on; kept when the run is resumed.", classes="about")
            for name, title in titles.items():
                if name in self._before:
                    with Horizontal(classes="row"):
                        yield Label(title)
                        yield Input(self._before[name], id=name, compact=True)
            yield Static(id="change-error", classes="error", markup=False)
            with Horizontal(classes="buttons"):
                yield Button("OK", variant="success", id="ok", compact=True)
                yield Button("Cancel", id="cancel", compact=True)

    def on_mount(self) -> None:
        """Type the rate at once."""
        self.query_one("#rate", Input).focus()

    def action_scale(self, direction: int) -> None:
        """Change the value in the field that has the focus."""
        field = self.focused
        if not isinstance(field, Input) or self._wrong(field):
            return
        value = float(field.value)
        value = value + direction if field.id == "epochs" else float(f"{value * 2.0**direction:.4g}")
        field.value = format_value(value)

    @on(Input.Changed)
    def _typed(self, event: Input.Changed) -> None:
        event.stop()
        self._say()

    @on(Input.Submitted)
    @on(Button.Pressed, "#ok")
    def _accept(self) -> None:
        if self._say():
            return
        changed = {field.id: float(field.value) for field in self.query(Input) if self._differs(field)}
        epochs = changed.get("epochs")
        changes = Changes(changed.get("rate"), changed.get("decay"), None if epochs is None else int(epochs))
        self.dismiss(changes if changed else None)

    @on(Button.Pressed, "#cancel")
    def _cancel(self) -> None:
        self.dismiss(None)

    def _differs(self, field: Input) -> bool:
        return float(field.value) != float(self._before[str(field.id)])

    def _say(self) -> str:
        """Show what is wrong with the first field that is."""
        wrong = next(filter(None, map(self._wrong, self.query(Input))), "")
        self.query_one("#change-error", Static).update(wrong)
        return wrong

    def _wrong(self, field: Input) -> str:
        """Why a value does not fit; empty if it does."""
        try:
            value = float(field.value)
        except ValueError:
            value = math.nan
        if field.id == "epochs":
            fits = math.isfinite(value) and value == int(value) and value >= self._begun
            return "" if fits else f"'{field.value}' is no whole number from {self._begun} on: that epoch has begun."
        if field.id == "decay":
            return "" if 0 <= value < math.inf else f"'{field.value}' is not a number from 0 on. Try 0.01."
        return "" if 0 < value < math.inf else f"'{field.value}' is not a positive number. Try 0.001."
