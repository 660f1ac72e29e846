"""The recipe on the desk: routes edits from the panes to the draft, and what the engine finds out back to the panes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from textual import on, work
from textual.notifications import SeverityLevel

from engine.data.sources import glimpse, unread
from engine.errors import RecipeError, SampleRefused, with_article
from engine.start import link_torch, load_deferred
from tui.dialogs.pick import Choice, PickScreen
from tui.draft import Draft
from tui.panes.data import DataPane
from tui.panes.log import LogPane
from tui.panes.model import ModelPane
from tui.panes.settings import PARTS, SettingsPane
from tui.screens.data_choice import DataChoiceScreen
from tui.training import Desk
from tui.widgets.field import Field

if TYPE_CHECKING:
    from engine.check import Checked

_SETTLES_S = 0.1


class DraftScreen(DataChoiceScreen):
    """A screen with panes for model, data, settings and log, on one draft.

    What needs torch waits until `load_engine` has loaded it. Every check runs in a worker; the newest wins.
    """

    def __init__(self, draft: Draft, desk: Desk) -> None:
        super().__init__()
        self.draft = draft
        self.desk = desk
        self.ready = False
        """Whether torch is loaded."""
        self.checked: Checked | None = None
        self._settings_turn = asyncio.Lock()

    def notify(
        self,
        message: str,
        *,
        title: str = "",
        severity: SeverityLevel = "information",
        timeout: float | None = None,
        markup: bool = False,
    ) -> None:
        """Tell something; brackets are text, as errors quote recipes."""
        super().notify(message, title=title, severity=severity, timeout=timeout, markup=markup)

    def draft_note(self) -> str:
        """What is said of the draft as a whole: where a branch comes from."""
        return str(self.draft.origin or "")

    def engine_loaded(self) -> None:
        """Called once, when torch is there."""

    @on(Field.Edited)
    def _edit_setting(self, event: Field.Edited) -> None:
        self.edit(lambda: self.draft.set(event.key, event.value))

    @on(SettingsPane.ChoosePart)
    @work
    async def _choose_part(self, event: SettingsPane.ChoosePart) -> None:
        if not self.ready:
            return
        entries = self.desk.entries(event.section)
        part = getattr(self.draft.recipe, event.section)
        choices = [Choice(e.name, note=e.summary, doc=f"{e.name}\n\n{e.doc}") for e in entries.values()]
        if event.section == "scheduler":
            choices.insert(0, Choice("none", note="the learning rate stays as it is"))
        chosen = await self.app.push_screen_wait(
            PickScreen(f"Choose {with_article(event.section)}", choices, part.name if part else "none")
        )
        if chosen is None:
            return
        if chosen == "none":
            self.edit(lambda: self.draft.choose_part(event.section, None))
            return
        parameters = [parameter.name for parameter in entries[chosen].parameters]
        self.edit(lambda: self.draft.choose_part(event.section, chosen, parameters))

    def action_undo(self) -> None:
        """Take the last edit back."""
        if self.draft.undo():
            self.recipe_changed()

    def action_redo(self) -> None:
        """Make the edit again."""
        if self.draft.redo():
            self.recipe_changed()

    def edit(self, change: Callable[[], object]) -> None:
        """Change the draft. What does not fit is said and changes nothing."""
        before = self.draft.recipe
        try:
            change()
        except RecipeError as error:
            self.notify(str(error), severity="error", title="Not changed")
        if self.draft.recipe is not before:
            self.recipe_changed()

    def recipe_changed(self) -> None:
        self.show_what_is_known()
        if self.ready:
            self._check_recipe()

    def show_what_is_known(self) -> None:
        """The parts of a recipe that can be shown before torch is loaded."""
        self.show_data()
        self._show_settings()
        self.refresh_bindings()

    @work(group="settings")
    async def _show_settings(self) -> None:
        asked = self.draft.recipe
        async with (
            self._settings_turn
        ):  # one after the other: broken off, it would leave half a form that is taken for whole
            recipe = self.draft.recipe
            if recipe is not asked:
                return  # there is a later one
            entries = {}
            if self.ready:
                for section in PARTS:
                    part = getattr(recipe, section)
                    if part is not None and part.name in self.desk.entries(section):
                        entries[section] = self.desk.entries(section)[part.name]
            await self.query_one(SettingsPane).show(recipe, entries, self.draft_note())

    @work(exclusive=True, group="engine", exit_on_error=False)
    async def load_engine(self) -> None:
        try:
            linking = asyncio.create_task(asyncio.to_thread(link_torch))
            # Meanwhile the form of the settings is made, and keys are answered that were pressed before.
            await asyncio.sleep(_SETTLES_S)
            load_deferred()
            await linking
            await asyncio.to_thread(self.desk.load)
        except Exception as error:  # a broken installation of torch raises anything, also OSError for a library
            self.query_one(LogPane).add([f"torch can't be loaded: {error}"])
            self.notify(f"torch can't be loaded: {error}. See: torch-tui doctor.", severity="error", timeout=30)
            return
        self.ready = True
        self.recipe_changed()
        self.engine_loaded()

    @work(exclusive=True, group="check", exit_on_error=False)
    async def _check_recipe(self) -> None:
        recipe = self.draft.recipe
        errand = await self.free(recipe)
        if await self.adapt(recipe, errand):
            return  # to what fits the data, which is checked in the place of this
        checked = await self.read(errand, lambda: self.desk.check(recipe, errand))
        if errand.cancelled or recipe is not self.draft.recipe:
            return
        self.checked = checked
        problem = next(iter(checked.problems), None)
        model = self.query_one(ModelPane)
        own = bool(recipe.model.python)
        model.show(
            checked.rows,
            problem,
            editable=not (recipe.model.zoo or own),
            own=own,
            fixes=checked.fixes,
            batch=max(1, recipe.data.batch_size // recipe.training.accumulate),
        )
        if checked.source is not None:
            if self._previewed != recipe.data or self.preview is None:
                self.query_one(DataPane).show(checked.source, checked.sizes, None)
                if self.readable(recipe):
                    self.load_preview(recipe)
        elif problem is not None and (source := glimpse(recipe.data.name)) is not None and source.read:
            self.query_one(DataPane).show(source, {}, None, str(problem))
        elif problem is not None:
            steps = problem.where.startswith(("data.transforms", "data.augment"))
            seen = self._previewed == recipe.data and (steps or isinstance(problem, SampleRefused))
            if not recipe.data.name and not seen:
                self.query_one(DataPane).show(unread(recipe.data, recipe.task), {}, None, str(problem))
            if (steps or recipe.data.path) and self._previewed != recipe.data and self.readable(recipe):
                self.load_preview(recipe)  # what does not fit is mended beside the samples that it does not fit
