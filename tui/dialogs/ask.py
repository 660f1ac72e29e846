"""Ask before something that can't be taken back."""

from __future__ import annotations

from collections.abc import Sequence

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Horizontal, Vertical
from textual.widgets import Button, Static

from tui.dialogs.dialog import Dialog
from tui.widgets.titles import plain


class AskScreen(Dialog[str | None]):
    """A question with two or more answers, each `(name, label)`; returns a name, or None for escape."""

    CSS_PATH = "dialogs.tcss"
    BINDINGS = [
        Binding("escape", "dismiss(None)", "Cancel", tooltip="Leave everything as it is", id="ask.cancel"),
        Binding("left", "app.focus_previous", "Previous", tooltip="Previous answer", id="ask.previous", show=False),
        Binding("right", "app.focus_next", "Next", tooltip="Next answer", id="ask.next", show=False),
    ]

    def __init__(self, title: str, question: str, answers: Sequence[tuple[str, str]]) -> None:
        super().__init__()
        self._title, self._question, self._answers = title, question, answers

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog -small") as dialog:
            dialog.border_title = plain(self._title)
            dialog.border_subtitle = "← → · enter · escape"
            yield Static(self._question, classes="about", markup=False)
            with Horizontal(classes="buttons"):
                for name, label in self._answers:
                    yield Button(label, id=f"answer-{name}", compact=True)

    def on_mount(self) -> None:
        """The first answer is the safe one."""
        self.query(Button).first().focus()

    @on(Button.Pressed)
    def _answered(self, event: Button.Pressed) -> None:
        event.stop()
        self.dismiss(str(event.button.id).removeprefix("answer-"))
