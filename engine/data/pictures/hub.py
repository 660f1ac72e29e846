"""Pictures that lie in the tables of Hugging Face."""

# C channels · H height · W width

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from engine.data.pictures.decoding import Fit
from engine.data.pictures.given import as_picture
from engine.data.samples import BadSample, Columns
from engine.errors import first_line


class HubPictures:
    """Pictures of a dataset of Hugging Face, decoded when they are asked for: bytes (C, H, W), and the target."""

    def __init__(
        self, split: Any, column: str, targets: Tensor, shape: tuple[int, int, int], fit: Fit, places: Sequence[str]
    ) -> None:
        self._pictures, self._column = split.select_columns([column]), column
        self._shape, self._fit = shape, fit
        self.targets = targets
        self.places = places
        self.columns: Columns = {}

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        channels, height, width = self._shape
        try:
            image = self._pictures[index][self._column]
            picture = as_picture(image, (height, width), self._fit, "grey" if channels == 1 else "rgb")
        except MemoryError:
            raise
        except Exception as error:  # a damaged picture makes Pillow raise anything
            raise BadSample(self.places[index], f"can't be read: {first_line(error)}") from error
        return picture, self.targets[index]

    @property
    def sample_bytes(self) -> int:
        return math.prod(self._shape) + self.targets[:1].nbytes
