"""The dataset of the recipe on the desk: read in threads, shown in its pane, looked at in dialogs of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Literal, TypeVar

from textual import on, work

from engine.data.sources import glimpse, unread
from engine.errors import StudioError
from engine.recipe import Data, Recipe
from tui.draft import Draft
from tui.looking import CalledOff, Errand
from tui.panes.data import DataPane, Request
from tui.screens.modelling import ModellingScreen
from tui.training import Desk

if TYPE_CHECKING:
    from engine.check import Checked
    from engine.data.preview import Preview, View

Found = TypeVar("Found")

_LOOK_S = 0.05
_TELL_S = 0.2
_ENDS = " · escape ends it"


class LookingScreen(ModellingScreen):
    """Reads what the recipe's data names, once for the check and for the pane, and calls it off when that changes."""

    draft: Draft
    desk: Desk
    ready: bool
    checked: Checked | None
    edit: Callable[[Callable[[], object]], None]
    recipe_changed: Callable[[], None]
    preview: Preview | None = None
    _previewed: object = None
    _errand: Errand | None = None
    _read_for: Data | None = None
    _waiting: Request | Literal[""] = ""
    """What was asked for before the samples were there."""

    def errand(self, recipe: Recipe) -> Errand:
        """The reading of a recipe's data; that of other data is called off."""
        if self._errand is None or self._read_for != recipe.data:
            self._errand, self._read_for = self.desk.data.begin("read", Errand()), recipe.data
        return self._errand

    async def free(self, recipe: Recipe) -> Errand:
        """The same when no thread is at it any more: each that waited for another would keep a thread from the rest.

        What is not read by both check and preview can be done at the same time.
        """
        errand = self.errand(recipe) if recipe.data.path else Errand()
        while errand.busy and not errand.cancelled:
            await asyncio.sleep(_LOOK_S)
        return errand

    async def read(self, errand: Errand, work: Callable[[], Found]) -> Found:
        """Have a thread do it, and the pane say how far it is."""
        reading = asyncio.ensure_future(asyncio.to_thread(errand.run, work))
        reading.add_done_callback(lambda done: done.cancelled() or done.exception())  # nobody may be left to ask
        while not (await asyncio.wait({reading}, timeout=_TELL_S))[0]:
            if errand.text and not errand.cancelled:
                self.query_one(DataPane).note(errand.text + _ENDS)
        return reading.result()

    @property
    def reads(self) -> bool:
        """Whether the recipe's data are being read."""
        return self._errand is not None and self._errand.busy and not self._errand.cancelled

    def stop_reading(self) -> None:
        """End the reading of the recipe's data, a download too; what has come of it stays for the next time."""
        if self._errand is None:
            return
        self._errand.cancel()
        self._errand = self._read_for = None
        source = glimpse(self.draft.recipe.data.name, self.draft.recipe.data.options)
        again = "R reads it" if source is None or source.ready else "d goes on with it"
        self.query_one(DataPane).note(f"You ended the reading: {again}, and so does a training.")

    def show_download(self, text: str) -> None:
        """Show how far the reading of the dataset on the desk is, or of a trial's."""
        own = self._errand.text if self._errand is not None and self.reads else ""
        if own or text:
            self.query_one(DataPane).note(own + _ENDS if own else text)

    def show_data(self) -> None:
        """What is known of the recipe's dataset."""
        recipe = self.draft.recipe
        source = glimpse(recipe.data.name, recipe.data.options)
        if self._previewed != recipe.data:
            self.preview = self._previewed = None
            self._waiting = ""
            if self._read_for is not None and self._read_for != recipe.data and self._errand is not None:
                self._errand.cancel()
        if self.preview is not None:
            self.query_one(DataPane).show(self.preview.source, self.preview.sizes, self.preview)
        elif source is not None:
            sizes = self.checked.sizes if self.checked and self.checked.recipe == recipe else source.sizes
            self.query_one(DataPane).show(source, sizes, None)
        else:
            note = "reading…" if self.ready else "torch is being loaded, then this is read"
            self.query_one(DataPane).show(unread(recipe.data, recipe.task), {}, None, note)

    def readable(self, recipe: Recipe) -> bool:
        """Whether its samples can be looked at without a download and without a disturbance."""
        source = glimpse(recipe.data.name, recipe.data.options)
        return (source is None or source.ready) and self.may_read(recipe)

    def may_read(self, recipe: Recipe) -> bool:
        """Whether reading disturbs nothing: a person's own code may draw from the random numbers of a training."""
        return not (self.desk.live and recipe.data.python)

    @work(exclusive=True, group="preview", exit_on_error=False)
    async def load_preview(self, recipe: Recipe) -> None:
        """Read the recipe's data, which may download them, and show what they are."""
        pane = self.query_one(DataPane)
        source = glimpse(recipe.data.name, recipe.data.options) or (self.checked.source if self.checked else None)
        sizes = self.checked.sizes if self.checked else {}
        if source is not None and not source.ready:
            pane.show(source, sizes, None, "downloading…")
        errand = await self.free(recipe) if recipe.data.path else self.errand(recipe)
        try:
            preview = await self.read(errand, lambda: self.desk.data.preview(recipe, errand))
        except CalledOff:
            return
        except StudioError as error:
            if recipe.data == self.draft.recipe.data:
                shown = source or unread(recipe.data, recipe.task)
                pane.show(shown, sizes, None, str(error))
            return
        if recipe.data == self.draft.recipe.data:
            self.preview, self._previewed = preview, recipe.data
            pane.show(preview.source, preview.sizes, preview)
            if self.checked is None or self.checked.source is None:
                self.recipe_changed()  # nothing was known of it before it was here
            if self._waiting and self.is_current:
                pane.post_message(DataPane.Asked(self._waiting))

    # What the pane asks for

    @on(DataPane.Asked)
    def _data_asked(self, event: DataPane.Asked) -> None:
        if not self.ready and event.request not in ("choose", "files"):
            return
        self._waiting = ""
        if event.request == "split":
            self._split()
        elif event.request == "download":
            self.load_preview(self.draft.recipe)
        elif event.request in ("browse", "steps", "measure"):
            view = self._view()
            if view is None:
                self._waiting = event.request
            elif event.request == "browse":
                self._browse(view)
            elif event.request == "steps":
                self._steps(view)
            else:
                self._measure(view)
        elif event.request == "fit":
            self._fit()
        else:
            self.ask_of_data(event.request)

    def ask_of_data(self, request: str) -> None:
        """What else the pane may ask for: to be overridden by who chooses data."""

    def release_samples(self) -> None:
        """Let go of a dataset's samples, of which a training needs the memory; what was drawn of them stays."""
        if self.preview is not None:
            self.preview = replace(self.preview, view=None)
            self.query_one(DataPane).show(self.preview.source, self.preview.sizes, self.preview)

    def _view(self) -> View | None:
        if self.preview is None or self._previewed != self.draft.recipe.data:
            self.notify("The samples are still being read: they are shown as soon as they are.")
            return None
        if not self.may_read(self.draft.recipe):
            self.notify("Your own code would disturb the training. Stop it first: s.", severity="warning")
            return None
        if self.preview.view is None:
            self.notify("The samples made room for the training: they are read again, and shown then.")
            self.load_preview(self.draft.recipe)
        return self.preview.view

    @on(DataPane.Turned)
    @work(exclusive=True, group="page", exit_on_error=False)
    async def _turn(self, event: DataPane.Turned) -> None:
        view = self._view()
        if view is None:
            return
        positions = range(event.first, min(event.first + event.count, view.sizes["train"]))
        try:
            samples = await asyncio.to_thread(
                self.desk.data.page, view, "train", list(positions), seen=False, draw=0, errand=Errand()
            )
        except StudioError as error:
            self.notify(str(error), severity="error")
            return
        if self.preview is not None and self.preview.view is view:
            self.query_one(DataPane).show_page(event.first, samples)

    def _browse(self, view: View) -> None:
        from tui.dialogs.data.browse import BrowseScreen

        self.app.push_screen(BrowseScreen(self.desk, view))

    @work(exclusive=True, group="dialog")
    async def _measure(self, view: View) -> None:
        from engine.data.preview import with_moments
        from tui.dialogs.data.moments import MomentsScreen

        step = await self.app.push_screen_wait(MomentsScreen(self.desk, view))
        if step is not None:
            steps = with_moments(self.draft.recipe.data.transforms, step)
            self.edit(lambda: self.draft.set("data.transforms", [part.model_dump() for part in steps]))

    @work(exclusive=True, group="dialog")
    async def _split(self) -> None:
        from tui.dialogs.data.split import SplitScreen

        view = self.preview.view if self.preview is not None else None
        columns = view.columns if view is not None else ()
        changed = await self.app.push_screen_wait(SplitScreen(self.draft.recipe, columns))
        if changed:
            self.edit(lambda: self.draft.set_together(changed))

    def _steps(self, view: View) -> None:
        from tui.dialogs.data.steps import StepsScreen

        self.app.push_screen(StepsScreen(self.desk, view, self.draft, self.edit))
