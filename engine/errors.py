"""The few errors a person can meet. Each says where, what, and what to do about it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from engine.printable import printable


class StudioError(Exception):
    """Something the person can mend.

    `where` names the file, key or thing; `what` says what is wrong with it; `remedy` says what to do.
    """

    def __init__(self, where: str, what: str, remedy: str = "") -> None:
        # All three may quote names of files and cells of tables.
        self.where = printable(where)
        self.what = printable(what).rstrip(".")
        self.remedy = printable(remedy)
        super().__init__(where, what, remedy)

    def __str__(self) -> str:
        end = "" if self.what.endswith(("!", "?")) else "."
        return " ".join(part for part in (f"{self.where}: {self.what}{end}", self.remedy) if part)


class RecipeError(StudioError):
    """A recipe asks for something that does not exist or does not fit."""


class DataError(StudioError):
    """A dataset is missing, unreadable or not what it says."""


class NotDownloaded(DataError):  # noqa: N818 - nothing is wrong: a training downloads it
    """A dataset must be downloaded before anything can be said of it."""


class SampleRefused(DataError):  # noqa: N818 - what became of it
    """A sample can't be used, and the recipe wants to stop at such."""


class ModelError(StudioError):
    """A model can't be built or does not take the data's shape."""


class RunError(StudioError):
    """A run directory or checkpoint is missing, damaged or in use."""


class DeviceError(StudioError):
    """The asked-for device is not there."""


class TrainingError(StudioError):
    """A training went wrong in a way that is understood (out of memory, NaN loss, full disk)."""


class DiskFull(TrainingError):  # noqa: N818 - what it is, like a full disk
    """The disk has no room for a checkpoint; the training can wait until there is some."""


def words(error: BaseException) -> str:
    """What an exception says, or its type's name if it says nothing or can't even do that."""
    try:
        return str(error).strip() or type(error).__name__
    except BaseException:  # a person's own __str__ may raise anything
        return type(error).__name__


def with_article(name: str) -> str:
    """`an int`, `a str`: the name of a type or of a part, as a sentence has it."""
    return f"{'an' if name.lower().startswith(('a', 'e', 'i', 'o', 'ndarray')) else 'a'} {name}"


def first_line(error: BaseException) -> str:
    """The first line of what an exception says."""
    return words(error).splitlines()[0]


def nearest(name: str, known: Iterable[str]) -> str:
    """`Did you mean 'x'?` when a known name is close to `name`, else an empty string."""
    best = nearest_name(name, known)
    return f"Did you mean '{best}'?" if best else ""


def nearest_name(name: str, known: Iterable[str]) -> str:
    """The known name that is spelt most like `name`; empty when none is close."""
    folded = {candidate.casefold(): candidate for candidate in known}
    close = difflib.get_close_matches(name.casefold(), folded, n=5, cutoff=0.6)

    def likeness(candidate: str) -> float:
        # A letter more or less counts against it: Adma is Adam, not Adamax.
        ratio = difflib.SequenceMatcher(None, name.casefold(), candidate).ratio()
        return ratio - 0.05 * abs(len(candidate) - len(name))

    return folded[max(close, key=likeness)] if close else ""
