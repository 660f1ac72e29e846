"""Pictures with boxes around the things in them: which boxes make sense, where they lie in a picture as it is shown."""

# N pictures · M boxes of one picture · T boxes of all · C channels · H height · W width

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from engine.data.pictures.decoding import Frame, decoded
from engine.data.pictures.names import Names
from engine.data.samples import BadSample, Columns

_OUTSIDE = 1.0  # pixels by which boxes may reach out of a picture: many tools round so


@dataclass(frozen=True)
class Table:
    """Pictures that are there, their sizes (N, 2) as width and height, 0 where that is not known, and their boxes."""

    names: Names
    sizes: np.ndarray
    boxes: Sequence[np.ndarray]
    """For each picture (M, 5): corners and class."""

    @classmethod
    def of(cls, names: Names, sizes: Sequence[tuple[int, int]], boxes: Sequence[Sequence[Sequence[float]]]) -> Table:
        rows = [np.array(each, dtype=np.float64).reshape(-1, 5) for each in boxes]
        return cls(names, np.array(sizes, dtype=np.int64).reshape(-1, 2), rows)

    def without(self, broken: Mapping[int, BadSample]) -> Table:
        kept = [number for number in range(len(self.names)) if number not in broken]
        chosen = np.array(kept, dtype=np.int64)
        return Table(self.names.take(chosen), self.sizes[chosen], [self.boxes[number] for number in kept])


class Annotated:
    """Pictures with boxes. `[i]` gives bytes (C, H, W) and how many boxes there are, `annotated(i)` the boxes too."""

    def __init__(self, table: Table, frame: Frame) -> None:
        self.places, self._sizes, self._frame = table.names, table.sizes, frame
        # Those of picture `i` are rows `starts[i]` to `starts[i + 1]` of corners (T, 4), xyxy, and labels (T,).
        rows = np.concatenate([np.empty((0, 5)), *table.boxes])
        counts = [len(each) for each in table.boxes]
        self._starts = np.concatenate(([0], np.cumsum(counts))).astype(np.int64)
        self._corners, self._labels = rows[:, :4], rows[:, 4].astype(np.int64)
        self.targets = torch.tensor(counts, dtype=torch.long)
        self.columns: Columns = {}

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.annotated(index)[0], self.targets[index]

    def annotated(self, index: int) -> tuple[Tensor, Tensor, Tensor]:
        """Bytes (C, H, W), boxes (M, 4) as left, top, right, bottom in pixels of these, and their classes (M,).

        Boxes outside of a picture that was cropped are left out. Raises BadSample.
        """
        width, height = self._sizes[index].tolist()
        picture = decoded(self.places.path(index), self.places[index], self._frame, (width, height))
        if width and (picture.width, picture.height) != (width, height):
            what = f"is {picture.width}×{picture.height}, its boxes are for {width}×{height}"
            raise BadSample(self.places[index], what)
        to = self._frame.place(picture.width, picture.height)
        rows = slice(int(self._starts[index]), int(self._starts[index + 1]))
        left, top, right, bottom = to.box
        scale = np.array([to.width / (right - left), to.height / (bottom - top)] * 2)
        moved = (self._corners[rows] - [left, top] * 2) * scale + [to.left, to.top] * 2
        least, most = [to.left, to.top] * 2, [to.left + to.width, to.top + to.height] * 2
        moved = moved.clip(least, most)
        seen = (moved[:, 2] > moved[:, 0]) & (moved[:, 3] > moved[:, 1])
        pixels, boxes = torch.from_numpy(picture.pixels), torch.from_numpy(moved[seen]).float()
        return pixels, boxes, torch.from_numpy(self._labels[rows][seen]).long()

    @property
    def marks(self) -> tuple[Tensor, Tensor]:
        """The picture of each box (T,), and its class (T,)."""
        return torch.repeat_interleave(torch.arange(len(self)), self.targets), torch.from_numpy(self._labels)

    @property
    def sample_bytes(self) -> int:
        return self._frame.channels * self._frame.height * self._frame.width + 8


def within(corners: Sequence[float], size: tuple[int, int], said: Any) -> tuple[tuple[float, ...], str]:
    """Left, top, right, bottom inside of a picture of this size, () if nothing is; and what is wrong with them.

    `size` is (0, 0) where it is not known, `said` is the box as its file has it.
    """
    left, top, right, bottom = corners
    if right <= left or bottom <= top:
        return (), f"has a box without area: {said}"
    if size == (0, 0):
        return (left, top, right, bottom), ""
    inside = tuple(min(max(each, 0.0), float(limit)) for each, limit in zip(corners, size * 2, strict=True))
    reach = max(abs(a - b) for a, b in zip(corners, inside, strict=True))
    picture = f"its picture of {size[0]}×{size[1]}: {said}"
    if inside[2] <= inside[0] or inside[3] <= inside[1]:
        return (), f"has a box outside of {picture}"
    return inside, f"has a box that leaves {picture} is cut" if reach > _OUTSIDE else ""
