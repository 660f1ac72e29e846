"""What a table's rows are to be told as: classes, or numbers to predict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from engine.data.formats.tabular.columns import Parsed, in_order, no_column
from engine.errors import DataError

_NAMES = ("target", "label", "class", "y")
_TOO_MANY = 0.5  # share of the rows that may differ in their class
_FEW = 20  # rows or classes, with which that says nothing


@dataclass(frozen=True)
class Targets:
    """The targets of one part: (N,) int64 or (N, outputs) float32. `wrong` says by row why there is none."""

    values: Tensor
    wrong: Mapping[int, str]


def target_columns(said: str | tuple[str, ...], names: Sequence[str]) -> tuple[tuple[str, ...], str]:
    """The columns to predict, and how they were found. Raises RecipeError."""
    if said:
        given = (said,) if isinstance(said, str) else said
        for name in given:
            if name not in names:
                raise no_column("data.options.target", name, names)
        return given, "as you say"
    folded = {name.casefold(): name for name in reversed(names)}
    for name in _NAMES:
        if name in folded:
            return (folded[name],), "by its name"
    return (names[-1],), "the last column"


def class_targets(
    parts: Mapping[str, Parsed], name: str, named: tuple[str, ...], where: str
) -> tuple[tuple[str, ...], dict[str, Targets]]:
    """The names of the classes in order, and each part's targets. `named` are those that a person gives.

    Raises DataError for a column that is none of classes.
    """
    coded = {part: parsed.categories(name) for part, parsed in parts.items()}
    found = in_order(list({_canonical(each) for column in coded.values() for each in column.names}))
    if not named:
        check_classes(len(found), sum(map(len, parts.values())), f"{where}: column '{name}'")
    classes = named or tuple(found)
    by_number = not set(found) & set(named) and bool(named)
    place = {str(number): number for number in range(len(classes))} if by_number else {}
    place = place or {each: number for number, each in enumerate(classes)}
    targets = {}
    for part, column in coded.items():
        look_up = np.array([*(place.get(_canonical(each), -1) for each in column.names), -1], dtype=np.int64)
        values = look_up[column.codes]
        expected = f"0 to {len(classes) - 1}" if by_number else ", ".join(classes)
        wrong = {
            row: f"the target '{name}' is empty"
            if column.codes[row] < 0
            else f"the target '{column.names[column.codes[row]]}' is out of range: {expected} are the classes"
            for row in np.flatnonzero(values < 0).tolist()
        }
        targets[part] = Targets(torch.from_numpy(values), wrong)
    return classes, targets


def number_targets(parts: Mapping[str, Parsed], names: Sequence[str], where: str) -> dict[str, Targets]:
    """Each part's targets as numbers. Raises DataError for a column that has none."""
    targets = {}
    for part, parsed in parts.items():
        wrong: dict[int, str] = {}
        columns = []
        for name in names:
            cell, column = parsed.column(name), parsed.numbers(name)
            if column.stray.sum() > len(parsed) // 2:
                row = int(column.stray.argmax())
                what = f"'{cell[row].as_py()}' in {parsed.cells.where(row)} is no number to predict"
                remedy = 'Set task = "classification", or target to a column of numbers.'
                raise DataError(f"{where}: column '{name}'", what, remedy)
            for row in np.flatnonzero(np.isnan(column.values)).tolist():
                what = f"is no number: '{cell[row].as_py()}'" if column.stray[row] else "is empty"
                wrong.setdefault(row, f"the target '{name}' {what}")
            columns.append(column.values.astype(np.float32))
        targets[part] = Targets(torch.from_numpy(np.stack(columns, 1)), wrong)
    return targets


def counted(classes: Sequence[str], targets: Mapping[str, Tensor], where: str) -> list[str]:
    """What is to be said of the sizes of the classes. Raises DataError for one class alone."""
    main = targets.get("all", targets.get("train"))
    assert main is not None
    counts = torch.bincount(main, minlength=len(classes)).tolist()
    there = [each for each, count in zip(classes, counts, strict=True) if count]
    if len(there) < 2:
        what = f"all samples are of one class: '{there[0]}'" if there else "no sample has a class"
        raise DataError(where, what, "Add samples of another, or choose another target.")
    notes = []
    for few, said in ((1, "has one sample"), (0, "has no sample to train on")):
        if names := [each for each, count in zip(classes, counts, strict=True) if count == few]:
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            notes.append(f"class {', '.join(map(repr, names[:3]))}{more} {said}")
    return notes


def check_classes(classes: int, samples: int, where: str) -> None:
    """Raise DataError for targets of which too many differ to be classes."""
    if classes > _FEW and classes > _TOO_MANY * samples:
        what = f"has {classes:,} different values in {samples:,} samples: these are no classes"
        raise DataError(where, what, 'Set task = "regression", or choose another target.')


def _canonical(text: str) -> str:
    """Numbers as they are alike: 1.0 in one file is 1 in another."""
    try:
        number = float(text)
    except ValueError:
        return text
    return str(int(number)) if number.is_integer() else str(number)
