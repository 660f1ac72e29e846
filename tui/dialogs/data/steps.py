"""The recipe's augmentation and transforms as one list, in the order in which samples go through them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

from rich.text import Text
from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical, VerticalScroll
from textual.events import Resize
from textual.widgets import Footer, OptionList, Static
from textual.widgets.option_list import Option

from engine.errors import StudioError
from engine.recipe import Part, format_value
from tui.dialogs.data.edit_step import EditStepScreen, Steps
from tui.dialogs.data.effect import Effect
from tui.dialogs.dialog import Dialog
from tui.dialogs.pick import Choice, PickScreen
from tui.draft import Draft
from tui.looking import CalledOff, Errand
from tui.training import Desk

if TYPE_CHECKING:
    from engine.catalog import Entry
    from engine.data.preview import View

Kind = Literal["augment", "transforms"]
_HINT = "Random steps are drawn for each training sample; fixed ones follow, for all."


class StepsScreen(Dialog[None]):
    """Every change goes to the draft at once, by way of `edit`, as one step of undo."""

    CSS_PATH = ["../dialogs.tcss", "data.tcss"]
    BINDINGS = [
        Binding("a", "add", "Add", tooltip="Add a transform or an augmentation", id="steps.add"),
        Binding("enter,e", "edit_step", "Edit", tooltip="Edit its parameters", id="steps.edit"),
        Binding("d,delete", "remove", "Remove", tooltip="Take it away", id="steps.remove"),
        Binding("K,shift+up", "shift(-1)", "Up", tooltip="Move it up", id="steps.up"),
        Binding("J,shift+down", "shift(1)", "Down", tooltip="Move it down", id="steps.down"),
        Binding("r", "draw", "Redraw", tooltip="Draw the augmentation anew", id="steps.draw"),
        Binding("u", "undo", "Undo", tooltip="Take the last edit back", id="steps.undo"),
        Binding("escape,q", "dismiss(None)", "Close", tooltip="Back to the studio", id="steps.close"),
    ]

    def __init__(self, desk: Desk, view: View, draft: Draft, edit: Callable[[Callable[[], object]], None]) -> None:
        super().__init__()
        self._desk, self._view, self._draft, self._edit = desk, view, draft, edit
        self._draw = 0
        self._errand: Errand | None = None

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog", id="steps-dialog") as dialog:
            dialog.border_title = "Augmentation and transforms"
            yield OptionList(id="steps-list", compact=True, markup=False)
            yield Static(_HINT, id="steps-line", markup=False)
            with VerticalScroll(id="steps-scroll", can_focus=False):
                yield Effect(self._desk, self._view, id="effect")
        yield Footer(compact=True)

    def on_unmount(self) -> None:
        """What is being measured is not waited for."""
        if self._errand is not None:
            self._errand.cancel()

    def on_mount(self) -> None:
        """Show the steps and what they do."""
        self.query_one(OptionList).focus()
        self._fill(0)

    def on_resize(self, event: Resize) -> None:
        """The samples take the room there is."""
        self.call_after_refresh(self._try)

    def action_draw(self) -> None:
        """Draw anew."""
        self._draw += 1
        self._try()

    def action_undo(self) -> None:
        """Take the last edit back."""
        if self._draft.edited:
            self._edit(self._draft.undo)
            self._fill(self._at())

    def action_remove(self) -> None:
        """Take the marked step away."""
        kind, place = self._marked()
        if place is not None:
            self._set(kind, [part for at, part in enumerate(self._parts(kind)) if at != place], self._at())

    def action_shift(self, by: int) -> None:
        """Move the marked step among those of its kind."""
        kind, place = self._marked()
        parts = list(self._parts(kind))
        if place is None or not 0 <= place + by < len(parts):
            return
        parts.insert(place + by, parts.pop(place))
        self._set(kind, parts, self._at() + by)

    @work(exclusive=True, group="dialog")
    async def action_add(self) -> None:
        """Add a step of those that fit, after the marked one or at the end of its kind."""
        view, aside = self._view.with_recipe(self._draft.recipe), self._desk.live
        try:
            errand = self._errand = self._desk.data.begin("fitting", Errand())
            found = await asyncio.to_thread(self._desk.data.fitting, view, errand, aside=aside)
        except CalledOff:
            return
        except StudioError as error:
            self._tell(str(error), wrong=True)
            return
        if not found:
            self._tell("No transform takes such samples. How files are read is set by e in the data pane.", wrong=True)
            return
        ordered = sorted(found, key=lambda each: not each[1])
        choices = [
            Choice(
                entry.name,
                "random, for training samples" if random else "fixed, for all samples",
                entry.summary,
                f"{entry.name}\n\n{entry.doc}",
            )
            for entry, random in ordered
        ]
        name = await self.app.push_screen_wait(PickScreen("Add a transform or an augmentation", choices))
        if name is None:
            return
        entry, random = next((entry, random) for entry, random in found if entry.name == name)
        kind: Kind = "augment" if random else "transforms"
        marked, at = self._marked()
        place = at + 1 if at is not None and marked == kind else len(self._parts(kind))
        values = await self._values(entry, {}, kind, lambda part: _with(self._parts(kind), place, part))
        if values is not None:
            parts = _with(self._parts(kind), place, _part(entry, values))
            self._set(kind, parts, place + (len(self._draft.recipe.data.augment) if kind == "transforms" else 0))

    @work(exclusive=True, group="dialog")
    async def action_edit_step(self) -> None:
        """Edit the marked step's parameters."""
        kind, place = self._marked()
        if place is None:
            self.action_add()
            return
        part = self._parts(kind)[place]
        try:
            entry, _ = await asyncio.to_thread(self._desk.data.transform, part)
        except StudioError as error:
            self._tell(str(error), wrong=True)
            return

        def put(other: Part) -> Sequence[Part]:
            return [other if at == place else each for at, each in enumerate(self._parts(kind))]

        values = await self._values(entry, part.parameters, kind, put)
        if values is not None:
            self._set(kind, put(_part(entry, values)), self._at())

    async def _values(
        self, entry: Entry, given: dict[str, Any], kind: Kind, put: Callable[[Part], Sequence[Part]]
    ) -> dict[str, Any] | None:
        """The step's parameters from a form that shows what they do."""

        def place(part: Part) -> Steps:
            data = self._draft.recipe.data
            return (put(part), data.transforms) if kind == "augment" else (data.augment, put(part))

        return await self.app.push_screen_wait(EditStepScreen(entry, given, self._desk, self._view, place))

    @on(OptionList.OptionSelected)
    def _selected(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        self.action_edit_step()

    @on(Effect.Told)
    def _tried(self, event: Effect.Told) -> None:
        event.stop()
        self._tell(event.trouble or _HINT, wrong=bool(event.trouble))

    def _parts(self, kind: Kind) -> Sequence[Part]:
        data = self._draft.recipe.data
        return data.augment if kind == "augment" else data.transforms

    def _set(self, kind: Kind, parts: Sequence[Part], cursor: int) -> None:
        self._edit(lambda: self._draft.set_together({f"data.{kind}": [part.model_dump() for part in parts]}))
        self._fill(cursor)

    def _at(self) -> int:
        return self.query_one(OptionList).highlighted or 0

    def _marked(self) -> tuple[Kind, int | None]:
        """The kind of the marked step and its place among those; None where there is none."""
        at, random = self._at(), len(self._parts("augment"))
        if at < random:
            return "augment", at
        return "transforms", at - random if at - random < len(self._parts("transforms")) else None

    def _fill(self, cursor: int) -> None:
        options = self.query_one(OptionList)
        random, fixed = self._parts("augment"), self._parts("transforms")
        rows = [_row(part, "random") for part in random] + [_row(part, "fixed") for part in fixed]
        if not rows:
            rows = [Option(Text("Nothing: samples are learned from as they are. a adds a step.", "italic"))]
        options.clear_options()
        options.add_options(rows)
        options.highlighted = min(max(cursor, 0), len(rows) - 1)
        self.refresh_bindings()
        self.call_after_refresh(self._try)  # the list may have grown

    def _try(self) -> None:
        room = self.query_one("#steps-scroll").content_size
        effect, data = self.query_one(Effect), self._draft.recipe.data
        if room.width:
            effect.try_out(data.augment, data.transforms, self._draw, room.width - 1, room.height)

    def _tell(self, text: str, *, wrong: bool) -> None:
        line = self.query_one("#steps-line", Static)
        line.set_class(wrong, "-wrong")
        line.update(f"✗ {text}" if wrong else text)


def _row(part: Part, kind: str) -> Option:
    values = ", ".join(f"{name} = {format_value(value)}" for name, value in part.parameters.items())
    return Option(Text.assemble((f"{kind:<7} ", "dim"), (part.name, "bold"), f"  {values}"))


def _part(entry: Entry, values: dict[str, Any]) -> Part:
    return Part.model_validate({"name": entry.name, **values})


def _with(parts: Sequence[Part], place: int, part: Part) -> Sequence[Part]:
    return [*parts[:place], part, *parts[place:]]
