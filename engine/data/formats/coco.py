"""COCO's JSON: pictures with boxes around the things in them. It is read whole; pictures are decoded when asked for.

Detection can't be trained yet: samples are opened, checked and looked at.
"""

# N pictures · M boxes of one picture · T boxes of all · C channels · H height · W width

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from engine.data.pictures.decoding import Channels, Fit, Frame, decoded
from engine.data.pictures.framing import MAX_PIXELS, frame_of
from engine.data.pictures.names import Names, shown
from engine.data.pictures.scanning import Scan, scan
from engine.data.samples import BadSample, Columns, Loaded, Progress
from engine.data.sources import Source
from engine.errors import DataError, first_line
from engine.recipe import TaskName

_PARTS = (("train", "train"), ("val", "val"), ("test", "test"))
_OUTSIDE = 1.0  # pixels by which boxes may reach out of a picture: many tools round so


@dataclass(frozen=True)
class _Boxes:
    """Those of picture `i` are rows `starts[i]` to `starts[i + 1]` of `corners` (T, 4), xyxy, and `labels` (T,)."""

    starts: np.ndarray
    corners: np.ndarray
    labels: np.ndarray

    def of(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        rows = slice(int(self.starts[index]), int(self.starts[index + 1]))
        return self.corners[rows], self.labels[rows]


class Annotated:
    """Pictures with boxes. `[i]` gives bytes (C, H, W) and how many boxes there are, `annotated(i)` the boxes too."""

    def __init__(self, names: Names, sizes: np.ndarray, boxes: _Boxes, frame: Frame) -> None:
        self.places, self._sizes, self._boxes, self._frame = names, sizes, boxes, frame
        self.targets = torch.from_numpy(np.diff(boxes.starts)).long()
        self.columns: Columns = {}

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.annotated(index)[0], self.targets[index]

    def annotated(self, index: int) -> tuple[Tensor, Tensor, Tensor]:
        """Bytes (C, H, W), boxes (M, 4) as left, top, right, bottom in pixels of these, and their classes (M,).

        Boxes outside of a picture that was cropped are left out. Raises BadSample.
        """
        width, height = self._sizes[index].tolist()  # 0 where the file does not say it
        picture = decoded(self.places.path(index), self.places[index], self._frame, (width, height))
        if width and (picture.width, picture.height) != (width, height):
            what = f"is {picture.width}×{picture.height}, its boxes are for {width}×{height}"
            raise BadSample(self.places[index], what)
        to = self._frame.place(picture.width, picture.height)
        corners, labels = self._boxes.of(index)
        left, top, right, bottom = to.box
        scale = np.array([to.width / (right - left), to.height / (bottom - top)] * 2)
        moved = (corners - [left, top] * 2) * scale + [to.left, to.top] * 2
        least, most = [to.left, to.top] * 2, [to.left + to.width, to.top + to.height] * 2
        moved = moved.clip(least, most)
        seen = (moved[:, 2] > moved[:, 0]) & (moved[:, 3] > moved[:, 1])
        pixels, boxes = torch.from_numpy(picture.pixels), torch.from_numpy(moved[seen]).float()
        return pixels, boxes, torch.from_numpy(labels[seen]).long()

    @property
    def sample_bytes(self) -> int:
        return self._frame.channels * self._frame.height * self._frame.width + 8


def open_coco(
    path: Path,
    task: TaskName,
    progress: Progress,
    *,
    images: str = "",
    size: int | tuple[int, int] = 0,
    fit: Fit = "pad",
    channels: Channels = "auto",
    crowds: bool = False,
    max_pixels: int = MAX_PIXELS,
    verify: bool = False,
) -> Loaded:
    """Pictures with boxes, annotated in a JSON file of COCO's kind; or a folder with one such file for each part.

    Args:
        images: the folder of the pictures, as seen from the file's own; empty finds it.
        size: the side of a picture in pixels, or [height, width]; 0 is their own where all are alike and no larger than
            1024, else 224.
        fit: how they are brought to that size: pad (the longer side is made to fit, the rest is black), crop (the
            shorter side is made to fit, and the middle taken), stretch.
        channels: grey, rgb, or auto: grey where none of those looked at has colours.
        crowds: keep boxes around crowds of things that are not told apart.
        max_pixels: a picture of more pixels is bad; its size is read before it is decoded.
        verify: look at the header of every picture when the folder is first opened, to list bad ones before training.

    Raises:
        DataError, RecipeError: the file is not of this kind, or an option makes no sense.
    """
    where = f"data.path: {path}"
    files = {"all": path} if path.is_file() else _files(path, progress, where)
    bad: list[BadSample] = []
    read = {part: _read(file, progress) for part, file in files.items()}
    first = next(iter(read.values()))
    classes = _classes(next(iter(files.values())), first)
    numbers = {number: position for position, number in enumerate(classes)}
    tables: dict[str, _Table] = {}
    for part, file in files.items():
        if {number: name for number, name in _classes(file, read[part]).items() if classes.get(number) != name}:
            raise DataError(str(file), "has other categories than the file it is trained on", "Give both the same ones.")
        tables[part] = _table(file, read[part], numbers, images, progress, bad, crowds=crowds)
    frame, unreadable = frame_of(
        [table.names for table in tables.values()],
        size=size,
        fit=fit,
        channels=channels,
        max_pixels=max_pixels,
        verify=verify,
        progress=progress,
        where=where,
    )
    bad.extend(error for each in unreadable for error in each.values())
    parts = {
        part: table.without(broken).dataset(frame)
        for (part, table), broken in zip(tables.items(), unreadable, strict=True)
    }
    boxes = sum(int(part.targets.sum()) for part in parts.values())
    source = Source(
        name=path.resolve().stem,
        about=f"{sum(map(len, parts.values())):,} pictures with {boxes:,} boxes from {path}",
        task="detection",
        shape=(frame.channels, frame.height, frame.width),
        outputs=len(classes),
        sizes={name: len(part) for name, part in parts.items()},
        origin="yours",
        classes=tuple(classes.values()),
        path=str(path),
    )
    return Loaded(source, parts, bad)


@dataclass(frozen=True)
class _Table:
    """One file's pictures that are there, their sizes (N, 2) as width and height, and the boxes in them."""

    names: Names
    sizes: np.ndarray
    boxes: Sequence[np.ndarray]
    """For each picture (M, 5): corners and class."""

    def without(self, broken: Mapping[int, BadSample]) -> _Table:
        kept = [number for number in range(len(self.names)) if number not in broken]
        chosen = np.array(kept, dtype=np.int64)
        return _Table(self.names.take(chosen), self.sizes[chosen], [self.boxes[number] for number in kept])

    def dataset(self, frame: Frame) -> Annotated:
        rows = np.concatenate([np.empty((0, 5)), *self.boxes])
        starts = np.concatenate(([0], np.cumsum([len(each) for each in self.boxes]))).astype(np.int64)
        return Annotated(self.names, self.sizes, _Boxes(starts, rows[:, :4], rows[:, 4].astype(np.int64)), frame)


def _files(folder: Path, progress: Progress, where: str) -> dict[str, Path]:
    """The JSON file of each part in a folder, by their names or those of their folders. Raises DataError."""
    found = scan(folder, progress)
    files = [
        folder / os.fsdecode(os.path.join(base, name))
        for base, names in found.others.items()
        for name in names
        if name.lower().endswith(b".json") and b"/" not in base
    ]
    boxes = [file for file in files if not file.name.startswith(("captions", "person_keypoints"))]
    if len(boxes) == 1:
        return {"all": boxes[0]}
    parts: dict[str, list[Path]] = {}
    for file in boxes:
        said = f"{file.parent.name}/{file.stem}".lower()
        for word, part in _PARTS:
            if word in said:
                parts.setdefault(part, []).append(file)
                break
    if "train" in parts and all(len(each) == 1 for each in parts.values()):
        return {part: parts[part][0] for _, part in _PARTS if part in parts}
    names = ", ".join(str(file.relative_to(folder)) for file in sorted(boxes)) or "none"
    raise DataError(where, f"does not tell which JSON file to read: {names}", "Name one file.")


def _read(file: Path, progress: Progress) -> Mapping[str, Any]:
    """The JSON, with its three lists there. Raises DataError."""
    progress(f"reading {file.name}", 0, 0)
    try:
        found = json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        raise DataError(str(file), f"is no JSON: {first_line(error)}", "Check how it was made.") from error
    missing = [key for key in ("images", "annotations", "categories") if not _is_list(found, key)]
    if missing:
        what = f"is not of COCO's kind: it has no list of {' and '.join(missing)}"
        raise DataError(str(file), what, "Export the boxes as COCO, or name another file.")
    return found  # type: ignore[no-any-return]


def _is_list(found: Any, key: str) -> bool:
    return isinstance(found, dict) and isinstance(found.get(key), list)


def _classes(file: Path, read: Mapping[str, Any]) -> dict[int, str]:
    """The name of each category by its number, which may leave gaps, in the order of the numbers. Raises DataError."""
    classes: dict[int, str] = {}
    for each in read["categories"]:
        number = each.get("id") if isinstance(each, dict) else None
        if not isinstance(number, int) or number in classes:
            raise DataError(str(file), f"has a category without a number of its own: {each}", "Give it an id.")
        classes[number] = str(each.get("name", number))
    if not classes:
        raise DataError(str(file), "has no categories", "Export it with them.")
    return dict(sorted(classes.items()))


def _table(
    file: Path,
    read: Mapping[str, Any],
    classes: Mapping[int, int],
    images: str,
    progress: Progress,
    bad: list[BadSample],
    *,
    crowds: bool,
) -> _Table:
    found, at = _pictures(file, read["images"], images, progress)
    sizes: list[tuple[int, int]] = []
    chosen: list[int] = []
    row_of: dict[Any, int] = {}
    absent: set[Any] = set()
    for position, image in enumerate(read["images"]):
        name, number = image.get("file_name"), image.get("id")
        if not isinstance(name, str) or not isinstance(number, (int, str)):
            bad.append(BadSample(f"{file.name} image {position}", "has no id or no file_name"))
        elif number in row_of or number in absent:
            bad.append(BadSample(f"{file.name} image {number}", "has the id of another picture"))
        elif (there := at.get(_key(name))) is None:
            absent.add(number)
            bad.append(BadSample(name, f"is no picture in {shown(found.names.root)}, but {file.name} has it"))
        else:
            row_of[number] = len(chosen)
            chosen.append(there)
            sizes.append(_size(image))
    if not chosen:
        raise DataError(str(file), "none of its pictures is there", "Say where they are: options.images.")
    boxes: list[list[tuple[float, ...]]] = [[] for _ in chosen]
    for position, each in enumerate(read["annotations"]):
        place = f"{file.name} annotation {each.get('id', position) if isinstance(each, dict) else position}"
        if not isinstance(each, dict):
            bad.append(BadSample(place, "is no annotation"))
            continue
        if each.get("image_id") in absent:
            continue  # its picture is told of
        row = row_of.get(each.get("image_id"))
        if row is None:
            bad.append(BadSample(place, f"is for the picture {each.get('image_id')}, which there is not"))
            continue
        place = f"{place} ({read_name(found.names, chosen[row])})"
        corners, why = _corners(each.get("bbox"), sizes[row])
        if corners and each.get("category_id") not in classes:
            corners, why = (), f"is of the category {each.get('category_id')}, which there is not"
        if corners and each.get("iscrowd") and not crowds:
            corners, why = (), "is a crowd, which is left out unless options.crowds says otherwise"
        if why:
            bad.append(BadSample(place, why))
        if corners:
            boxes[row].append((*corners, classes[each["category_id"]]))
    rows = [np.array(each, dtype=np.float64).reshape(-1, 5) for each in boxes]
    return _Table(found.names.take(np.array(chosen)), np.array(sizes, dtype=np.int64), rows)


def read_name(names: Names, number: int) -> str:
    """The picture's name without its folders."""
    return shown(names.name(number))


def _size(image: Mapping[str, Any]) -> tuple[int, int]:
    """Width and height as the file says, (0, 0) where it does not."""
    width, height = image.get("width"), image.get("height")
    known = isinstance(width, int) and isinstance(height, int) and width > 0 and height > 0
    return (width, height) if known else (0, 0)  # type: ignore[return-value]


def _corners(box: Any, size: tuple[int, int]) -> tuple[tuple[float, ...], str]:
    """Left, top, right, bottom of a `bbox` within its picture, () if there is none; and what is wrong with it."""
    if not isinstance(box, list) or len(box) != 4 or not all(_is_number(each) for each in box):
        return (), f"has no box of four numbers: {box}"
    left, top, width, height = map(float, box)
    if width <= 0 or height <= 0:
        return (), f"has a box without area: {box}"
    corners = (left, top, left + width, top + height)
    if size == (0, 0):
        return corners, ""
    limits = (*size, *size)
    inside = tuple(min(max(each, 0.0), float(limit)) for each, limit in zip(corners, limits, strict=True))
    reach = max(abs(a - b) for a, b in zip(corners, inside, strict=True))
    if inside[2] <= inside[0] or inside[3] <= inside[1]:
        return (), f"has a box outside of its picture of {size[0]}×{size[1]}: {box}"
    return inside, f"has a box that leaves its picture of {size[0]}×{size[1]}: {box} is cut" if reach > _OUTSIDE else ""


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _pictures(
    file: Path, images: Iterable[Any], given: str, progress: Progress
) -> tuple[Scan, dict[bytes, int]]:
    """The folder in which most of a file's first pictures lie, and the number of each file in it. Raises DataError."""
    if given:
        folders = [file.parent / given]
    else:
        ours = [file.parent, *(file.parent.parent / each for each in (file.stem.rpartition("_")[2], "images", "."))]
        folders = [each for each in (file.parent / "images", *ours) if each.is_dir()]
    wanted = [_key(each["file_name"]) for each in images if isinstance(each, dict) and isinstance(each.get("file_name"), str)]
    looked_for = wanted[:: max(1, len(wanted) // 50)]

    def there(folder: Path) -> int:
        return sum((folder / os.fsdecode(name)).is_file() for name in looked_for)

    best = max(folders, key=there)
    if not there(best):
        said = ", ".join(str(folder) for folder in folders)
        raise DataError(str(file), f"its pictures are not in {said}", "Say where they are: options.images.")
    found = scan(best, progress)
    return found, {found.names.relative(number): number for number in range(len(found.names))}


def _key(name: str) -> bytes:
    """A name in the file, relative to the folder of pictures."""
    return os.path.normpath(os.fsencode(name.replace("\\", "/")))
