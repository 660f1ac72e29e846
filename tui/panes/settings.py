"""How to train: every setting of the recipe in a form; every value checked as it is typed."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Horizontal
from textual.message import Message
from textual.widgets import Button, Input, Label, Static

from engine.recipe import Recipe
from tui.panes.pane import Pane
from tui.panes.setting_texts import FIRST, grouped, label, own_keys, setting_help
from tui.widgets.field import Field
from tui.widgets.form import Form
from tui.widgets.titles import plain

if TYPE_CHECKING:
    from engine.catalog import Entry, Parameter

PARTS = ("loss", "optimizer", "scheduler")
_LABEL_WIDTH = 25  # the longest is early_stopping.min_delta
Row = Label | Horizontal  # a heading, or a name with a field or a button


class SettingsPane(Pane):
    """A form of the recipe's settings. What does not fit is said at once and changes nothing."""

    BORDER_TITLE = "Settings [dim]4[/]"
    HELP = """Every setting of the recipe. Names and help of loss, optimizer and scheduler are torch's own; an empty
    field takes the default shown in it. `/` shows only what has a word in its name or help."""
    BINDINGS = [
        Binding("slash", "filter", "Filter", tooltip="Find a setting by a word", id="settings.filter"),
        Binding("escape", "all", "All", tooltip="Show every setting again", id="settings.all"),
    ]

    class ChoosePart(Message):
        """The person wants another loss, optimizer or scheduler."""

        def __init__(self, section: str) -> None:
            self.section = section
            super().__init__()

    def __init__(self, id: str | None = None) -> None:
        super().__init__(id=id)
        self._structure: tuple[object, ...] = ()
        self._recipe: Recipe | None = None
        self._values: Mapping[str, Any] = {}
        self._filtering, self._words = False, ""

    def compose(self) -> ComposeResult:
        words = Input(placeholder="filter settings", id="settings-filter", compact=True)
        words.display = False
        yield words
        yield Form(id="settings-form")
        yield Static(id="settings-help")

    async def show(self, recipe: Recipe, entries: Mapping[str, Entry], origin: str = "") -> None:
        """Show a recipe. `entries` describes the parts that it names; there are none while torch is loading.

        `origin` says where a branch comes from.
        """
        self._recipe = recipe
        self._values = recipe.values()
        self.border_subtitle = plain(origin)
        parts = {section: getattr(recipe, section) for section in PARTS}
        structure = (
            recipe.task,
            bool(recipe.data.options),
            *((name, part.name if part else None, name in entries) for name, part in parts.items()),
        )
        if structure == self._structure:
            for field in self.query(Field):
                field.put(_value_at(self._values, field.key))
            return
        self._structure = structure
        form = self.query_one("#settings-form", Form)
        with self.app.batch_update():
            await form.remove_children()
            await form.mount_all(self._rows(recipe, entries))
            self._sift(form)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """There is something to leave while the filter is shown."""
        return self._filtering if action == "all" else True

    def action_filter(self) -> None:
        """Show the filter and type into it."""
        words = self.query_one("#settings-filter", Input)
        words.display = self._filtering = True
        words.focus()
        self.refresh_bindings()

    def action_all(self) -> None:
        """Leave the filter and show every setting again."""
        words = self.query_one("#settings-filter", Input)
        words.value = ""
        words.display = self._filtering = False
        self.query_one("#settings-form", Form).begin()
        self.refresh_bindings()

    @on(Input.Changed, "#settings-filter")
    def _filter(self, event: Input.Changed) -> None:
        event.stop()
        self._words = event.value
        self._sift(self.query_one("#settings-form", Form))

    @on(Input.Submitted, "#settings-filter")
    def _to_form(self, event: Input.Submitted) -> None:
        event.stop()
        self.query_one("#settings-form", Form).begin()

    def _sift(self, form: Form) -> None:
        """Show the rows that have all the words of the filter, and the headings of these."""
        wanted = self._words.casefold().split()
        heading, shown = None, False
        for row in form.children:
            if isinstance(row, Label):
                if heading is not None:
                    heading.display = shown
                heading, shown = row, False
                continue
            text = f"{row.key} {label(row.key)} {row.help}" if isinstance(row, Field) else f"{row.name} name"
            row.display = all(word in text.casefold() for word in wanted)
            shown = shown or row.display
        if heading is not None:
            heading.display = shown

    def _rows(self, recipe: Recipe, entries: Mapping[str, Entry]) -> list[Row]:
        """Headings and settings, the most wanted first."""
        groups: dict[str, list[Row]] = {
            heading: [Label(heading, classes="section"), *(self._own(k) for k in keys if _concerns(recipe, k))]
            for heading, keys in grouped().items()
        }
        first = [row for heading in FIRST for row in groups.pop(heading)]
        return [*first, *self._parts(recipe, entries), *(row for rows in groups.values() for row in rows)]

    def _parts(self, recipe: Recipe, entries: Mapping[str, Entry]) -> list[Row]:
        rows: list[Row] = []
        for section in PARTS:
            part = getattr(recipe, section)
            rows.append(Label(section, classes="section"))
            chosen = part.name if part else "none"
            button = Button(f"{chosen} ▾", id=f"choose-{section}", classes="choose", compact=True)
            button.tooltip = f"Choose another {section}"
            rows.append(Horizontal(Label("name"), button, classes="choice", name=f"{section} {chosen}"))
            if part is None:
                continue
            parameters = entries[section].parameters if section in entries else ()
            own = own_keys(section)
            rows += [self._torchs(section, p) for p in parameters if f"{section}.{p.name}" not in own]
            takes = {parameter.name for parameter in parameters}
            rows += [self._own(key) for key in own if _concerns(recipe, key, takes)]
        return rows

    def _own(self, key: str) -> Field:
        """A row of a setting that is ours."""
        about = setting_help(key)
        return Field(
            key,
            _value_at(self._values, key),
            label=label(key),
            help=about,
            check=self._check(key),
            calm=True,
            label_width=_LABEL_WIDTH,
        )

    def _torchs(self, section: str, parameter: Parameter) -> Field:
        """A row of a parameter of torch's."""
        key = f"{section}.{parameter.name}"
        return Field(
            key,
            _value_at(self._values, key),
            default=None if parameter.required or parameter.inferred else parameter.default,
            help=parameter_help(parameter),
            check=self._check(key, parameter),
            calm=True,
            label_width=_LABEL_WIDTH,
        )

    def _check(self, key: str, parameter: Parameter | None = None) -> Callable[[Any], None]:
        def check(value: Any) -> None:
            assert self._recipe is not None
            self._recipe.override({key: value})
            if parameter is not None and value is not None:
                parameter.check(value, key.partition(".")[0])

        return check

    @on(Field.Told)
    def _told(self, event: Field.Told) -> None:
        event.stop()
        line = self.query_one("#settings-help", Static)
        line.set_class(event.wrong, "-wrong")
        line.update(Text(f"✗ {event.text}" if event.wrong else event.text))

    @on(Button.Pressed, ".choose")
    def _choose(self, event: Button.Pressed) -> None:
        event.stop()
        self.post_message(self.ChoosePart(str(event.button.id).removeprefix("choose-")))


def parameter_help(parameter: Parameter) -> str:
    """`float: momentum factor (default: 0)`, from the signature and the docstring."""
    about = f"{parameter.type_text}: {parameter.doc or 'torch says nothing about it'}"
    return f"{about.rstrip('.')}. Inferred when left empty." if parameter.inferred else about


def _concerns(recipe: Recipe, key: str, takes: Collection[str] = ()) -> bool:
    """Whether a setting means anything for this recipe; `takes` are the parameters of torch's class."""
    if key == "data.options":
        return bool(recipe.data.options)
    if key == "data.standardize_target":
        return recipe.task == "regression"
    if key == "scheduler.schedulers":
        return "schedulers" in takes or bool(recipe.scheduler and recipe.scheduler.schedulers)
    return True


def _value_at(values: Mapping[str, Any], key: str) -> Any:
    """The plain value at a dotted key; None where nothing is set."""
    at: Any = values
    for name in key.split("."):
        at = at.get(name) if isinstance(at, dict) else None
    return list(at) or None if isinstance(at, tuple) else at
