"""Choosing what the recipe on the desk is trained on: a dataset of the catalog, or files of a person's own."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from textual import work

from engine.data.sources import Source, glimpse, sources, unknown
from engine.data.sources import find as find_source
from engine.errors import StudioError
from engine.recipe import Data, Recipe, TaskName
from tui.dialogs.pick import Choice, PickScreen
from tui.looking import CalledOff, Errand
from tui.screens.looking import LookingScreen

if TYPE_CHECKING:
    from engine.catalog import Entry

YOURS = "Files of your own…"
_GROUPS = {
    "bundled": "ships with torch-tui, offline",
    "made": "made on the spot, offline",
    "download": "downloaded once",
}
_TASKS = {
    "classification": ("which class it is", "One class a sample: a folder, a column of words, a label."),
    "regression": ("how much it is", "One or more numbers a sample: a price, a temperature."),
    "segmentation": ("which class each pixel is", "Pictures with a mask of the same size each."),
    "detection": ("what is where in a picture", "Boxes with a class each."),
}


_TASK_NAMED = re.compile(r'task = "(\w+)"')  # by the remedy of an error
_USUAL = {"masks": "segmentation", "coco": "detection"}  # what files of a format are there for


class DataChoiceScreen(LookingScreen):
    """Every choice is one step of undo, however many questions it takes; escape at any of them changes nothing."""

    def ask_of_data(self, request: str) -> None:
        """Choose a dataset, or change how a person's own is read."""
        if request == "choose":
            self._choose_dataset()
        elif request == "files":
            self._choose_files()
        elif request == "options":
            self.edit_data_options()

    def edit_data_options(self) -> None:
        """How a person's own data is read: to be overridden by who makes forms of a person's own code."""

    @work(exclusive=True, group="dialog")
    async def _choose_dataset(self) -> None:
        yours = Choice(
            YOURS,
            "your own",
            "pictures, tables, text, sound",
            "A folder of pictures with a folder for each class, a CSV or Parquet table, text, sound, NumPy arrays,"
            " pictures with masks, COCO boxes; or a function in a Python file.",
        )
        choices = [
            yours,
            *(_catalog_choice(each) for each in (*sources().values(), *unknown().values()) if self.draft.takes(each)),
        ]
        current = self.draft.recipe.data.name
        chosen = await self.app.push_screen_wait(PickScreen("Choose a dataset", choices, current))
        if chosen == YOURS:
            self._choose_files()
        elif chosen is not None:
            self.edit(lambda: self.draft.choose_dataset(find_source(chosen)))

    @work(exclusive=True, group="files")
    async def _choose_files(self) -> None:
        from tui.dialogs.data.find_file import FindFileScreen

        if not self.ready:
            self.notify("torch is still being loaded.")
            return
        path = await self.app.push_screen_wait(FindFileScreen(self.draft.recipe.data.path, self.desk.data.guess))
        if path is None:
            return
        if path.suffix == ".py":
            await self._choose_function(path)
            return
        try:
            guessed = await asyncio.to_thread(self.desk.data.guess, path)
        except StudioError:
            guessed = ""  # the person is asked for it
        formats = self.desk.data.formats()
        choices = [Choice(name, note=entry.summary, doc=f"{name}\n\n{entry.doc}") for name, entry in formats.items()]
        name = await self.app.push_screen_wait(PickScreen(f"{path.name}: which format?", choices, guessed))
        task = None if name is None else await self._ask_task(path, _USUAL.get(name, ""))
        if name is not None and task is not None:
            await self._read_files(path, formats[name], task)

    async def _ask_task(self, path: Path, usual: str = "") -> TaskName | None:
        known: Sequence[TaskName] = get_args(TaskName)
        texts = {task: _TASKS.get(task, ("", "")) for task in known}
        choices = [Choice(task, note=texts[task][0], doc=texts[task][1]) for task in known]
        title = f"{path.name}: what is to be learned?"
        now = self.draft.recipe.task
        usual = usual or (now if now in ("classification", "regression") else "classification")
        chosen = await self.app.push_screen_wait(PickScreen(title, choices, usual))
        return next((task for task in known if task == chosen), None)

    async def _read_files(self, path: Path, entry: Entry, task: TaskName) -> None:
        """Ask for the format's options until the files can be read with them, or the person gives up."""
        from tui.dialogs.data.reading import ReadingScreen
        from tui.dialogs.edit_part import EditPartScreen

        options: dict[str, object] = {}
        asks, before = bool(entry.parameters), self._source()
        same = False  # options, after another task was chosen for them
        while True:
            if asks and not same:
                given = await self.app.push_screen_wait(EditPartScreen(entry, options))
                if given is None:
                    return
                options = given
            data = Data(path=str(path), format=entry.name, options=options)
            errand = self.desk.data.begin("files", Errand())

            def read(data: Data = data, task: TaskName = task, errand: Errand = errand) -> tuple[Recipe, str]:
                source = self.desk.data.opened(data, task, errand)
                recipe = self.draft.with_files(source, path, data.format, data.options)
                if before is None or not self.draft.untouched:
                    return recipe, ""
                return self.desk.begun_anew(recipe, before, errand)

            found = await self.app.push_screen_wait(ReadingScreen(path.name, errand, read))
            if isinstance(found, tuple):
                self._take_files(*found)
                return
            if found is None or isinstance(found, CalledOff):
                return
            self.notify(str(found), severity="error", title="Can't be read", timeout=10)
            other = _TASK_NAMED.search(found.remedy)
            same = other is not None
            if other is not None:
                chosen = await self._ask_task(path, other[1])
                if chosen is None:
                    return
                task = chosen
            elif not asks:
                return

    def _take_files(self, recipe: Recipe, said: str) -> None:
        if self.draft.untouched:
            self.edit(lambda: self.draft.take(recipe))
        else:
            self.edit(lambda: self.draft.replace(recipe))
        if said:
            self.notify(said, timeout=10)

    def _source(self) -> Source | None:
        """The data on the desk, as far as they are known."""
        data = self.draft.recipe.data
        return self.checked.source if self.checked and self.checked.recipe.data == data else glimpse(data.name)

    async def _choose_function(self, path: Path) -> None:
        """A function or class of a Python file that makes a dataset."""
        from tui.dialogs.data.find_file import functions_of

        try:
            found = await asyncio.to_thread(functions_of, path)
        except StudioError as error:
            self.notify(str(error), severity="error")
            return
        choices = [Choice(name, doc=doc) for name, doc in found.items()]
        name = await self.app.push_screen_wait(PickScreen(f"{path.name}: what makes the dataset?", choices))
        task = None if name is None else await self._ask_task(path)
        if task is not None:
            self.edit(lambda: self.draft.choose_function(f"{path}:{name}", task))


def _catalog_choice(source: Source) -> Choice:
    shape = "×".join(map(str, source.shape))
    where = (
        "" if source.origin != "download" else " · here, offline" if source.ready else f" · ↓ {source.download_text}"
    )
    doc = f"{source.about}\n\n{source.task}\nsamples: " + ", ".join(
        f"{name} {size:,}" for name, size in source.sizes.items() if size
    )
    if source.classes:
        doc += f"\nclasses: {', '.join(source.classes)}"
    if source.options:
        doc += f"\noptions: {', '.join(source.options)}"
    if source.twin:
        doc += f"\n\n{source.twin} is a smaller one of the kind, and needs no download."
    group = _GROUPS[source.origin] if source.known else "unknown to us: what its class in torchvision tells"
    return Choice(source.name, group, shape + where, doc)
