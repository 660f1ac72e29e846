"""Pictures in a folder for each class; in train, val and test folders of these; or in any folder, with a CSV of labels.

Only names are read here, and the headers of some pictures; each picture is decoded when a batch needs it.
"""

# N samples · C channels · H height · W width · F folders

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from engine.data.pictures.decoding import Channels, Fit, Frame, decoded
from engine.data.pictures.framing import MAX_PIXELS, frame_of
from engine.data.pictures.labels import TABLES, find_labels, labelled
from engine.data.pictures.names import Names, part_called, shown
from engine.data.pictures.scanning import Scan, scan
from engine.data.reading.decoding import check_encoding
from engine.data.samples import BadSample, Columns, Loaded, Progress
from engine.data.sources import Source
from engine.errors import DataError
from engine.recipe import TaskName


class Pictures:
    """Pictures that are decoded when they are asked for; `[i]` gives bytes (C, H, W) and the target."""

    def __init__(self, names: Names, targets: Tensor, frame: Frame, columns: Columns) -> None:
        self.places, self.targets, self.columns = names, targets, columns
        self._frame = frame

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        picture = decoded(self.places.path(index), self.places[index], self._frame).pixels
        return torch.from_numpy(picture), self.targets[index]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "columns": {}}  # a worker groups nothing

    @property
    def sample_bytes(self) -> int:
        return self._frame.channels * self._frame.height * self._frame.width + self.targets[0].nbytes


def open_images(
    path: Path,
    task: TaskName,
    progress: Progress,
    *,
    size: int | tuple[int, int] = 0,
    fit: Fit = "crop",
    channels: Channels = "auto",
    labels: str = "",
    file_column: str = "",
    label_column: str | tuple[str, ...] = "",
    encoding: str = "utf-8",
    max_pixels: int = MAX_PIXELS,
    verify: bool = False,
) -> Loaded:
    """Pictures in folders.

    Args:
        size: the side of a picture in pixels, or [height, width]; 0 is their own where all are alike and no larger than
            1024, else 224.
        fit: how they are brought to that size: crop (the shorter side is made to fit, and the middle taken), pad (the
            longer side is made to fit, the rest is black), stretch.
        channels: grey, rgb, or auto: grey where none of those looked at has colours.
        labels: the CSV of labels, in the folder or beside it; empty finds the only one.
        file_column: its column of file names; empty finds it.
        label_column: its column of labels, or a list of columns of numbers to predict; empty finds it.
        encoding: that of the CSV, such as "cp1252".
        max_pixels: a picture of more pixels is bad; its size is read before it is decoded.
        verify: look at the header of every picture when the folder is first opened, to list bad ones before training.

    Raises:
        DataError, RecipeError: there is nothing to learn from in the folder, or an option makes no sense.
    """
    where = f"data.path: {path}"
    check_encoding(encoding)
    if not path.is_dir():
        raise DataError(where, "is no folder of pictures", "Name the folder; a CSV of labels is options.labels.")
    found = scan(path, progress)
    if not len(found.names):
        raise DataError(where, f"has no picture{_passed_over(found)}", "Check the path.")
    wanted = (label_column,) if isinstance(label_column, str) and label_column else tuple(label_column)
    parts: Mapping[str, _Part]
    if labels or task == "regression" or _by_table(found, _folders_in(found, b"")):
        file = find_labels(path, labels, found.others.get(b"", ()))
        parts, classes, bad = _from_table(file, found, task, file_column, wanted, encoding, progress)
    else:
        parts, classes, bad = _from_folders(found, where)
    frame, unreadable = frame_of(
        [part.names for part in parts.values()],
        size=size,
        fit=fit,
        channels=channels,
        max_pixels=max_pixels,
        verify=verify,
        progress=progress,
        where=where,
    )
    made = {
        name: part.without(broken).pictures(frame)
        for (name, part), broken in zip(parts.items(), unreadable, strict=True)
    }
    empty = [name for name, part in made.items() if not len(part)]
    if empty:
        raise DataError(where, f"no picture of {' and '.join(empty)} can be read", "Look at the files.")
    outputs = next(iter(made.values())).targets.shape[1] if task == "regression" else len(classes)
    source = Source(
        name=path.resolve().name,
        about=f"{sum(map(len, made.values())):,} pictures in {path}{_passed_over(found)}",
        task="regression" if task == "regression" else "classification",
        shape=(frame.channels, frame.height, frame.width),
        outputs=outputs,
        sizes={name: len(part) for name, part in made.items()},
        origin="yours",
        classes=classes,
        path=str(path),
    )
    return Loaded(source, made, [*found.left_out, *bad, *(error for each in unreadable for error in each.values())])


