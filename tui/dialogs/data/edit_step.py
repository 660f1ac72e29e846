"""Edit the parameters of a transform, with what it does to real samples."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from textual import on
from textual.binding import Binding
from textual.widget import Widget
from textual.widgets import Input

from engine.recipe import Part
from tui.dialogs.data.effect import Effect
from tui.dialogs.edit_part import EditPartScreen
from tui.training import Desk
from tui.widgets.field import Field

if TYPE_CHECKING:
    from engine.catalog import Entry
    from engine.data.preview import View

Steps = tuple[Sequence[Part], Sequence[Part]]
"""Augmentation and transforms."""
_ROWS = 14


class EditStepScreen(EditPartScreen):
    """Returns the parameters, or None. `place` puts the transform as it is edited among the others."""

    CSS_PATH = ["../dialogs.tcss", "data.tcss"]
    BINDINGS = [Binding("ctrl+r", "draw", "Redraw", tooltip="Draw anew", id="edit_step.draw")]

    def __init__(
        self, entry: Entry, values: Mapping[str, Any], desk: Desk, view: View, place: Callable[[Part], Steps]
    ) -> None:
        super().__init__(entry, values)
        self._desk, self._view, self._place = desk, view, place
        self._draw = 0

    def extra(self) -> Sequence[Widget]:
        """The samples, below the help."""
        return [Effect(self._desk, self._view, id="effect")]

    def on_mount(self) -> None:
        """Show what it does with the values that it has."""
        super().on_mount()
        self.call_after_refresh(self._try)

    @on(Field.Edited)
    def _retry(self) -> None:
        self.call_after_refresh(self._try)

    @on(Effect.Told)
    def _tell(self, event: Effect.Told) -> None:
        event.stop()
        focused = self.focused
        wrong = isinstance(focused, Input) and any(field.error for field in self.query(Field))
        if event.trouble and not wrong:
            self._told(Field.Told(event.trouble, wrong=True))

    def action_draw(self) -> None:
        """Draw anew."""
        self._draw += 1
        self._try()

    def _try(self) -> None:
        if any(p.required and p.name not in self._values for p in self._entry.parameters):
            return
        part = Part.model_validate({"name": self._entry.name, **self._values})
        effect = self.query_one(Effect)
        effect.try_out(*self._place(part), self._draw, max(effect.size.width, 20), _ROWS)
