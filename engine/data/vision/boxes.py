"""torchvision's datasets of boxes: its classes find the files and read what is marked, ours judge and show it."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Any, NamedTuple

from torchvision.datasets import voc

from engine.data.pictures.boxes import Annotated, Table, within
from engine.data.pictures.decoding import Frame, opened
from engine.data.pictures.framing import MAX_PIXELS
from engine.data.pictures.names import Names
from engine.data.samples import BadSample, Loaded, Progress
from engine.data.sources import Source
from engine.data.vision.table import Row
from engine.errors import DataError, first_line

# What reading a file raises that is missing, cut short or says something else; XML's errors are syntax errors.
_UNREADABLE = (OSError, SyntaxError, ValueError, KeyError, IndexError, TypeError)
_TOLD_EVERY = 100  # pictures


class _Thing(NamedTuple):
    """A box as left, top, right and bottom in pixels. `aside` is why it is left out, unless `keep_…` says otherwise."""

    kind: str
    corners: Sequence[float]
    aside: str = ""


class _Marked(NamedTuple):
    """What is marked in a picture, and its width and height, 0 where that is not said."""

    things: Sequence[_Thing]
    size: tuple[int, int] = (0, 0)


def with_boxes(
    found: Mapping[str, Any], row: Row, source: Source, options: Mapping[str, Any], progress: Progress
) -> Loaded:
    """Pictures with boxes of each part that torchvision has opened.

    Boxes that make no sense and pictures that can't be opened are listed as bad. Raises DataError if there is none.
    """
    channels, height, width = source.shape
    frame = Frame(channels, height, width, options["fit"], MAX_PIXELS)
    reading = _Reading(row, frozenset(name for name, value in options.items() if value is True), progress)
    parts = {part: Annotated(reading.table(dataset), frame) for part, dataset in found.items()}
    sizes = {part: len(samples) for part, samples in parts.items()}
    boxes = sum(int(samples.targets.sum()) for samples in parts.values())
    aside = "".join(f"; left out: {count:,} {why.replace('_', ' ')}" for why, count in reading.aside.items())
    about = f"{source.about} Here: {sum(sizes.values()):,} pictures with {boxes:,} boxes{aside}."
    return Loaded(replace(source, about=about, sizes=sizes), parts, reading.bad)


@dataclass
class _Reading:
    """Reads parts of a dataset; what is `bad` in them, and how many boxes were left `aside`, by the reason."""

    row: Row
    options: frozenset[str]
    progress: Progress
    bad: list[BadSample] = field(default_factory=list)
    aside: Counter[str] = field(default_factory=Counter)

    def table(self, dataset: Any) -> Table:
        """Pictures in the order of their names, whatever order the disk lists them in. Raises DataError."""
        root, name, before = f"{dataset.root}/", self.row.name, len(self.bad)
        found: dict[bytes, tuple[tuple[int, int], list[tuple[float, ...]]]] = {}
        for number in range(len(dataset)):
            if number % _TOLD_EVERY == 0:
                self.progress(f"boxes of {name}", number, len(dataset))
            file = _file(dataset, number)
            place = file.removeprefix(root)
            try:
                marked = _READERS[name](dataset, number)
                size = marked.size if any(marked.size) and os.path.exists(file) else _size(file, place)
            except BadSample as error:
                self.bad.append(error)
            except _UNREADABLE as error:
                self.bad.append(BadSample(place, f"has boxes that can't be read: {_said(error)}"))
            else:
                found[os.fsencode(place)] = size, self._boxes(marked, size, place)
        if not found:
            first = f", the first of them: {self.bad[before]}" if len(dataset) else ""
            what = f"none of {len(dataset)} pictures can be read{first}"
            raise DataError(f"data.name: {name}", what, f"Remove the dataset from {dataset.root} to fetch it anew.")
        order = sorted(found, key=os.path.split)
        folders = groupby(order, os.path.dirname)
        listed = [(folder, [os.path.basename(file) for file in files]) for folder, files in folders]
        names = [(folder, b"".join(file + b"\0" for file in files), len(files)) for folder, files in listed]
        sizes, boxes = zip(*(found[file] for file in order), strict=True)
        return Table.of(Names.of(os.fsencode(root), names), sizes, boxes)

    def _boxes(self, marked: _Marked, size: tuple[int, int], place: str) -> list[tuple[float, ...]]:
        """Corners and class of those that are kept and make sense."""
        found = []
        for number, thing in enumerate(marked.things, 1):
            if thing.aside and f"keep_{thing.aside}" not in self.options:
                self.aside[thing.aside] += 1
                continue
            said = [round(corner, 2) for corner in thing.corners]
            corners, why = within(thing.corners, size, said)
            if corners and thing.kind not in self.row.classes:
                corners, why = (), f"is a {thing.kind}, which is none of the classes"
            if why:
                self.bad.append(BadSample(f"{place} box {number}", why))
            if corners:
                found.append((*corners, self.row.classes.index(thing.kind)))
        return found


def _file(dataset: Any, number: int) -> str:
    """Where a picture lies."""
    return str(dataset.images[number] if hasattr(dataset, "images") else dataset.img_info[number]["img_path"])


def _size(file: str, place: str) -> tuple[int, int]:
    """Width and height of a picture as it lies in its file: so boxes are marked. Raises BadSample."""
    with opened(os.fsencode(file), place, MAX_PIXELS) as image:
        width, height = image.size
        return width, height


def _said(error: BaseException) -> str:
    if isinstance(error, OSError) and error.filename:
        return f"{os.path.basename(error.filename)}: {error.strerror}"
    if isinstance(error, IndexError):
        return "a line of them is cut short"
    return f"no {error}" if isinstance(error, KeyError) else first_line(error)


def _voc(dataset: Any, number: int) -> _Marked:
    """Its pixels are counted from 1, and the last belongs to the box: 1 to 500 is all of a picture 500 wide."""
    told = dataset.parse_voc_xml(voc.ET_parse(dataset.annotations[number]).getroot())["annotation"]
    things = []
    for each in told["object"]:
        left, top, right, bottom = (float(each["bndbox"][side]) for side in ("xmin", "ymin", "xmax", "ymax"))
        aside = "difficult" if each.get("difficult") == "1" else ""
        things.append(_Thing(each["name"], (left - 1, top - 1, right, bottom), aside))
    size = told.get("size", {})
    return _Marked(things, (int(size.get("width", 0)), int(size.get("height", 0))))


def _kitti(dataset: Any, number: int) -> _Marked:
    """DontCare are regions whose things, far away, were not marked one by one."""
    told = dataset._parse_target(number)
    return _Marked(
        [_Thing(each["type"], each["bbox"], "dont_care" if each["type"] == "DontCare" else "") for each in told]
    )


def _faces(dataset: Any, number: int) -> _Marked:
    """A picture without a face has a line of noughts."""
    told = dataset.img_info[number]["annotations"]
    lines = zip(told["bbox"].tolist(), told["invalid"].tolist(), strict=True)
    return _Marked(
        [
            _Thing("face", (left, top, left + width, top + height), "invalid" if invalid else "")
            for (left, top, width, height), invalid in lines
            if any((left, top, width, height))
        ]
    )


_READERS: Mapping[str, Callable[[Any, int], _Marked]] = {
    "VOCDetection": _voc,
    "Kitti": _kitti,
    "WIDERFace": _faces,
}
