"""Items with their labels as they are gathered from files: parts, classes and numbers to predict told by names."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np
import torch
from torch import Tensor

from engine.data.reading.parts import PARTS
from engine.data.reading.pieces import different, filled
from engine.data.reading.watch import looked_into
from engine.data.samples import BadSample, Columns
from engine.errors import DataError
from engine.recipe import TaskName

Item = TypeVar("Item")
_GREATEST = float(torch.finfo(torch.float32).max)
_LONGEST_CELL = 200  # what is longer is no value to group by


@dataclass
class Gathered(Generic[Item]):
    """What was found of one part so far."""

    task: TaskName
    items: list[Item] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    places: list[str] = field(default_factory=list)
    bad: list[BadSample] = field(default_factory=list)
    # By column: of a dict for each item the garbage collector would take its time, in which no other thread runs.
    _cells: dict[str, list[object]] = field(default_factory=dict)

    def add(self, item: Item, label: str, place: str, cells: Mapping[str, object]) -> None:
        """Take an item, unless its label is missing or, where numbers are predicted, is none.

        `cells` are its values in other columns.
        """
        if not label:
            self.refuse(place, "has no label")
        elif self.task == "regression" and not _is_number(label):
            self.refuse(place, f"has the label '{_short(label)}', which is no number")
        else:
            if not self.items:
                self._cells = {name: [] for name in cells}
            for name in [name for name in self._cells if name not in cells]:
                del self._cells[name]
            for name, values in self._cells.items():
                values.append(cells[name])
            self.items.append(item)
            self.labels.append(label)
            self.places.append(place)

    def refuse(self, place: str, what: str) -> None:
        """Leave an item out and say why."""
        self.bad.append(BadSample(place, what))

    @property
    def columns(self) -> Columns:
        """The columns that every item has: numbers where all cells are, else text, unless it is long."""
        columns = {name: _column(values) for name, values in self._cells.items()}
        return {name: values for name, values in columns.items() if values is not None}


def parts_of(path: Path, suffixes: Collection[str]) -> dict[str, list[Path]]:
    """The files or folders of each part: those named train, val and test in a folder, else `path` as `all`.

    A file may go on after its part's name, as in `train-00001.parquet`.
    """
    if not path.is_dir():
        return {"all": [path]}
    found: dict[str, list[Path]] = {}
    for entry in visible(path):
        part = _part(entry, suffixes)
        if part:
            found.setdefault(part, []).append(entry)
    return found if "train" in found else {"all": [path]}


def visible(folder: Path) -> list[Path]:
    """What lies in a folder in the order of its names, hidden files left out."""
    return sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))


def files_below(folder: Path, root: Path, refuse: Callable[[str, str], None]) -> Iterator[Path]:
    """Every file in a folder and the folders in it, in the order of their names.

    Links that lead out of `root`, the data's own folder, are refused; links to folders are not gone into.
    """
    if leads_out(root, folder, refuse):
        return
    looked_into(str(folder))
    for at, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in folders:  # before they are listed: what comes meanwhile must be seen later
            looked_into(os.path.join(at, name))
        for name in sorted(name for name in names if not name.startswith(".")):
            file = Path(at, name)
            if not file.is_symlink() or not leads_out(root, file, refuse):
                yield file


def leads_out(root: Path, path: Path, refuse: Callable[[str, str], None]) -> bool:
    """Whether `path` is a link to what lies outside of `root`; then it is refused."""
    inside = os.path.realpath(root)
    if os.path.commonpath((inside, os.path.realpath(path))) == inside:
        return False
    refuse(place_in(root, path), "is a link that leads out of the folder")
    return True


def place_in(root: Path, file: Path) -> str:
    """Where a file lies, as seen from the data's own folder; its name where it is the data."""
    return file.relative_to(root).as_posix() if file != root else file.name


def as_targets(
    parts: Mapping[str, Gathered[Item]], task: TaskName, where: str
) -> tuple[tuple[str, ...], dict[str, Tensor]]:
    """The classes in their order, and each part's targets: (N,) int64 or, where numbers are predicted, (N, 1) float32.

    Classes that are whole numbers come in the order of these. Raises DataError where there is nothing to learn.
    """
    for name, part in parts.items():
        if not part.items:
            which = "" if name == "all" else f" in its {name} part"
            raise DataError(where, f"has no sample that can be used{which}{_left_out(part)}", "Check the files.")
    if task == "regression":
        numbers = {name: [float(label) for label in part.labels] for name, part in parts.items()}
        return (), {name: torch.from_numpy(filled(each, np.float32)).unsqueeze(1) for name, each in numbers.items()}
    main = parts["all" if "all" in parts else "train"]
    classes = sorted(different(main.labels))
    if all(_is_whole(name) for name in classes):
        classes.sort(key=int)
    _check_classes(classes, main, where)
    number_of = {name: number for number, name in enumerate(classes)}
    for part in parts.values():
        for label, place in zip(part.labels, part.places, strict=True):
            if label not in number_of:
                what = f"is of class '{_short(label)}', which no training sample has"
                raise DataError(f"{where}: {place}", what, f"The classes are {_listed(classes)}. Move or remove it.")
    return tuple(classes), {
        name: torch.from_numpy(filled([number_of[label] for label in part.labels], np.int64))
        for name, part in parts.items()
    }


def _check_classes(classes: Sequence[str], part: Gathered[Item], where: str) -> None:
    samples = len(part.items)
    if len(classes) == 1:
        what = f"has one class only, '{_short(classes[0])}'{_left_out(part)}"
        raise DataError(where, what, "A class is a folder, a file, or a value of the label column: give it two.")
    if len(classes) == samples > 2:
        numbers = all(_is_number(name) for name in classes)
        remedy = 'Set task = "regression".' if numbers else "Name another column in options.label."
        raise DataError(where, f"has another class for each of its {samples} samples", remedy)


def _left_out(part: Gathered[Item]) -> str:
    """What became of samples that are missed."""
    more = f" (and {len(part.bad) - 1} more)" if len(part.bad) > 1 else ""
    return f"; left out: {part.bad[0]}{more}" if part.bad else ""


def _part(entry: Path, suffixes: Collection[str]) -> str:
    name = entry.name.lower()
    if entry.is_file():
        if entry.suffix.lower() not in suffixes:
            return ""
        name = name.removesuffix(entry.suffix.lower()).partition("-")[0]
    return PARTS.get(name, "")


def _is_number(text: str) -> bool:
    try:
        return abs(float(text)) < _GREATEST  # which NaN is not, either
    except ValueError:
        return False


def _is_whole(text: str) -> bool:
    return text.removeprefix("-").isdecimal() and text.isascii() and len(text) < 19


def _column(values: Sequence[object]) -> np.ndarray | None:
    texts = ["" if value is None else str(value) for value in values]
    if any(len(text) > _LONGEST_CELL for text in texts):
        return None
    try:
        return filled([float(text) for text in texts], np.float64)
    except ValueError:
        return filled(texts, f"<U{max(map(len, texts)) or 1}")


def _listed(classes: Sequence[str]) -> str:
    return ", ".join(map(_short, classes[:8])) + (", …" if len(classes) > 8 else "")


def _short(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:39]}…"