class _Part:
    """The pictures of one part with their targets, of which some may be left out."""

    def __init__(self, names: Names, targets: Tensor, columns: Columns) -> None:
        self.names, self.targets, self.columns = names, targets, columns

    def without(self, broken: Mapping[int, BadSample]) -> _Part:
        if not broken:
            return self
        kept = np.setdiff1d(np.arange(len(self.names)), list(broken))
        columns = {name: values[kept] for name, values in self.columns.items()}
        return _Part(self.names.take(kept), self.targets[torch.from_numpy(kept)], columns)

    def pictures(self, frame: Frame) -> Pictures:
        return Pictures(self.names, self.targets, frame, self.columns)


_Found = tuple[Mapping[str, _Part], tuple[str, ...], list[BadSample]]
"""Parts, classes, and what is wrong."""


def _from_table(
    file: Path,
    found: Scan,
    task: TaskName,
    file_column: str,
    label_columns: Sequence[str],
    encoding: str,
    progress: Progress,
) -> _Found:
    rows = labelled(file, found.names, task, file_column, label_columns, encoding, progress)
    names = found.names.take(rows.numbers)
    if isinstance(rows.labels, np.ndarray):
        targets = torch.from_numpy(rows.labels).float()
        return {"all": _Part(names, targets, rows.columns)}, (), list(rows.bad)
    classes, numbers = np.unique(rows.labels, return_inverse=True)
    part = _Part(names, torch.from_numpy(numbers).long(), rows.columns)
    return {"all": part}, tuple(map(str, classes)), list(rows.bad)


def _from_folders(found: Scan, where: str) -> _Found:
    """A folder is a class; where there are train and val or test folders, the folders in each of them are."""
    top = _folders_in(found, b"")
    bad: list[BadSample] = []
    parts = _parts(found, top)
    given = list(parts.values())
    if not parts:
        classes = [_Class(folder, os.path.basename(folder)) for folder in top]
        if len(classes) == 1:
            what = f"has one folder of pictures, '{shown(top[0])}': there is nothing to tell apart"
            raise DataError(where, what, "Name the folder that has a folder for each class.")
        bad.extend(_empty(found, b""))
        return {"all": _of_classes(found, b"", classes, classes, bad)}, _named(classes), bad
    if twice := [name for name in set(given) if given.count(name) > 1]:
        raise DataError(where, f"has several folders for '{twice[0]}'", "Keep one of them.")
    ours = {part: folder for folder, part in parts.items()}
    classes = [_Class(folder, os.path.basename(folder)) for folder in _folders_in(found, ours["train"])]
    if len(classes) < 2:
        what = f"has {len(classes)} folders with pictures: there is nothing to tell apart"
        raise DataError(f"{where}/{shown(ours['train'])}", what, "Give it a folder for each class.")
    beside = sorted(set(top) - set(parts))
    bad.extend(BadSample(shown(folder), "is beside the train folder, and no part of the data") for folder in beside)
    made: dict[str, _Part] = {}
    for part in ("train", "val", "test"):
        if part not in ours:
            continue
        bad.extend(_empty(found, ours[part]))
        here = [_Class(folder, os.path.basename(folder)) for folder in _folders_in(found, ours[part])]
        if strange := {each.name for each in here} - {each.name for each in classes}:
            what = f"is a class that {shown(ours['train'])} does not have"
            raise DataError(f"{where}/{shown(ours[part])}/{shown(min(strange))}", what, "Rename, move or remove it.")
        chosen = _of_classes(found, ours[part], here, classes, bad)
        if len(chosen.names):
            made[part] = chosen
    return made, _named(classes), bad


