"""Which samples are trained on, and how they are served: settings that must fit each other, taken together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Horizontal, Vertical
from textual.widgets import Button, Input, Static

from engine.errors import RecipeError
from engine.recipe import Recipe
from tui.dialogs.dialog import Dialog
from tui.panes.setting_texts import label, setting_help
from tui.widgets.field import Field
from tui.widgets.form import Form

KEYS = (
    *(f"data.split.{key}" for key in ("train", "val", "test", "how", "by", "folds", "fold", "seed")),
    "data.subset",
    "data.sampler",
    "data.on_bad_sample",
    "data.num_workers",
)


class SplitScreen(Dialog[Mapping[str, Any] | None]):
    """Returns the settings that were changed, or None. `columns` can be split by."""

    CSS_PATH = "../dialogs.tcss"
    BINDINGS = [Binding("escape", "dismiss(None)", "Cancel", tooltip="Change nothing", id="split.cancel")]

    def __init__(self, recipe: Recipe, columns: Sequence[str]) -> None:
        super().__init__()
        self._recipe, self._columns = recipe, columns
        self._changed: dict[str, Any] = {}

    def compose(self) -> ComposeResult:
        values = self._recipe.values()
        with Vertical(classes="dialog") as dialog:
            dialog.border_title = "Split, sampling, bad samples"
            dialog.border_subtitle = "↑↓ · enter · escape"
            with Form(classes="form"):
                for key in KEYS:
                    about = setting_help(key)
                    if key == "data.split.by" and self._columns:
                        about += f" There are {', '.join(self._columns)}."
                    yield Field(key, _at(values, key), label=label(key), help=about, label_width=20)
            yield Static(id="edit-help", markup=False)
            with Horizontal(classes="buttons"):
                yield Button("OK", variant="success", id="ok", compact=True)
                yield Button("Cancel", id="cancel", compact=True)

    def on_mount(self) -> None:
        """Begin in the first field."""
        self.query(Input).first().focus()

    @on(Field.Edited)
    def _edited(self, event: Field.Edited) -> None:
        event.stop()
        self._changed[event.key] = event.value
        self._trouble()

    @on(Field.Told)
    def _told(self, event: Field.Told) -> None:
        event.stop()
        self._say(event.text, wrong=event.wrong)

    @on(Input.Submitted)
    @on(Button.Pressed, "#ok")
    def _accept(self) -> None:
        if not self._trouble():
            self.dismiss(self._changed)

    @on(Button.Pressed, "#cancel")
    def _cancel(self) -> None:
        self.dismiss(None)

    def _trouble(self) -> bool:
        """Whether the settings do not fit each other, which is said."""
        try:
            self._recipe.override(self._changed, "data")
        except RecipeError as error:
            self._say(f"{error.what}. {error.remedy}", wrong=True)
            return True
        self._say("", wrong=False)
        return False

    def _say(self, text: str, *, wrong: bool) -> None:
        line = self.query_one("#edit-help", Static)
        line.set_class(wrong, "-wrong")
        line.update(f"✗ {text}" if wrong else text)


def _at(values: Mapping[str, Any], key: str) -> Any:
    """The value at a dotted key; an empty text stands for none."""
    found: Any = values
    for name in key.split("."):
        found = found[name]
    return None if found == "" else found
