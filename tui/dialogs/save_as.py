"""Ask for the name of a preset of one's own, checked while it is typed."""

from __future__ import annotations

from pathlib import Path

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Horizontal, Vertical
from textual.widgets import Button, Input, Label, Static

from presets.own import name_problem, own_path
from tui.dialogs.dialog import Dialog
from tui.widgets.titles import plain


class SaveAsScreen(Dialog[str | None]):
    """Returns a name that a preset can have, or None. Whether to overwrite one is for the caller to ask."""

    CSS_PATH = "dialogs.tcss"
    BINDINGS = [Binding("escape", "dismiss(None)", "Cancel", tooltip="Save nothing", id="save_as.cancel")]

    def __init__(self, title: str, name: str) -> None:
        super().__init__()
        self._title, self._name_at_first = title, name

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog -small") as dialog:
            dialog.border_title = plain(self._title)
            dialog.border_subtitle = "enter · escape"
            with Horizontal(classes="row"):
                yield Label("name")
                yield Input(self._name_at_first, id="save-name", compact=True, select_on_focus=True)
            yield Static(id="save-line", markup=False)
            with Horizontal(classes="buttons"):
                yield Button("OK", variant="success", id="ok", compact=True)
                yield Button("Cancel", id="cancel", compact=True)

    def on_mount(self) -> None:
        """Type at once."""
        self.query_one(Input).focus()
        self._say()

    @on(Input.Changed)
    def _typed(self, event: Input.Changed) -> None:
        event.stop()
        self._say()

    @on(Input.Submitted)
    @on(Button.Pressed, "#ok")
    def _accept(self) -> None:
        if not self._say():
            self.dismiss(self.query_one(Input).value.strip())

    @on(Button.Pressed, "#cancel")
    def _cancel(self) -> None:
        self.dismiss(None)

    def _say(self) -> str:
        """Show where it will lie, or why it can't; the reason."""
        name = self.query_one(Input).value.strip()
        problem, line = name_problem(name), self.query_one("#save-line", Static)
        line.set_class(bool(problem), "-wrong")
        path = own_path(name)
        there = path.exists() and name != self._name_at_first
        line.update(problem or f"{shown_path(path)}{': is there, and would be overwritten' if there else ''}")
        return problem


def shown_path(path: Path) -> str:
    """A path as a person writes it."""
    try:
        return f"~/{path.relative_to(Path.home())}"
    except (ValueError, RuntimeError):  # elsewhere, or the person has no home
        return str(path)
