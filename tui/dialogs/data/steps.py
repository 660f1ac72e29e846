"""The recipe's augmentation and transforms as one list, in the order in which samples go through them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from rich.text import Text
from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical, VerticalScroll
from textual.events import Resize
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from engine.errors import StudioError
from engine.recipe import Part, Recipe, format_value
from engine.recipe.parts import HELD, Path, at, holding, inserted, moved, place, removed, replaced, rows
from tui.dialogs.data.edit_step import EditStepScreen, Steps
from tui.dialogs.data.effect import Effect
from tui.dialogs.dialog import Dialog
from tui.dialogs.pick import Choice, PickScreen
from tui.draft import Draft
from tui.looking import CalledOff, Errand
from tui.training import Desk
from tui.widgets.keys import Keys

if TYPE_CHECKING:
    from engine.catalog import Entry
    from engine.data.preview import Inside, View

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
        Binding("u", "undo", "Undo", tooltip="Take the last edit of the steps back", id="steps.undo"),
        Binding("U", "redo", "Redo", tooltip="Make the edit again that was taken back last", id="steps.redo"),
        Binding("escape", "dismiss(None)", "Close", tooltip="Back to the studio", id="steps.close"),
        Binding("q", "leave", "Close", tooltip="Back to the studio", id="steps.leave", show=False),
    ]

    def __init__(self, desk: Desk, view: View, draft: Draft, edit: Callable[[Callable[[], object]], None]) -> None:
        super().__init__()
        self._desk, self._view, self._draft, self._edit = desk, view, draft, edit
        self._draw = 0
        self._errand: Errand | None = None
        self._looking = False

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog", id="steps-dialog") as dialog:
            dialog.border_title = "Augmentation and transforms"
            yield OptionList(id="steps-list", compact=True, markup=False)
            yield Static(_HINT, id="steps-line", markup=False)
            with VerticalScroll(id="steps-scroll", can_focus=False):
                yield Effect(self._desk, self._view, id="effect")
        yield Keys()

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

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Hide the keys that do nothing now.

        While it is found out what can be added, which is long where functions of a person's own are slow, what is typed
        is for the list that is about to open: in this one d would remove a step.
        """
        if self._looking and action != "dismiss":
            return False
        if action in ("undo", "redo"):
            return self._of_steps(self._draft.before if action == "undo" else self._draft.after)
        if action in ("remove", "shift", "edit_step") and self.query(OptionList):
            row = self._marked()
            return row is not None and (row.part is not None or action == "edit_step")
        return True

    def action_undo(self) -> None:
        """Take the last edit back."""
        self._edit(self._draft.undo)
        self._fill(self._at())

    def action_leave(self) -> None:
        """Back to the studio."""
        self.dismiss(None)

    def action_redo(self) -> None:
        """Make the edit again that was taken back last."""
        self._edit(self._draft.redo)
        self._fill(self._at())

    def _of_steps(self, other: Recipe | None) -> bool:
        """Whether it differs in its steps alone: with another dataset the samples here would be of the wrong one."""
        if other is None:
            return False
        now = self._draft.recipe.data
        data = other.data.model_copy(update={"augment": now.augment, "transforms": now.transforms})
        return other.model_copy(update={"data": data}) == self._draft.recipe

    def action_remove(self) -> None:
        """Take the marked step away, with all that it holds."""
        row = self._marked()
        if row is not None and row.part is not None:
            self._set(row.kind, removed(self._parts(row.kind), row.path), (row.kind, row.path))

    def action_shift(self, by: int) -> None:
        """Move the marked step among those of its kind, into others that it meets and out of them."""
        row = self._marked()
        if row is not None and row.part is not None:
            parts, path = moved(self._parts(row.kind), row.path, by)
            if path != row.path:
                self._set(row.kind, parts, (row.kind, path))

    @work(exclusive=True, group="dialog")
    async def action_add(self) -> None:
        """Add a step of those that fit: after the marked one, in what holds that, or at the end of its kind.

        One that holds others is added with the first of them.
        """
        row = self._marked()
        within: Inside = ""
        holder = ""
        if row is not None and len(row.path) > 1:
            within, holder = row.kind, at(self._parts(row.kind), row.path[:-1]).name
        chosen: list[tuple[Entry, bool]] = []
        while not chosen or chosen[-1][0].container:
            one = await self._chosen(within or ("augment" if chosen else ""), holder)
            if one is None:
                return
            chosen.append(one)
            holder = one[0].name
        kind: Kind = within or ("augment" if any(random for _, random in chosen) else "transforms")
        path: Path = (len(self._parts(kind)),)
        if row is not None and row.kind == kind:
            path = row.path if row.part is None else (*row.path[:-1], row.path[-1] + 1)
        path = place(self._parts(kind), path, _part(chosen[0][0], {}))
        (*holders, (entry, _)) = chosen

        def put(part: Part) -> Sequence[Part]:
            for holder, _ in reversed(holders):
                part = holding(_part(holder, {}), [part])
            return inserted(self._parts(kind), path, part)

        values = await self._values(entry, {}, kind, put)
        if values is not None:
            self._set(kind, put(_part(entry, values)), (kind, (*path, *(0 for _ in holders))))

    async def _chosen(self, within: Inside, holder: str) -> tuple[Entry, bool] | None:
        """A transform that fits `within` what is there, and whether it is random."""
        view, aside = self._view.with_recipe(self._draft.recipe), self._desk.live
        self._look(True)
        try:
            errand = self._errand = self._desk.data.begin("fitting", Errand())
            found = await asyncio.to_thread(self._desk.data.fitting, view, errand, aside=aside, inside=within)
        except CalledOff:
            return None
        except StudioError as error:
            self._tell(str(error), wrong=True)
            return None
        finally:
            self._look(False)
        if not found:
            self._tell("No transform takes such samples. How files are read is set by e in the data pane.", wrong=True)
            return None
        ordered = sorted(found, key=lambda each: (each[0].container, not each[1]))
        choices = [
            Choice(entry.name, _section(entry, random), entry.summary, f"{entry.name}\n\n{entry.doc}")
            for entry, random in ordered
        ]
        title = f"Add what {holder} holds" if holder else "Add a transform or an augmentation"
        name = await self.app.push_screen_wait(PickScreen(title, choices))
        return next((each for each in found if each[0].name == name), None)

    def _look(self, looking: bool) -> None:
        self._looking = looking
        if not self.is_attached:
            return  # it was left meanwhile
        self.query_one("#steps-dialog").border_subtitle = "looking which transforms fit…" if looking else ""
        self.refresh_bindings()

    @work(exclusive=True, group="dialog")
    async def action_edit_step(self) -> None:
        """Edit the marked step's parameters."""
        row = self._marked()
        if row is None or row.part is None:
            self.action_add()
            return
        kind, path, part = row.kind, row.path, row.part
        try:
            entry = await asyncio.to_thread(self._desk.data.transform, part)
        except StudioError as error:
            self._tell(str(error), wrong=True)
            return

        def put(other: Part) -> Sequence[Part]:
            return replaced(self._parts(kind), path, other)

        values = await self._values(entry, part.parameters, kind, put)
        if values is not None:
            self._set(kind, put(_part(entry, values)), (kind, path))

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

    @on(OptionList.OptionHighlighted)
    def _highlighted(self, event: OptionList.OptionHighlighted) -> None:
        event.stop()
        self.refresh_bindings()

    @on(Effect.Told)
    def _tried(self, event: Effect.Told) -> None:
        event.stop()
        self._tell(event.trouble or _HINT, wrong=bool(event.trouble))

    def _parts(self, kind: Kind) -> Sequence[Part]:
        data = self._draft.recipe.data
        return data.augment if kind == "augment" else data.transforms

    def _set(self, kind: Kind, parts: Sequence[Part], cursor: tuple[Kind, Path]) -> None:
        self._edit(lambda: self._draft.set_together({f"data.{kind}": [part.model_dump() for part in parts]}))
        places = [(row.kind, row.path) for row in self._rows()]
        self._fill(places.index(cursor) if cursor in places else self._at())

    def _at(self) -> int:
        return self.query_one(OptionList).highlighted or 0

    def _rows(self) -> list[_Row]:
        kinds: tuple[Kind, Kind] = ("augment", "transforms")
        return [_Row(kind, path, part) for kind in kinds for path, part in rows(self._parts(kind))]

    def _marked(self) -> _Row | None:
        found = self._rows()
        return found[self._at()] if self._at() < len(found) else None

    def _fill(self, cursor: int) -> None:
        options = self.query_one(OptionList)
        shown = [row.option for row in self._rows()]
        if not shown:
            shown = [Option(Text("Nothing: samples are learned from as they are. a adds a step.", "italic"))]
        options.clear_options()
        options.add_options(shown)
        options.highlighted = min(max(cursor, 0), len(shown) - 1)
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


@dataclass(frozen=True)
class _Row:
    """A step of the list; `part` is None where one may be added to what holds others."""

    kind: Kind
    path: Path
    part: Part | None

    @property
    def option(self) -> Option:
        """The row as it is drawn: what is held stands further to the right."""
        indent = "  " * (len(self.path) - 1)
        if self.part is None:
            return Option(Text(f"{'':8}{indent}… a adds one here", "dim italic"))
        values = self.part.parameters.items()
        told = ", ".join(f"{name} = {format_value(value)}" for name, value in values if name != HELD)
        kind = "random" if self.kind == "augment" else "fixed"
        return Option(Text.assemble((f"{kind:<8}", "dim"), (f"{indent}{self.part.name}", "bold"), f"  {told}"))


def _section(entry: Entry, random: bool) -> str:
    if entry.container:
        return "made of other transforms"
    return "random, for training samples" if random else "fixed, for all samples"


def _part(entry: Entry, values: dict[str, Any]) -> Part:
    return Part.model_validate({"name": entry.name, **values})
