"""On which samples a run's metrics were measured: which runs' best values can be compared, and which are folds."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import asdict, astuple, dataclass
from typing import Any, Self

from engine.runs.directory import RunStatus

FACT = "validation"
NOT_HELD_OUT: Mapping[str, None] = {FACT: None}
"""The facts of a run that has no validation samples."""
_LETTERS = 26


@dataclass(frozen=True)
class Validation:
    """The samples that a run was validated on, as its facts keep them.

    Runs with the same `digest` were validated on the same samples. `data` is what their dataset is called. Runs of one
    `recipe`, a hash of all of it but the fold, differ in their fold alone; without folds it is empty.
    """

    samples: int
    digest: str
    data: str
    fold: int = 0
    folds: int = 0
    recipe: str = ""

    @classmethod
    def of(cls, status: RunStatus) -> Self | None:
        """That of a run; None where nothing is held out, and for runs of before."""
        try:
            found = cls(**status.facts[FACT])
        except (KeyError, TypeError):
            return None
        return found if tuple(map(type, astuple(found))) == (int, str, str, int, int, str) else None

    def facts(self) -> Mapping[str, Any]:
        """What `of` reads."""
        return {FACT: asdict(self)}


@dataclass(frozen=True)
class Folds:
    """Best values of runs of one recipe, each of another fold: `deviation` is that of a sample, divided by n - 1."""

    metric: str
    numbers: tuple[int, ...]
    of: int
    mean: float
    deviation: float

    def __str__(self) -> str:
        first, last = self.numbers[0], self.numbers[-1]
        whole = len(self.numbers) == last - first + 1
        which = f"{first}–{last}" if whole else ", ".join(map(str, self.numbers))
        return f"folds {which} of {self.of}: {self.metric} {self.mean:.4g} ± {self.deviation:.2g}"


class Validations:
    """What runs were validated on, seen together; the newest run stands first."""

    def __init__(self, runs: Iterable[RunStatus]) -> None:
        self._runs = {run.name: run for run in runs}
        known = [(run, found) for run in self._runs.values() if (found := Validation.of(run)) is not None]
        self._of = {run.name: found for run, found in known}
        self._together: dict[str, list[str]] = defaultdict(list)
        for name, found in self._of.items():
            self._together[found.digest].append(name)
        # The oldest is A: what a run is called does not change when another is trained.
        oldest = dict.fromkeys(found.digest for _, found in reversed(known))
        self._letters = {digest: _letters(number) for number, digest in enumerate(oldest)}
        self._folds = _folds(known)

    def of(self, name: str) -> Validation | None:
        """What the run of that name was validated on."""
        return self._of.get(name)

    def mark(self, name: str) -> str:
        """`B`, `B fold 2`: the same letter for the same samples; empty where they are not known."""
        found = self._of.get(name)
        if found is None:
            return ""
        return self._letters[found.digest] + (f" fold {found.fold}" if found.folds else "")

    def folds(self, name: str) -> Folds | None:
        """What the folds of a run's recipe that are done came to, if there are two or more."""
        found = self._of.get(name)
        return self._folds.get(found.recipe) if found is not None else None

    def all_folds(self) -> Iterable[tuple[str, Folds]]:
        """The newest run of each recipe of which there are folds, and what they came to."""
        newest: dict[str, str] = {}
        for name, found in self._of.items():
            newest.setdefault(found.recipe, name)
        return [(newest[recipe], folds) for recipe, folds in self._folds.items()]

    def about(self, name: str) -> str:
        """In words, what a run was validated on, and with which runs it can be compared; empty if that is not known."""
        found = self._of.get(name)
        if found is None:
            summary = self._runs[name].summary
            trained = summary is not None and summary.best is not None and summary.part == "train"
            return "nothing was held out: its best value is that of its training samples" if trained else ""
        some = f"{found.samples:,} sample{'' if found.samples == 1 else 's'}"
        fold = f"{_fold(found)}, " if found.folds else ""
        same = [other for other in self._together[found.digest] if other != name]
        if same:
            others = same[0] if len(same) == 1 else f"{len(same)} other runs here"
            said = [f"{fold}validated on the same {some} as {others}"]
        else:
            said = [f"{fold}validated on {some}"]
        if other := self._incomparable(name, found):
            said.append(f"on other samples than {other}: their best values can't be compared")
        return "; ".join(said)

    def _incomparable(self, name: str, found: Validation) -> str:
        """The newest run that a person might compare with it and can't: of the same data, by the same metric."""
        metric = _metric(self._runs[name])
        others = [
            other
            for other, theirs in self._of.items()
            if theirs.data == found.data
            and theirs.digest != found.digest
            and not (found.recipe and theirs.recipe == found.recipe)
            and metric
            and _metric(self._runs[other]) == metric
        ]
        return "" if not others else others[0] + (f" and {len(others) - 1} more" if len(others) > 1 else "")


def _folds(runs: Iterable[tuple[RunStatus, Validation]]) -> dict[str, Folds]:
    """What each recipe came to over its folds, of each the newest run that is done and is no branch."""
    best: dict[str, dict[int, tuple[str, float]]] = defaultdict(dict)
    of: dict[str, int] = {}
    for run, found in runs:
        summary = run.summary
        if found.recipe and run.state == "done" and summary and summary.best is not None and "origin" not in run.facts:
            best[found.recipe].setdefault(found.fold, (summary.metric, summary.best))
            of[found.recipe] = found.folds
    made = {}
    for recipe, folds in best.items():
        if len(folds) > 1:
            values = [value for _, value in folds.values()]
            metric = next(iter(folds.values()))[0]
            mean = sum(values) / len(values)
            deviation = math.sqrt(sum((value - mean) ** 2 for value in values) / (len(values) - 1))
            made[recipe] = Folds(metric, tuple(sorted(folds)), of[recipe], mean, deviation)
    return made


def _fold(found: Validation) -> str:
    """Counted from 0, as a recipe does."""
    return f"fold {found.fold} of 0…{found.folds - 1}"


def _metric(run: RunStatus) -> str:
    return run.summary.metric if run.summary and run.summary.best is not None else ""


def _letters(number: int) -> str:
    """A, B, …, Z, AA, AB, …"""
    text = ""
    number += 1
    while number:
        number, letter = divmod(number - 1, _LETTERS)
        text = chr(ord("A") + letter) + text
    return text
