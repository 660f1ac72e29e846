"""How to train: loss, optimizer, scheduler, batches, epochs; every value checked as it is typed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.message import Message
from textual.widgets import Button, Label, Static

from engine.recipe import Recipe, Split, Training
from tui.panes.pane import Pane
from tui.widgets.field import Field
from tui.widgets.form import Form

if TYPE_CHECKING:
    from engine.catalog import Entry, Parameter

PARTS = ("loss", "optimizer", "scheduler")

_HELP = {
    "data.batch_size": "Samples that one step learns from.",
    "data.split.train": "Share of the samples to train on.",
    "data.split.val": "Share held out to choose by, after every epoch.",
    "data.split.test": "Share held out to the very end.",
    "data.num_workers": "Processes that load training data; more than 0 uses a DataLoader.",
    "training.epochs": "How often every training sample is seen.",
    "training.seed": "Decides initial weights, order and dropout; on the CPU the same seed gives the same run.",
    "training.precision": "fp32, or mixed precision: bf16 or on a GPU fp16.",
    "training.accumulate": "Micro-batches a step: less memory, the same gradients; batch norm sees the smaller ones.",
    "training.clip_grad_norm": "Greatest norm of all gradients together; 0 is off.",
    "training.checkpoint_every": 'For example "1 epoch", "500 steps" or "10 min".',
    "training.device": "auto, cpu, cuda, cuda:1 or mps.",
    "scheduler.every": "When the scheduler moves: epoch or step.",
    "data.split.seed": "Decides which samples go where; the same seed gives the same split.",
    "data.transforms": 'Fixed transforms, for example [{name = "Normalize", mean = [0.5], std = [0.5]}].',
    "data.augment": 'Random transforms, drawn for each sample, for example [{name = "RandomHorizontalFlip"}].',
    "data.options": "The dataset's own options.",
    "data.drop_last": "Leave out the last batch of an epoch when it is not full.",
    "data.in_memory": "Keep all samples as one tensor on the device, if they take under a quarter of what is free.",
    "data.standardize_target": "Learn the target at mean 0 and deviation 1; metrics stay in its own unit.",
}


class SettingsPane(Pane):
    """A form of the recipe's settings. What does not fit is said at once and changes nothing."""

    BORDER_TITLE = "Settings [dim]4[/]"
    HELP = "Every setting of the recipe. Names and help are torch's own; an empty field takes the default shown in it."

    class ChoosePart(Message):
        """The person wants another loss, optimizer or scheduler."""

        def __init__(self, section: str) -> None:
            self.section = section
            super().__init__()

    def __init__(self, id: str | None = None) -> None:
        super().__init__(id=id)
        self._structure: tuple[object, ...] = ()
        self._recipe: Recipe | None = None

    def compose(self) -> ComposeResult:
        yield Form(id="settings-form")
        yield Static(id="settings-help")

    async def show(self, recipe: Recipe, entries: Mapping[str, Entry]) -> None:
        """Show a recipe. `entries` describes the parts that it names; there are none while torch is loading."""
        self._recipe = recipe
        parts = {section: getattr(recipe, section) for section in PARTS}
        structure = tuple((name, part.name if part else None, name in entries) for name, part in parts.items())
        if structure == self._structure:
            for field in self.query(Field):
                field.put(_value_at(recipe, field.key))
            return
        self._structure = structure
        form = self.query_one("#settings-form", Form)
        with self.app.batch_update():
            await form.remove_children()
            await form.mount_all([*self._general(recipe), *self._parts(recipe, entries)])

    def _general(self, recipe: Recipe) -> list[Label | Horizontal]:
        """The fields of `[training]` and `[data]`."""
        keys = [f"training.{name}" for name in Training.model_fields]
        keys += ["data.batch_size", *(f"data.split.{name}" for name in Split.model_fields)]
        keys += [f"data.{name}" for name in ("transforms", "augment", "drop_last", "in_memory", "num_workers")]
        if recipe.data.options:
            keys.append("data.options")
        if recipe.task == "regression":
            keys.append("data.standardize_target")
        rows: list[Label | Horizontal] = []
        section = "none yet"
        for key in keys:
            if not key.startswith(f"{section}."):
                section = key.partition(".")[0]
                rows.append(Label(section, classes="section"))
            label = key.removeprefix(f"{section}.").replace("split.", "split ").replace("_", " ")
            value = _value_at(recipe, key)
            rows.append(Field(key, value, label=label, help=_HELP.get(key, ""), check=self._check(key), calm=True))
        return rows

    def _parts(self, recipe: Recipe, entries: Mapping[str, Entry]) -> list[Label | Horizontal]:
        rows: list[Label | Horizontal] = []
        for section in PARTS:
            part = getattr(recipe, section)
            rows.append(Label(section, classes="section"))
            chosen = part.name if part else "none"
            button = Button(f"{chosen} ▾", id=f"choose-{section}", classes="choose", compact=True)
            button.tooltip = f"Choose another {section}"
            rows.append(Horizontal(Label("name"), button, classes="choice"))
            if part is None:
                continue
            if section == "scheduler":
                key = "scheduler.every"
                rows.append(Field(key, part.every, label="every", help=_HELP[key], check=self._check(key), calm=True))
            for parameter in entries[section].parameters if section in entries else ():
                key = f"{section}.{parameter.name}"
                rows.append(
                    Field(
                        key,
                        part.parameters.get(parameter.name),
                        default=None if parameter.required or parameter.inferred else parameter.default,
                        help=parameter_help(parameter),
                        check=self._check(key, parameter),
                        calm=True,
                    )
                )
        return rows

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
    inferred = " Inferred when left empty." if parameter.inferred else ""
    return f"{parameter.type_text}: {parameter.doc or 'torch says nothing about it'}{inferred}"


def _value_at(recipe: Recipe, key: str) -> Any:
    """The plain value at a dotted key; None where nothing is set."""
    at: Any = recipe.values()
    for name in key.split("."):
        at = at.get(name) if isinstance(at, dict) else None
    return list(at) or None if isinstance(at, tuple) else at
