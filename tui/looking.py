"""Looking at data: what the studio has threads do with a dataset, which a person may call off at any time.

Everything here may be called from any thread, and what reads is called from threads alone; nothing loads torch before
the studio has.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from engine.data.fetching.telling import reading_text
from engine.errors import DataError, StudioError, first_line
from engine.recipe import Data, Recipe, TaskName
from engine.recipe.parts import HELD

if TYPE_CHECKING:
    from engine.catalog import Entry
    from engine.data.preview import Inside, Moments, Preview, Sample, View
    from engine.data.sources import Source
    from engine.recipe import Part

Found = TypeVar("Found")


class CalledOff(DataError):  # noqa: N818 - nothing went wrong
    """The person has gone on to something else."""

    def __init__(self) -> None:
        super().__init__("data", "was called off")


class Errand:
    """Something a thread does with data for the screen. `cancel` ends it when the thread next says how far it is."""

    def __init__(self) -> None:
        self.text = ""
        """How far it is; written by the thread."""
        self.busy = False
        """Whether a thread is at it; written by that thread."""
        self._off = threading.Event()

    def cancel(self) -> None:
        """Nobody waits for it any more."""
        self._off.set()

    def run(self, work: Callable[[], Found]) -> Found:
        """Do it in this thread."""
        self.busy = True
        try:
            return work()
        finally:
            self.busy, self.text = False, ""

    @property
    def cancelled(self) -> bool:
        """Whether nobody waits for it any more."""
        return self._off.is_set()

    def progress(self, what: str, done: int, total: int) -> None:
        """Called by the thread. Raises CalledOff."""
        if self._off.is_set():
            raise CalledOff
        self.text = reading_text(what, done, total)


class Looking:
    """The way to the engine's view of data. One errand of each kind runs at a time: a new one calls the last off."""

    def __init__(self) -> None:
        self._errands: dict[str, Errand] = {}

    def begin(self, kind: str, errand: Errand) -> Errand:
        """Take the place of the errand of that kind."""
        if kind in self._errands:
            self._errands[kind].cancel()
        self._errands[kind] = errand
        return errand

    def cancel(self) -> None:
        """Call everything off."""
        for errand in list(self._errands.values()):
            errand.cancel()

    def preview(self, recipe: Recipe, errand: Errand) -> Preview:
        """Load a recipe's data and look at it. Raises StudioError."""
        from engine.data.preview import preview

        return explained(lambda: preview(recipe, errand.progress))

    def page(
        self, view: View, part: str, positions: Sequence[int], *, seen: bool, draw: int, errand: Errand
    ) -> list[Sample]:
        """Samples to draw. Raises StudioError."""
        return explained(lambda: view.page(part, positions, seen=seen, draw=draw, progress=errand.progress))

    def order(self, view: View, part: str, label: int | None, odd: bool, errand: Errand) -> Sequence[int]:
        """Which samples stand where. Raises StudioError."""
        return explained(lambda: view.order(part, label, odd, errand.progress))

    def counts(self, view: View, part: str, errand: Errand) -> Sequence[int]:
        """How many samples of a part each class has. Raises StudioError."""
        return explained(lambda: view.counts(part, errand.progress))

    def measure(self, view: View, errand: Errand) -> Moments:
        """The mean and deviation of each channel. Raises StudioError."""
        from engine.data.preview import measure

        return explained(lambda: measure(view, errand.progress))

    def fitting(self, view: View, errand: Errand, *, aside: bool, inside: Inside) -> list[tuple[Entry, bool]]:
        """The transforms that fit, in the recipe or `inside` one that is there, and whether each is random.

        Raises StudioError.
        """
        from engine.data.preview import fitting

        return explained(lambda: fitting(view, aside=aside, inside=inside, progress=errand.progress))

    def before_after(
        self,
        view: View,
        augment: Sequence[Part],
        fixed: Sequence[Part],
        positions: Sequence[int],
        draw: int,
        errand: Errand,
    ) -> list[tuple[Sample, Sample]]:
        """Samples as they are, and as these steps show them to the model. Raises StudioError."""
        from engine.data.preview import before_after

        return explained(lambda: before_after(view, augment, fixed, positions, draw, errand.progress))

    def draws_globally(self, augment: Sequence[Part]) -> bool:
        """Whether an augmentation uses the process's random number generators, which a training may be using."""
        from engine.data.augmentation.augment import Augment

        try:
            return Augment(augment).draws_globally
        except StudioError:  # trying it says what is wrong
            return False

    def transform(self, part: Part) -> Entry:
        """The transform that a part names, right or wrong. Raises RecipeError for what no form could mend."""
        from engine.data.transforms import named

        entry = named(part, "data")
        unknown = {key: value for key, value in part.parameters.items() if entry.parameter(key) is None and key != HELD}
        if unknown:
            entry.check(unknown, "data")
        return entry

    def formats(self) -> Mapping[str, Entry]:
        """The formats of files, with their options."""
        from engine.data.formats.catalog import formats

        return formats()

    def options(self, data: Data) -> Entry:
        """What a dataset, a format of files, or a function of a person's own takes. Raises StudioError."""
        if data.name:
            from engine.data.options import dataset_entry

            return dataset_entry(data.name)
        if data.path:
            from engine.data.formats.catalog import find_format

            return explained(lambda: find_format(data.format, Path(data.path)))
        from engine.python_file.entry import own_entry

        return own_entry(data.python, "data.python")

    def guess(self, path: Path) -> str:
        """The format that a file or folder looks like. Raises StudioError."""
        from engine.data.formats.catalog import guess

        return explained(lambda: guess(path))

    def opened(self, data: Data, task: TaskName, errand: Errand) -> Source:
        """What is known of a person's files when they are read. Raises StudioError."""
        from engine.data.load import load

        return explained(lambda: load(data, task, errand.progress).source)


def explained(work: Callable[[], Found]) -> Found:
    """What `work` gives. A person's own dataset may raise anything, SystemExit included."""
    try:
        return work()
    except StudioError:
        raise
    except BaseException as error:
        raise DataError("data", f"{type(error).__name__}: {first_line(error)}", "Mend the dataset.") from error
