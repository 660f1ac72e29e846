"""A named value in a form, checked while it is typed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Horizontal
from textual.content import Content
from textual.events import Click, DescendantFocus, Focus
from textual.message import Message
from textual.widget import Widget
from textual.widgets import Input, Label

from engine.errors import StudioError
from engine.recipe import format_value, parse_value


class Field(Horizontal):
    """A label and an input. `check` raises a StudioError for a value that does not fit.

    An empty input means None: the default, which is shown in its place. In a `text` field 2019 is text, too. A `calm`
    field is a row first, so that the studio's keys go on working while one walks over it; enter or a click types into
    it, enter or escape leaves it. It is drawn as text until then: sixty inputs would make every change of the focus
    take a tenth of a second.
    """

    BINDINGS = [
        Binding("enter", "edit", "Edit", tooltip="Type another value", id="field.edit"),
        Binding("escape", "leave", "Back", tooltip="Leave the field", id="field.leave"),
    ]
    DEFAULT_CSS = """
    Field { height: 1; }
    Field Label { color: $foreground 80%; }
    Field Input { width: 1fr; background: $surface; }
    Field Input:focus { background: $boost; }
    Field:focus { background: $primary 30%; }
    Field.-wrong Label { color: $error; text-style: bold; }
    Field.-wrong Input { color: $error; }
    """

    class Edited(Message):
        """The person typed a value that fits. A calm field takes it back when what is typed on does not."""

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
        calm: bool = False,
        text: bool = False,
        label_width: int = 17,
    ) -> None:
        super().__init__()
        self.key = key
        self.help = help
        self.error: StudioError | None = None
        self.can_focus = calm
        self.tooltip = help or None
        self._calm = calm
        self._check = check
        self._is_text = text
        self._label = label or key.rpartition(".")[2]
        self._label_width = label_width
        self._text = _text_of(value)
        self._later = ""
        self._before: Any = None
        """The value as it was when the person began to type."""
        self._placeholder = "" if default is None else format_value(default)

    def compose(self) -> ComposeResult:
        if not self._calm:
            yield from self._parts()

    def render(self) -> Content | str:
        """The row while nobody types into it."""
        if self.children:
            return ""
        label, width = self._label[: self._label_width - 1], max(self.size.width - self._label_width, 0)
        shown = (self._text or self._placeholder)[:width].ljust(width)
        name = "bold $error" if self.error else "$foreground 80%"
        value = "$error" if self.error else "" if self._text else "$foreground 50%"
        return Content.assemble((label.ljust(self._label_width), name), (shown, f"{value} on $surface".strip()))

    @property
    def value(self) -> Any:
        """The typed value; None when the input is empty."""
        if not self._text.strip():
            return None
        typed = parse_value(self._text)
        return self._text.strip() if self._is_text and not isinstance(typed, (str, type(None))) else typed

    def put(self, value: Any) -> None:
        """Show another value, unless the person is typing right now."""
        text, field = _text_of(value), next(iter(self.query(Input)), None)
        if field is not None and field.has_focus:
            # What is shown may be a key behind: keys that come together, as over a slow line, would be lost. And a
            # default would stand before what is typed next.
            self._later = text
            return
        if parse_value(self._text) != parse_value(text) or self.error:
            self._text = text
            if field is not None:
                with self.prevent(Input.Changed):
                    field.value = text
            self._judge(None)

    def begin(self) -> None:
        """Go to this field, at once: what is typed next may be there already."""
        self.screen.set_focus(self if self._calm else self.query_one(Input))

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """One edits a row and leaves an input; in a dialog enter and escape are the dialog's."""
        if action in ("edit", "leave"):
            return self._calm and self.has_focus == (action == "edit")
        return True

    async def action_edit(self) -> None:
        """Type into the field."""
        if not self.query(Input):
            await self.mount_all(self._parts())
        if not self.error:
            self._before = self.value
        self.screen.set_focus(self.query_one(Input))

    def action_leave(self) -> None:
        """Back to the row."""
        self.focus()

    @on(Input.Submitted)
    def _submitted(self, event: Input.Submitted) -> None:
        if self._calm:
            event.stop()
            self.action_leave()

    @on(Input.Blurred)
    async def _blurred(self) -> None:
        if not self._text.strip():
            self._text, self._later = self._later, ""
        if self._calm:
            await self.remove_children()
            self.refresh()

    @on(Input.Changed)
    def _typed(self, event: Input.Changed) -> None:
        event.stop()
        if event.value == self._text:
            return  # an input also reports what it was given; told late, it would be an edit of another recipe
        self._text = event.value
        try:
            self._check(self.value)
        except StudioError as error:
            self._judge(error)
            if self._calm:
                self.post_message(self.Edited(self.key, self._before))  # 5 fitted, 5x does not: it changes nothing
            return
        self._judge(None)
        self.post_message(self.Edited(self.key, self.value))

    async def on_click(self, event: Click) -> None:
        """A click types into the field."""
        await self.action_edit()

    def on_focus(self, event: Focus) -> None:
        """Tell what the field is for."""
        self._tell()

    def on_descendant_focus(self, event: DescendantFocus) -> None:
        """Tell what the field is for."""
        self._tell()

    def _parts(self) -> Iterable[Widget]:
        label = Label(self._label)
        label.styles.width = self._label_width
        yield label
        yield Input(self._text, placeholder=self._placeholder, compact=True, select_on_focus=False)

    def _judge(self, error: StudioError | None) -> None:
        self.error = error
        self.set_class(error is not None, "-wrong")
        self.refresh()
        self._tell()

    def _tell(self) -> None:
        if self.has_focus or self.has_focus_within:
            text = f"{self.error.what}. {self.error.remedy}" if self.error else self.help
            self.post_message(self.Told(text, wrong=self.error is not None))


def _text_of(value: Any) -> str:
    """What stands in the input. The word none is some settings' default; typed, it restores that."""
    if value is None:
        return ""
    return "none" if value == "none" else format_value(value)
