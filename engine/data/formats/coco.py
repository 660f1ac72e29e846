"""COCO's JSON: pictures with boxes around the things in them. It is read whole; pictures are decoded when asked for.

Detection can't be trained yet: samples are opened, checked and looked at.
"""

# N pictures · M boxes of one picture · T boxes of all · C channels · H height · W width

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from engine.data.pictures.annotations import Table, categories, read_json, table
from engine.data.pictures.decoding import Channels, Fit, Frame, decoded
from engine.data.pictures.framing import MAX_PIXELS, frame_of
from engine.data.pictures.names import Names
from engine.data.pictures.scanning import scan
from engine.data.samples import BadSample, Columns, Loaded, Progress
from engine.data.sources import Source
from engine.errors import DataError
from engine.recipe import TaskName

_PARTS = (("train", "train"), ("val", "val"), ("test", "test"))


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
    read = {part: read_json(file, progress) for part, file in files.items()}
    first = next(iter(read.values()))
    classes = categories(next(iter(files.values())), first)
    numbers = {number: position for position, number in enumerate(classes)}
    tables: dict[str, Table] = {}
    for part, file in files.items():
        if {number: name for number, name in categories(file, read[part]).items() if classes.get(number) != name}:
            raise DataError(
                str(file), "has other categories than the file it is trained on", "Give both the same ones."
            )
        tables[part] = table(file, read[part], numbers, images, progress, bad, crowds=crowds)
    frame, unreadable = frame_of(
        [each.names for each in tables.values()],
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
        part: _dataset(each.without(broken), frame)
        for (part, each), broken in zip(tables.items(), unreadable, strict=True)
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


def _dataset(table: Table, frame: Frame) -> Annotated:
    rows = np.concatenate([np.empty((0, 5)), *table.boxes])
    starts = np.concatenate(([0], np.cumsum([len(each) for each in table.boxes]))).astype(np.int64)
    return Annotated(table.names, table.sizes, _Boxes(starts, rows[:, :4], rows[:, 4].astype(np.int64)), frame)


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
