"""A person's own Python on the desk: its options in a form made from its signature, its files loaded anew."""

from __future__ import annotations

import asyncio

from textual import on, work

from engine.errors import StudioError
from engine.recipe import steps_name_files
from tui.panes.model import ModelPane
from tui.screens.drafting import DraftScreen


class OwnCodeScreen(DraftScreen):
    """A screen whose recipe may name Python files as its model and its dataset."""

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Only what is a person's own can be loaded anew."""
        if action == "reload":
            recipe = self.draft.recipe
            own = recipe.model.python or recipe.data.python or recipe.data.path
            return bool(own) or steps_name_files(recipe)
        return super().check_action(action, parameters)

    @on(ModelPane.Options)
    @work(exclusive=True, group="dialog")
    async def _edit_model_options(self) -> None:
        from tui.dialogs.edit_part import EditPartScreen

        recipe = self.draft.recipe
        if not self.ready:
            return
        try:
            entry = await asyncio.to_thread(self.desk.model_entry, recipe)
        except StudioError as error:
            self.notify(str(error), severity="error")
            return
        values = await self.app.push_screen_wait(EditPartScreen(entry, recipe.model.options))
        if values is not None:
            self.edit(lambda: self.draft.set_together({"model.options": values}))

    @work(exclusive=True, group="reload")
    async def action_reload(self) -> None:
        """Run the person's files anew, and look at the recipe again."""
        if not self.ready:
            return
        changed = await asyncio.to_thread(self.desk.reload)
        names = ", ".join(path.name for path in changed) or "no file has changed"
        if self.draft.recipe.data.path:
            names = f"{names}; your data is read anew"
        kept = " The run that trains goes on with the code it began with." if self.desk.live else ""
        self.notify(f"Your Python is loaded anew: {names}.{kept}")
        if not self.draft.recipe.data.name or steps_name_files(self.draft.recipe):
            self.preview = self._previewed = None
        self.recipe_changed()
