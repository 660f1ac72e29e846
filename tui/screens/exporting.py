"""The recipe on the desk, taken away as a Python file."""

from __future__ import annotations

import asyncio
from pathlib import Path

from textual import work

from engine.errors import StudioError
from engine.recipe import Recipe
from tui.screens.saving import SavingScreen


class ExportingScreen(SavingScreen):
    """A screen that writes the recipe as a file which runs without torch-tui."""

    @work(exclusive=True, group="export")
    async def action_export(self) -> None:
        """Write the recipe, as it is edited, to the folder that the studio was opened in; nothing is written over."""
        if not self.ready:
            self.notify("torch is still being loaded.")
            return
        recipe = self.draft.recipe
        if self.desk.live and (recipe.model.python or recipe.data.python):
            # Making a person's own model or dataset may draw from the random numbers that the training uses.
            self.notify("Your own code would disturb the training. Stop it first: s.", severity="warning")
            return
        try:
            path = await asyncio.to_thread(_write, recipe, self.draft.name)
        except StudioError as error:
            self.notify(str(error), severity="error", title="Not exported", timeout=10)
            return
        self.notify(f"It trains without torch-tui: python {path.name}", title=f"Written to {path}", timeout=10)


def _write(recipe: Recipe, name: str) -> Path:
    from engine.export.python import identifier, python_file  # needs torch
    from engine.export.saving import free, save

    path = free(Path.cwd() / f"{identifier(name)}.py")
    save(python_file(recipe, name, path.name), path)
    return path
