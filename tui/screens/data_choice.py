"""Choosing what the recipe on the desk is trained on: a dataset of the catalog, or files of a person's own."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from textual import work

from engine.data.sources import (
    HUGGING_FACE,
    Source,
    check_option,
    described,
    glimpse,
    left_out,
    sources,
    unknown,
    unread,
)
from engine.data.sources import find as find_source
from engine.data.vision.table import EXCLUDED
from engine.errors import NotDownloaded, StudioError
from engine.recipe import Data, Recipe, TaskName
from tui.dialogs.pick import Choice, PickScreen
from tui.draft import Draft
from tui.looking import CalledOff, Errand
from tui.screens.looking import LookingScreen

if TYPE_CHECKING:
    from engine.other_data import Adapted
    from tui.dialogs.edit_part import EditPartScreen

YOURS = "Files of your own…"
HUB = "hf:org/name…"
_OWN = (
    Choice(
        YOURS,
        "your own",
        "pictures, tables, text, sound, Python",
        "A folder of pictures with a folder for each class, a CSV or Parquet table, text, sound, NumPy arrays,"
        " pictures with masks, COCO boxes; or a function in a Python file: path/to/data.py:make_dataset.\n\n"
        "A path may be typed here, too.",
    ),
    Choice(
        HUB,
        "your own",
        "any of Hugging Face, by its name",
        "Type hf: and the name of a dataset, as its page on huggingface.co has it. What it has is known when it is"
        " downloaded: d in the data pane does that.",
    ),
)
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


_NAMED = re.compile(r"\b(?:set|lower|raise) (\w+)", re.IGNORECASE)  # an option, by the remedy of an error
_TASK_NAMED = re.compile(r'task = "(\w+)"')  # by the remedy of an error
_FOR_PROGRAMS = re.compile(r"\n\nRaises.*?(?=\n\n|\Z)", re.DOTALL)  # a paragraph of a docstring
_USUAL = {"masks": "segmentation", "coco": "detection"}  # what files of a format are there for


@dataclass(frozen=True)
class _Chosen:
    """Data as they were chosen: the recipe on them, the data before; `unknown` if their shape was not known."""

    draft: Draft
    recipe: Recipe
    before: Source | None
    unknown: bool


class DataChoiceScreen(LookingScreen):
    """Every choice is one step of undo, however many questions it takes; escape at any of them changes nothing."""

    _chosen: _Chosen | None = None
    """What the model has still to be fitted to: data that were just chosen, and maybe have yet to be downloaded."""
    _looked_for = ""

    def ask_of_data(self, request: str) -> None:
        """Choose a dataset, or change its options."""
        if request == "choose":
            self._choose_dataset()
        elif request == "files":
            self._choose_files()
        elif request == "options":
            self._edit_options()

    async def adapt(self, recipe: Recipe, errand: Errand) -> bool:
        """Fit the model to data that were just chosen, in the step of undo that chose them; whether that was done."""
        chosen = self._chosen
        if chosen is None or chosen.draft is not self.draft or chosen.recipe.data != recipe.data:
            return False
        keep = not self.draft.untouched

        def work() -> Adapted | None:
            return self.desk.adapted(recipe, chosen.before, errand, unknown=chosen.unknown, keep=keep)

        try:
            found = await self.read(errand, work)
        except (CalledOff, NotDownloaded):
            return False
        except StudioError:  # the check says what is wrong
            found = None
        if recipe is not self.draft.recipe:
            return False
        self._chosen = None
        if found is None:
            return False
        together = recipe is chosen.recipe
        self.notify(found.said, timeout=10)
        self.edit(lambda: self.draft.adapt(found.recipe, together=together))
        return True

    @work(exclusive=True, group="dialog")
    async def _choose_dataset(self) -> None:
        known = (*sources().values(), *unknown().values())
        choices = [*_OWN, *(_catalog_choice(each) for each in known if self.draft.takes(each))]
        current, chosen, search = self.draft.recipe.data.name, HUB, ""
        while chosen == HUB:  # its name is typed
            screen = PickScreen("Choose a dataset", choices, current, search=search, typed=_typed)
            answer = await self.app.push_screen_wait(screen)
            if answer is None:
                return
            chosen, search = answer, HUGGING_FACE
        if chosen == YOURS or _is_path(chosen):
            self._looked_for = chosen if chosen != YOURS else self._looked_for
            self._choose_files()
        elif (reason := left_out(chosen)) is not None:
            self.notify(f"{chosen} is left out: {reason.why}. {reason.instead}", severity="warning", timeout=10)
        elif not self.ready and (chosen.startswith(HUGGING_FACE) or find_source(chosen).options):
            self.notify("torch is still being loaded.")
        else:
            hub = chosen.startswith(HUGGING_FACE)
            task = await self._ask_task(chosen) if hub else find_source(chosen).task
            same = self.draft.recipe.data.name == chosen
            if task is not None:
                await self._ask_options({"name": chosen}, task, self.draft.recipe.data.options if same else {})

    @work(exclusive=True, group="files")
    async def _choose_files(self) -> None:
        from tui.dialogs.data.find_file import FUNCTION, FindFileScreen

        if not self.ready:
            self.notify("torch is still being loaded.")
            return
        data = self.draft.recipe.data
        start = self._looked_for or data.path or data.python
        path = await self.app.push_screen_wait(FindFileScreen(start, self.desk.data.guess))
        if path is None:
            return
        self._looked_for = str(path)
        if path.suffix == ".py" or FUNCTION in path.name:
            await self._choose_function(path)
            return
        try:
            guessed = await asyncio.to_thread(self.desk.data.guess, path)
        except StudioError:
            guessed = ""  # the person is asked for it
        formats = self.desk.data.formats()
        docs = {name: _FOR_PROGRAMS.sub("", entry.doc) for name, entry in formats.items()}
        choices = [Choice(name, note=formats[name].summary, doc=f"{name}\n\n{doc}") for name, doc in docs.items()]
        name = await self.app.push_screen_wait(PickScreen(f"{path.name}: which format?", choices, guessed))
        task = None if name is None else await self._ask_task(path.name, _USUAL.get(name, ""))
        if name is not None and task is not None:
            await self._ask_options({"path": str(path), "format": name}, task, {})

    async def _choose_function(self, path: Path) -> None:
        """A function or class of a Python file that makes a dataset."""
        from tui.dialogs.data.find_file import FUNCTION, functions_of

        reference = str(path)
        if FUNCTION not in path.name:
            try:
                found = await asyncio.to_thread(functions_of, path)
            except StudioError as error:
                self.notify(str(error), severity="error")
                return
            choices = [Choice(name, doc=doc) for name, doc in found.items()]
            name = await self.app.push_screen_wait(PickScreen(f"{path.name}: what makes the dataset?", choices))
            if name is None:
                return
            reference = f"{path}:{name}"
        task = await self._ask_task(path.name)
        if task is not None:
            await self._ask_options({"python": reference}, task, {})

    @work(exclusive=True, group="dialog")
    async def _edit_options(self) -> None:
        data = self.draft.recipe.data
        keys = ("name",) if data.name else ("path", "format") if data.path else ("python",)
        where = {key: getattr(data, key) for key in keys}
        checked = self.checked
        problems = checked.problems if checked is not None and checked.recipe is self.draft.recipe else ()
        await self._ask_options(where, self.draft.recipe.task, data.options, next(iter(problems), None))

    async def _ask_task(self, name: str, usual: str = "") -> TaskName | None:
        known: Sequence[TaskName] = get_args(TaskName)
        texts = {task: _TASKS.get(task, ("", "")) for task in known}
        choices = [Choice(task, note=texts[task][0], doc=texts[task][1]) for task in known]
        now = self.draft.recipe.task
        usual = usual or (now if now in ("classification", "regression") else "classification")
        chosen = await self.app.push_screen_wait(PickScreen(f"{name}: what is to be learned?", choices, usual))
        return next((task for task in known if task == chosen), None)

    async def _ask_options(
        self,
        where: Mapping[str, str],
        task: TaskName,
        options: Mapping[str, Any],
        problem: StudioError | None = None,
    ) -> None:
        """Ask for the options of the data that `where` names, as keys of `[data]`, until it can be read with them.

        Where a `problem` names one of them, the form begins there. What is downloaded is not read for it. Escape leaves
        the recipe as it is.
        """
        try:
            form = await self._form(Data.model_validate(dict(where)))
        except StudioError as error:
            self.notify(str(error), severity="error", title="Can't be read", timeout=10)
            return
        called = where.get("name") or Path(where.get("path") or where["python"]).name
        same = False  # options, after another task was chosen for them
        while True:
            if form is not None and not same:
                given = await self.app.push_screen_wait(form(options, _named(problem)))
                if given is None:
                    return
                options = given
            wanted = {**where, "options": dict(options)}
            found = await self._known(Data.model_validate(wanted), task, called)
            if isinstance(found, Source):
                self._take(found, wanted)
            if found is None or isinstance(found, (Source, CalledOff)):
                return
            problem = found
            self.notify(str(found), severity="error", title="Can't be read", timeout=10)
            other = _TASK_NAMED.search(found.remedy)
            same = other is not None
            if other is not None:
                chosen = await self._ask_task(called, other[1])
                if chosen is None:
                    return
                task = chosen
            elif form is None:
                return

    async def _form(self, data: Data) -> Callable[[Mapping[str, Any], Sequence[str]], EditPartScreen] | None:
        """The form of what data can be given, and where to begin, None where that is nothing. Raises StudioError."""
        from tui.dialogs.edit_part import EditPartScreen

        listed = None if data.path or data.python or data.name.startswith(HUGGING_FACE) else find_source(data.name)
        if listed is not None and not listed.options:
            return None
        entry = await asyncio.to_thread(self.desk.data.options, data)
        check = None if listed is None else lambda key, value: check_option(listed, key, value, "")
        if not entry.parameters:
            return None
        return lambda options, first: EditPartScreen(entry, options, check, first)

    async def _known(self, data: Data, task: TaskName, name: str) -> Source | StudioError | None:
        """What is known of data: files and functions of a person's own are read for it, unless that disturbs."""
        from tui.dialogs.data.reading import ReadingScreen

        if data.name:
            try:
                return replace(described(data), task=task) if data.name.startswith(HUGGING_FACE) else described(data)
            except StudioError as error:
                return error
        if data.python and self.desk.live:
            return unread(data, task)
        errand = self.desk.data.begin("files", Errand())
        return await self.app.push_screen_wait(
            ReadingScreen(name, errand, lambda: self.desk.data.opened(data, task, errand))
        )

    def _take(self, source: Source, where: Mapping[str, Any]) -> None:
        """Put data on the desk as one step of undo; the model is fitted to them by the check that follows."""
        before, recipe = self._source(), self.draft.recipe
        self.edit(lambda: self.draft.choose_data(source, where))
        if self.draft.recipe is not recipe:
            now = self.draft.recipe
            other = any(getattr(now.data, key) != getattr(recipe.data, key) for key in ("name", "path", "python"))
            self._chosen = _Chosen(self.draft, now, before, other and not source.shape)

    def _source(self) -> Source | None:
        """The data on the desk, as far as they are known."""
        data = self.draft.recipe.data
        if self.checked and self.checked.recipe.data == data:
            return self.checked.source
        return glimpse(data.name, data.options)


