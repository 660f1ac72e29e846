"""A named value in a form, checked while it is typed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Horizontal
from textual.events import DescendantFocus
from textual.message import Message
from textual.widgets import Input, Label

from engine.errors import StudioError
from engine.recipe import format_value, parse_value


class Field(Horizontal):
    """A label and an input. `check` raises a StudioError for a value that does not fit.

    An empty input means None: the default, which is shown in its place.
    """

    BINDINGS = [
        Binding("down", "app.focus_next", "Next", tooltip="The next field", id="field.next"),
        Binding("up", "app.focus_previous", "Previous", tooltip="The field above", id="field.previous"),
    ]
    DEFAULT_CSS = """
    Field { height: 1; }
    Field Label { width: 17; color: $foreground 80%; }
    Field Input { width: 1fr; background: $surface; }
    Field Input:focus { background: $boost; }
    Field.-wrong Label { color: $error; text-style: bold; }
    Field.-wrong Input { color: $error; }
    """

    class Edited(Message):
        """The person typed a value that fits."""

        def __init__(self, key: str, value: Any) -> None:
            self.key, self.value = key, value
            super().__init__()

    class Told(Message):
        """There is something to say about this field: its help, or what is wrong with it."""

        def __init__(self, text: str, *, wrong: bool) -> None:
            self.text, self.wrong = text, wrong
            super().__init__()

    def __init__(
        self,
        key: str,
        value: Any,
        *,
        label: str = "",
        default: Any = None,
        help: str = "",
        check: Callable[[Any], None] = lambda value: None,
    ) -> None:
        super().__init__()
        self.key = key
        self.help = help
        self.error: StudioError | None = None
        self._check = check
        self._label = label or key.rpartition(".")[2]
        self._text = "" if value is None else format_value(value)
        self._placeholder = "" if default is None else format_value(default)

    def compose(self) -> ComposeResult:
        label = Label(self._label)
        label.tooltip = self.help or None
        yield label
        yield Input(self._text, placeholder=self._placeholder, compact=True, select_on_focus=False)

    @property
    def value(self) -> Any:
        """The typed value; None when the input is empty."""
        text = self.query_one(Input).value
        return parse_value(text) if text.strip() else None

    def put(self, value: Any) -> None:
        """Show another value, unless it is what the person is typing right now."""
        text = "" if value is None else format_value(value)
        field = self.query_one(Input)
        if parse_value(field.value) != parse_value(text) or (self.error and not field.has_focus):
            with self.prevent(Input.Changed):
                field.value = text
            self._judge(None)

    @on(Input.Changed)
    def _typed(self, event: Input.Changed) -> None:
        event.stop()
        try:
            self._check(self.value)
        except StudioError as error:
            self._judge(error)
            return
        self._judge(None)
        self.post_message(self.Edited(self.key, self.value))

    def on_descendant_focus(self, event: DescendantFocus) -> None:
        """Tell what the field is for."""
        self._tell()

    def _judge(self, error: StudioError | None) -> None:
        self.error = error
        self.set_class(error is not None, "-wrong")
        self._tell()

    def _tell(self) -> None:
        if self.has_focus_within:
            text = f"{self.error.what}. {self.error.remedy}" if self.error else self.help
            self.post_message(self.Told(text, wrong=self.error is not None))