class _Class:
    """A folder, and the name of the class that it holds."""

    def __init__(self, folder: bytes, name: bytes) -> None:
        self.folder, self.name = folder, name


def _named(classes: Sequence[_Class]) -> tuple[str, ...]:
    return tuple(shown(each.name) for each in classes)


def _of_classes(
    found: Scan, base: bytes, here: Sequence[_Class], classes: Sequence[_Class], bad: list[BadSample]
) -> _Part:
    """The pictures in the class folders `here`, which lie in `base`, or anywhere in them."""
    numbers = {each.name: number for number, each in enumerate(classes)}
    of_folder = {each.folder: numbers[each.name] for each in here}
    names = found.names
    depth = _depth(base)
    tops = [b"/".join(folder.split(b"/")[: depth + 1]) for folder in names.folders]
    class_of = np.array([of_folder.get(top, -1) for top in tops])  # (F,)
    targets = class_of[names.folder_of]  # (N,)
    loose = np.flatnonzero(names.folder_of == names.folders.index(base))
    if len(loose):
        what = f"{len(loose)} pictures lie in no class folder, such as {names[int(loose[0])]}: they are left out"
        bad.append(BadSample(shown(base) or ".", what))
    kept = np.flatnonzero(targets >= 0)
    columns: dict[str, np.ndarray] = {}
    if any(top != folder for top, folder in zip(tops, names.folders, strict=True) if top in of_folder):
        columns["folder"] = np.array([shown(folder) for folder in names.folders])[names.folder_of[kept]]
    return _Part(names.take(kept), torch.from_numpy(targets[kept]).long(), columns)


def _parts(found: Scan, top: Sequence[bytes]) -> dict[bytes, str]:
    """Which folders hold a part of the data each. A folder `train` alone may be full of locomotives."""
    parts = {folder: part for folder in top if (part := part_called(folder))}
    if "train" not in parts.values():
        return {}
    alone = len(parts) == 1 and (len(top) > 1 or not _folders_in(found, top[0]))
    return {} if alone else parts


def _by_table(found: Scan, top: Sequence[bytes]) -> bool:
    """Whether no folders are classes: there are none, or one beside a table."""
    if len(top) != 1 or _folders_in(found, top[0]):
        return not top
    return any(name.lower().endswith(TABLES) for name in found.others.get(b"", ()))


def _folders_in(found: Scan, base: bytes) -> list[bytes]:
    """The folders directly in `base` that have pictures in them, at any depth, in the order of their names."""
    names = found.names
    depth = _depth(base)
    filled = (names.folders[number].split(b"/") for number in np.unique(names.folder_of).tolist())
    tops = {b"/".join(way[: depth + 1]) for way in filled if len(way) > depth}
    return [each for each in found.below(base) if each in tops]


def _depth(folder: bytes) -> int:
    return folder.count(b"/") + 1 if folder else 0


def _empty(found: Scan, base: bytes) -> list[BadSample]:
    without = set(found.below(base)) - set(_folders_in(found, base))
    return [BadSample(shown(folder), "is a folder without a picture: it is no class") for folder in sorted(without)]


def _passed_over(found: Scan) -> str:
    """`; 3 other files and 1 hidden one passed over`, for a sentence."""
    counts = [(found.others_count, "that are no pictures"), (found.hidden, "hidden")]
    said = [f"{count:,} files {what}" for count, what in counts if count]
    return f"; passed over: {', '.join(said)}" if said else ""