def _named(problem: StudioError | None) -> list[str]:
    """The options that a problem is about: by where it is, or by what to do."""
    if problem is None:
        return []
    prefix, _, option = problem.where.partition("data.options.")
    return ([option.partition(":")[0].strip()] if option and not prefix else []) + _NAMED.findall(problem.remedy)


def _is_path(text: str) -> bool:
    return not text.startswith(HUGGING_FACE) and ("/" in text or text.startswith(("~", ".")) or ".py" in text)


def _typed(query: str) -> Choice | None:
    """What is typed and stands in no list: a name of Hugging Face's, a path, a dataset that is left out."""
    query = query.strip()
    if query.startswith(HUGGING_FACE) and query.removeprefix(HUGGING_FACE).strip("/ "):
        return Choice(query, "", "a dataset of Hugging Face", f"{query}\n\n{_OWN[1].doc}")
    if _is_path(query):
        return Choice(query, "", "files of your own", _OWN[0].doc)
    name = next((each for each in EXCLUDED if each.casefold() == query.casefold()), query)
    reason = left_out(name)
    if reason is None:
        return None
    return Choice(name, "", "left out", f"{name} is left out: {reason.why}.\n\n{reason.instead}")


def _catalog_choice(source: Source) -> Choice:
    shape = "×".join(map(str, source.shape))
    size = f" · ↓ {source.download_text}" if source.download_text else ""
    where = "" if source.origin != "download" else " · here, offline" if source.ready else size
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
