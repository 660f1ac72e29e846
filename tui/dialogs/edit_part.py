"""Edit the parameters of a layer in a form made from its signature and docstring."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args, get_origin

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Horizontal, Vertical
from textual.widget import Widget
from textual.widgets import Button, Input, Static

from tui.dialogs.dialog import Dialog
from tui.panes.settings import parameter_help
from tui.widgets.field import Field
from tui.widgets.form import Form

if TYPE_CHECKING:
    from engine.catalog import Entry, Parameter

_LABEL = 17  # cells that names take at least


class EditPartScreen(Dialog[dict[str, Any] | None]):
    """Returns the parameters as the person left them, or None when they leave with escape.

    `check` stands in for the parameters' own types where more is known of what fits; it raises StudioError. Of the
    parameters called as in `first` the first is begun in.
    """

    CSS_PATH: ClassVar[Any] = "dialogs.tcss"
    BINDINGS = [Binding("escape", "dismiss(None)", "Cancel", tooltip="Change nothing", id="edit.cancel")]

    def __init__(
        self,
        entry: Entry,
        values: Mapping[str, Any],
        check: Callable[[str, Any], None] | None = None,
        first: Sequence[str] = (),
    ) -> None:
        super().__init__()
        self._entry = entry
        self._check = check
        self._values = dict(values)
        self._first = first

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog") as dialog:
            dialog.border_title = self._entry.name
            dialog.border_subtitle = "enter · escape"
            yield Static(self._entry.summary, classes="about", markup=False)
            with Form(classes="form"):
                offered = asked(self._entry)
                width = max([_LABEL, *(len(parameter.name) + 2 for parameter in offered)])
                for parameter in offered:
                    yield Field(
                        parameter.name,
                        self._values.get(parameter.name),
                        default=_placeholder(parameter),
                        help=parameter_help(parameter),
                        check=self._checked(parameter),
                        text=_is_text(parameter),
                        label_width=width,
                    )
                if not offered:
                    yield Static(f"{self._entry.name} has nothing to set.", classes="about")
            yield Static(id="edit-help", markup=False)
            yield from self.extra()
            with Horizontal(classes="buttons"):
                yield Button("OK", variant="success", id="ok", compact=True)
                yield Button("Cancel", id="cancel", compact=True)

    def _checked(self, parameter: Parameter) -> Callable[[Any], None]:
        def check(value: Any) -> None:
            if value is not None and self._check is not None:
                self._check(parameter.name, value)
            elif value is not None:
                parameter.check(value, "")

        return check

    def extra(self) -> Sequence[Widget]:
        """What else the dialog shows, below the help."""
        return ()

    def on_mount(self) -> None:
        """Begin in the field that is named, else in the first that must be filled, else in the first."""
        fields = {field.key: field.query_one(Input) for field in self.query(Field)}
        inputs = list(fields.values())
        named = [fields[name] for name in self._first if name in fields]
        empty = [field for field in inputs if not field.value and field.placeholder == "needed"]
        first: Widget = next(iter(named or empty or inputs), self.query_one("#ok", Button))
        first.focus()

    @on(Field.Edited)
    def _edited(self, event: Field.Edited) -> None:
        event.stop()
        if event.value is None:
            self._values.pop(event.key, None)
        else:
            self._values[event.key] = event.value

    @on(Field.Told)
    def _told(self, event: Field.Told) -> None:
        event.stop()
        line = self.query_one("#edit-help", Static)
        line.set_class(event.wrong, "-wrong")
        line.update(Text(f"✗ {event.text}" if event.wrong else event.text))

    @on(Input.Submitted)
    @on(Button.Pressed, "#ok")
    def _accept(self) -> None:
        wrong = next((field for field in self.query(Field) if field.error), None)
        missing = [p.name for p in self._entry.parameters if p.required and p.name not in self._values]
        if wrong is not None:
            wrong.query_one(Input).focus()
        elif missing:
            field = next(field for field in self.query(Field) if field.key == missing[0])
            field.query_one(Input).focus()
            self._told(Field.Told(f"{missing[0]} is needed.", wrong=True))
        else:
            self.dismiss(self._values)

    @on(Button.Pressed, "#cancel")
    def _cancel(self) -> None:
        self.dismiss(None)


def asked(entry: Entry) -> list[Parameter]:
    """The parameters that a person sets: not `batch_first` of a layer, as all batches are, whatever torch's default."""
    return [each for each in entry.parameters if entry.kind != "layer" or each.name != "batch_first"]


def _placeholder(parameter: Parameter) -> Any:
    if parameter.inferred:
        return "inferred"
    return "needed" if parameter.required else parameter.default


def _is_text(parameter: Parameter) -> bool:
    """Whether nothing but text fits: then what is typed is text, even 2019."""
    annotation = parameter.annotation
    values = get_args(annotation) if get_origin(annotation) is Literal else ()
    return annotation is str or (bool(values) and all(isinstance(value, str) for value in values))
