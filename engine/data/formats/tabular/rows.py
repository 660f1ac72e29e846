"""Rows of a table as samples: what stands for missing cells and categories is measured on the training rows alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import psutil
import torch
from torch import Tensor

from engine.data.fetching.telling import untold
from engine.data.formats.tabular.cells import ByName, Cells, Places, RowTexts
from engine.data.formats.tabular.columns import Coded, in_order
from engine.data.samples import Columns, Progress, Samples
from engine.data.sources import Source
from engine.data.tokenizing.ranking import ranked
from engine.errors import DataError

Missing = Literal["mean", "median", "zero", "most frequent", "drop", "stop"]
Categories = Literal["one-hot", "embedding"]
NO_CELL = "missing"
"""The category of a cell that is missing."""
_MEASURING, _ENCODING = "measuring columns", "rows as numbers"
_TOGETHER = 10_000  # rows


@dataclass(frozen=True)
class Settings:
    """How rows are encoded; see engine.data.formats.table."""

    missing: Missing = "mean"
    indicators: bool = False
    categories: Categories = "one-hot"
    most_categories: int = 200


class Rows:
    """The rows of one file, not encoded yet."""

    def __init__(
        self,
        cells: Cells,
        numeric: Mapping[str, np.ndarray],
        categorical: Mapping[str, Coded],
        targets: Tensor,
        settings: Settings,
    ) -> None:
        self.numeric, self.categorical, self.targets, self.settings = numeric, categorical, targets, settings
        self.places: Sequence[str] = Places(cells.place, cells.numbers)
        rows = np.arange(len(cells))
        self.columns: Columns = ByName(cells.table, rows)
        self.raw: Sequence[str | Mapping[str, str]] = RowTexts(cells.table, rows)

    def __len__(self) -> int:
        return len(self.targets)

    def fit(self, train: Tensor, progress: Progress = untold) -> Encoding:
        """Measure the rows of these numbers. Raises what `progress` raises."""
        rows, settings = train.numpy(), self.settings
        fills, indicated = dict[str, float | str](), list[str]()
        total = len(self.numeric) + len(self.categorical)
        for done, (name, values) in enumerate(self.numeric.items()):
            progress(_MEASURING, done, total)
            column = values[rows]
            fills[name] = _fill(column[~np.isnan(column)], settings.missing)
            if settings.indicators and np.isnan(column).any():
                indicated.append(name)
        known, rare = {}, {}
        for done, (name, coded) in enumerate(self.categorical.items(), len(self.numeric)):
            progress(_MEASURING, done, total)
            counts = np.bincount(coded.codes[rows] + 1, minlength=len(coded.names) + 1)  # the first: of no cell
            found = {name: int(count) for name, count in zip(coded.names, counts[1:], strict=True) if count}
            if settings.missing == "most frequent" and found:
                fills[name] = max(found, key=lambda each: found[each])
            elif counts[0]:
                found[NO_CELL] = found.get(NO_CELL, 0) + int(counts[0])
            different = len(found)
            kept = ranked(found, settings.most_categories, 1, progress)
            known[name], rare[name] = tuple(in_order(kept)), different - len(kept)
        return Encoding(settings, fills, tuple(indicated), known, rare)


def _fill(values: np.ndarray, missing: Missing) -> float:
    """What stands for a missing number, measured on those that are there."""
    if missing == "zero" or not len(values):
        return 0.0
    if missing == "median":
        return float(np.median(values))
    if missing == "most frequent":
        found, counts = np.unique(values, return_counts=True)
        return float(found[counts.argmax()])
    return float(values.mean())


@dataclass(frozen=True)
class Encoding:
    """How rows become numbers. What was not among the training rows has no category: all its columns are 0.

    `fills` stand for missing cells, `indicated` are columns that get one beside them which says so, `known` are the
    categories of each column, `rare` how many of a column have none of their own.
    """

    settings: Settings
    fills: Mapping[str, float | str]
    indicated: tuple[str, ...]
    known: Mapping[str, tuple[str, ...]]
    rare: Mapping[str, int]

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the inputs: numbers first, then what is missing, then categories."""
        numeric = tuple(name for name in self.fills if name not in self.known)
        missing = tuple(f"{name}={NO_CELL}" for name in self.indicated)
        if self.settings.categories == "embedding":
            return (*numeric, *missing, *self.known)
        return (*numeric, *missing, *(f"{name}={each}" for name, names in self.known.items() for each in names))

    @property
    def cardinalities(self) -> tuple[int, ...]:
        """How many codes each of the last columns has; code 0 is of an unknown category."""
        embedded = self.settings.categories == "embedding"
        return tuple(len(names) + 1 for names in self.known.values()) if embedded else ()

    def encode(self, part: Rows, progress: Progress = untold) -> Samples:
        """(N, columns) float32, in the order of the rows that were measured, whatever that of this file is.

        Raises DataError for a column that is not there, and where they take more memory than there is, and what
        `progress` raises.
        """
        numeric = [name for name in self.fills if name not in self.known]
        lacking = [(name, "numbers") for name in numeric if name not in part.numeric]
        lacking += [(name, "categories") for name in self.known if name not in part.categorical]
        if lacking:
            name, kind = lacking[0]
            what = f"is not among the columns of {kind} of each table"
            raise DataError(f"column '{name}'", what, "Name it alike in all, and in numeric or categorical.")
        size, free = len(part) * len(self.columns) * 4, psutil.virtual_memory().available
        if size > free:
            what = f"{len(self.columns):,} columns take {size / 1e9:.1f} GB, {free / 1e9:.1f} GB of memory are free"
            raise DataError("data", what, 'Set categories = "embedding" in data.options, or lower most_categories.')
        inputs = np.zeros((len(part), len(self.columns)), dtype=np.float32)
        codes = {name: self._codes(name, part.categorical[name]) for name in self.known}
        for first in range(0, len(part), _TOGETHER):
            progress(_ENCODING, first, len(part))
            self._fill(inputs, slice(first, first + _TOGETHER), part, codes)
        return Samples(torch.from_numpy(inputs), part.targets, part.places, part.columns, part.raw)

    def _fill(self, inputs: np.ndarray, rows: slice, part: Rows, codes: Mapping[str, np.ndarray]) -> None:
        """Write some rows of `inputs` (N, columns), where each category has the number that `codes` look up."""
        some, at = inputs[rows], 0
        for name in self.fills:
            if name not in self.known:
                values = part.numeric[name][rows]
                some[:, at] = np.where(np.isnan(values), self.fills[name], values)
                at += 1
        for name in self.indicated:
            some[:, at] = np.isnan(part.numeric[name][rows])
            at += 1
        for name in self.known:
            found = codes[name][part.categorical[name].codes[rows]]  # -1, of no cell, looks up the last
            if self.settings.categories == "embedding":
                some[:, at] = found
                at += 1
            else:
                there = np.flatnonzero(found)
                some[there, at + found[there] - 1] = 1
                at += len(self.known[name])

    def _codes(self, name: str, coded: Coded) -> np.ndarray:
        """The code of each of `coded.names`, and of no cell; 0 is unknown."""
        place = {each: code for code, each in enumerate(self.known[name], 1)}
        missing = place.get(str(self.fills.get(name, NO_CELL)), 0)
        codes = [*(place.get(each, 0) for each in coded.names), missing]
        return np.array(codes, dtype=np.int64)

    def describe(self, source: Source) -> Source:
        """`source` with the inputs as they are now known."""
        columns = self.columns
        about = [f"{count:,} rare values of '{name}' are as unknown ones" for name, count in self.rare.items() if count]
        return replace(
            source,
            about="; ".join((source.about, *about)),
            shape=(len(columns),),
            columns=columns,
            cardinalities=self.cardinalities,
        )
