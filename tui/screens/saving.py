"""The recipes that a person can come back to: shipped, their own, a file; saved in place or under a name."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

from textual import on, work

from engine.errors import RecipeError
from presets import Preset, presets
from presets.own import FAMILY, Broken, own_path, own_presets, remove_own, rename_own, save_own, suggested_name
from tui.dialogs.ask import AskScreen
from tui.draft import Draft
from tui.panes.presets import PresetsPane
from tui.screens.steering import SteeringScreen
from tui.training import Desk

if TYPE_CHECKING:
    from engine.recipe.file import RecipeFile

_FILE = "file"  # the family of the one recipe that was opened by its path


class SavingScreen(SteeringScreen):
    """A screen with a pane of presets, whose drafts can be saved."""

    def __init__(self, runs_root: Path, draft: Draft, desk: Desk) -> None:
        super().__init__(runs_root, draft, desk)
        self._drafts: dict[str, Draft] = {}
        """One draft an entry of the list, so that looking at another loses no edit."""
        self._opened_file: RecipeFile | None = None
        self._own = own_presets()
        if draft.file is not None:
            if draft.file.path != own_path(draft.name).absolute():
                self._opened_file = draft.file
            self._drafts[self._listed_name(draft)] = draft

    # The list

    def listed(self) -> list[Preset | Broken]:
        """What the pane shows: the file that was opened, the person's own, those that ship."""
        file = self._opened_file
        opened = [Preset(file.path.name, _FILE, file.path, file.recipe)] if file else []
        return [*opened, *self._own, *presets()]

    def draft_of(self, preset: Preset) -> Draft | None:
        """The draft of an entry, made when it is first looked at; None where its file can't be read any more."""
        if preset.name not in self._drafts:
            if preset.family not in (_FILE, FAMILY):
                self._drafts[preset.name] = Draft(preset.name, preset.recipe)
                return self._drafts[preset.name]
            from engine.recipe.file import RecipeFile  # no shipped preset needs it, and they come first

            try:
                file = RecipeFile.open(preset.path)
            except RecipeError as error:
                self.notify(str(error), severity="error", title="Not opened", timeout=10)
                return None
            if preset.family == _FILE:
                self._opened_file = file
            self._drafts[preset.name] = Draft(preset.path.stem, file.recipe, file=file)
        return self._drafts[preset.name]

    def tell_broken(self) -> None:
        """Say once which of the person's own presets can't be read."""
        broken = [each for each in self._own if isinstance(each, Broken)]
        if broken:
            more = f" (and {len(broken) - 1} more)" if len(broken) > 1 else ""
            self.notify(f"{broken[0].error}{more}", severity="warning", title="A preset of yours is broken", timeout=15)

    def _list_again(self) -> None:
        """Show what is there now, the cursor on what is on the desk."""
        self._own = own_presets()
        self.query_one(PresetsPane).list_again(self.listed(), self._listed_name(self.draft))

    def _listed_name(self, draft: Draft) -> str:
        file = self._opened_file
        return file.path.name if file is not None and draft.file is file else draft.name

    # Marks

    def draft_note(self) -> str:
        """Where a branch comes from, and whether there is something to save."""
        return " · ".join(filter(None, (super().draft_note(), self._mark())))

    def shown_name(self) -> str:
        """The draft's name with its mark."""
        return " ".join(filter(None, (self._listed_name(self.draft), self._mark())))

    def _mark(self) -> str:
        if self.draft.file is not None:
            return "● not saved: ctrl+s" if self.draft.unsaved else ""
        return "● edited" if self.draft.edited else ""

    # Saving

    @work(exclusive=True, group="dialog")
    async def action_save(self) -> None:
        """Save into the file that the recipe comes from; one that has none gets a name."""
        if not self.settings_fit("Not saved"):
            return
        if self.draft.file is None or self.draft.origin is not None:
            await self._save_as(self.draft)
        else:
            await self._save(self.draft)

    @work(exclusive=True, group="dialog")
    async def action_save_as(self) -> None:
        """Save as a preset of one's own."""
        if self.settings_fit("Not saved"):
            await self._save_as(self.draft)

    async def _save(self, draft: Draft) -> bool:
        """Save a draft in place; whether there is nothing left to save."""
        from engine.recipe.file import ChangedOnDisk

        assert draft.file is not None
        name, overwrite = draft.file.path.name, False
        if not draft.unsaved:
            self.notify(f"{name} has it all already.")
            return True
        while True:
            try:
                await asyncio.to_thread(draft.file.save, draft.recipe, overwrite=overwrite)
            except ChangedOnDisk as error:
                answers = [("cancel", "Cancel"), ("overwrite", "Overwrite")]
                if draft.file.path.exists():
                    answers.insert(1, ("reload", "Reload, lose my edits"))
                chosen = await self.app.push_screen_wait(AskScreen(f"Save {name}?", f"{name} {error.what}.", answers))
                if chosen == "reload":
                    return self._reload(draft)
                if chosen != "overwrite":
                    return False
                overwrite = True
                continue
            except RecipeError as error:
                self.notify(str(error), severity="error", title="Not saved", timeout=15)
                return False
            break
        self._saved(f"Saved {name}.")
        return not draft.unsaved

    def _reload(self, draft: Draft) -> bool:
        """Take what the file says now; one undo brings the edits back."""
        assert draft.file is not None
        try:
            recipe = draft.file.reload()
        except RecipeError as error:
            self.notify(str(error), severity="error", title="Not reloaded", timeout=15)
            return False
        draft.replace(recipe)
        if draft is self.draft:
            self.recipe_changed()
        self._saved(f"Reloaded {draft.file.path.name}. u brings the edits back.")
        return True

    async def _keep(self, draft: Draft) -> bool:
        """Save a draft in its file or in a new one; whether it is in one."""
        if draft.file is not None:
            return await self._save(draft)
        return await self._save_as(draft)

    async def _save_as(self, draft: Draft) -> bool:
        """Save a draft as a preset of one's own, under a name that is asked for; whether that was done."""
        from tui.dialogs.save_as import SaveAsScreen, shown_path

        suggested = suggested_name(draft.name)
        name = await self.app.push_screen_wait(SaveAsScreen("Save as a preset of yours", suggested))
        if name is None or not await self._may_overwrite(name):
            return False
        try:
            file = await asyncio.to_thread(save_own, name, draft.recipe, self._words_for(draft))
        except RecipeError as error:
            self.notify(str(error), severity="error", title="Not saved", timeout=15)
            return False
        if draft.origin is None:  # a branch stays one: what is saved is its recipe
            self._drafts = {key: each for key, each in self._drafts.items() if each is not draft}
            draft.name, draft.file = name, file
            self._drafts[name] = draft
        self._saved(f"Saved as {name}, under Yours: {shown_path(file.path)}")
        return True

    async def _may_overwrite(self, name: str) -> bool:
        if not own_path(name).exists():
            return True
        answers = [("cancel", "Cancel"), ("overwrite", "Overwrite")]
        question = f"You have a preset {name} already."
        return await self.app.push_screen_wait(AskScreen("Overwrite it?", question, answers)) == "overwrite"

    def _words_for(self, draft: Draft) -> RecipeFile | None:
        """The file whose comments go with a draft: its own, or that of the preset it began with."""
        from engine.recipe.file import RecipeFile

        shipped = next((preset for preset in presets() if self._drafts.get(preset.name) is draft), None)
        return RecipeFile.open(shipped.path) if draft.file is None and shipped is not None else draft.file

    def _saved(self, news: str) -> None:
        self._list_again()
        self.show_what_is_known()
        self.catch_up()
        self.notify(news)

    # One's own presets

    @on(PresetsPane.Remove)
    @work(exclusive=True, group="dialog")
    async def _remove(self, event: PresetsPane.Remove) -> None:
        answers = [("keep", "Keep it"), ("remove", "Remove it")]
        question = f"{event.name} and its file will be gone."
        if await self.app.push_screen_wait(AskScreen("Remove your preset?", question, answers)) != "remove":
            return
        try:
            remove_own(event.name)
        except RecipeError as error:
            self.notify(str(error), severity="error", title="Not removed", timeout=15)
            return
        gone = self._drafts.pop(event.name, None)
        self._list_again()
        following = self.query_one(PresetsPane).under_cursor
        if gone is self.draft and isinstance(following, Preset):
            self.draft = self.draft_of(following) or self.draft
            self.recipe_changed()
        self.notify(f"Removed {event.name}.")

    @on(PresetsPane.Rename)
    @work(exclusive=True, group="dialog")
    async def _rename(self, event: PresetsPane.Rename) -> None:
        from tui.dialogs.save_as import SaveAsScreen

        name = await self.app.push_screen_wait(SaveAsScreen(f"Rename {event.name}", event.name))
        if name is None or name == event.name or not await self._may_overwrite(name):
            return
        try:
            path = rename_own(event.name, name)
        except RecipeError as error:
            self.notify(str(error), severity="error", title="Not renamed", timeout=15)
            return
        self._drafts.pop(name, None)
        draft = self._drafts.pop(event.name, None)
        if draft is not None and draft.file is not None:
            draft.name, draft.file.path = name, path
            self._drafts[name] = draft
        self._saved(f"{event.name} is called {name} now.")

    # Leaving

    async def may_leave(self) -> bool:
        """Ask once what shall become of edits that no file has; true when nothing is left to ask."""
        drafts = {id(draft): draft for draft in (*self._drafts.values(), self.draft)}
        unsaved = [draft for draft in drafts.values() if draft.unsaved or draft.built]
        if not unsaved:
            return True
        names = ", ".join(self._listed_name(draft) for draft in unsaved)
        answers = [("stay", "Stay"), ("save", "Save and quit"), ("drop", "Quit without saving")]
        question = f"Edits of {names} are not saved."
        chosen = await self.app.push_screen_wait(AskScreen("Quit?", question, answers))
        if chosen == "save":
            return all([await self._keep(draft) for draft in unsaved])
        return chosen == "drop"
