"""Arrays as samples: pictures with their channels first, bytes as they are, other numbers as float32, or tokens."""

# N samples · C channels · H height · W width

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from engine.data.formats.ndarrays.pairs import shape_text
from engine.data.formats.tabular.cells import Places
from engine.data.samples import BadSample, Columns
from engine.errors import DataError

Layout = Literal["auto", "plain", "NHW", "NHWC", "NCHW"]
_CHANNELS = (1, 3, 4)
_LEAST_SIDE = 8  # of a picture whose pixels are no bytes


@dataclass(frozen=True)
class Form:
    """How arrays are made samples of: how pictures lie in them, and how many tokens there are (0: they are numbers)."""

    layout: Layout
    vocabulary: int

    def of(self, array: np.ndarray, where: str) -> Form:
        """The same with the layout that `array` (N, …) has. Raises DataError where it can't be told."""
        if self.vocabulary:
            return replace(self, layout="plain")
        if self.layout in ("NHW", "NHWC", "NCHW") and array.ndim != len(self.layout):
            what = f"is {shape_text(array)}, which is not {self.layout}"
            raise DataError(where, what, 'Set layout = "auto" in data.options.')
        return self if self.layout != "auto" else replace(self, layout=_layout(array, where))

    def ready(self, chunk: np.ndarray) -> np.ndarray:
        """A piece of the array as a model is to see it."""
        if self.vocabulary:
            return np.ascontiguousarray(chunk, dtype=np.int64)
        if self.layout == "NHW":
            chunk = chunk[:, None]
        elif self.layout == "NHWC":
            chunk = chunk.transpose(0, 3, 1, 2)
        with np.errstate(over="ignore"):  # `wrong` tells of those
            return np.ascontiguousarray(chunk, dtype=np.uint8 if chunk.dtype == np.uint8 else np.float32)

    def wrong(self, chunk: np.ndarray) -> np.ndarray:
        """(N,), how many values of each sample are no numbers that float32 has, or no tokens that there are."""
        flat = chunk.reshape(len(chunk), -1)
        if self.vocabulary:
            found: np.ndarray = ((flat < 0) | (flat >= self.vocabulary)).sum(1)
        elif chunk.dtype.kind != "f":
            found = np.zeros(len(chunk), dtype=np.int64)
        else:
            with np.errstate(over="ignore"):
                found = (~np.isfinite(flat.astype(np.float32, copy=False))).sum(1)
        return found

    def said(self, count: int, size: int) -> str:
        """What is wrong with a sample of `size` values, of which so many are wrong."""
        kind = f"no tokens from 0 to {self.vocabulary - 1}" if self.vocabulary else "NaN or infinite"
        return f"{count:,} of {size:,} values are {kind}"


def _layout(array: np.ndarray, where: str) -> Layout:
    """Pictures by their shape and type."""
    if array.ndim == 3:
        square = array.shape[1] == array.shape[2] >= _LEAST_SIDE
        return "NHW" if array.dtype == np.uint8 or square else "plain"
    if array.ndim != 4:
        return "plain"
    first, last = array.shape[1] in _CHANNELS, array.shape[3] in _CHANNELS
    if first == last:
        what = f"is {shape_text(array)}: which of them are the channels does not show"
        raise DataError(where, what, 'Set layout = "NCHW" or "NHWC" in data.options.')
    return "NCHW" if first else "NHWC"


class MappedArray:
    """The samples of a `.npy` that is too large to be held: each is read from the file when it is asked for.

    `numbers` (N,) are their places in the file. A sample with values that are no numbers raises BadSample.
    """

    def __init__(self, file: Path, form: Form, targets: Tensor, numbers: np.ndarray) -> None:
        self.targets, self._file, self._form, self._numbers = targets, file, form, numbers
        self.places: Sequence[str] = Places("index", numbers)
        self.columns: Columns = {}
        self._array: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        number = self._numbers[index]
        chunk = self._opened[number : number + 1]
        if count := int(self._form.wrong(chunk)[0]):
            raise BadSample(self.places[index], self._form.said(count, chunk.size))
        return torch.from_numpy(self._form.ready(chunk)[0].copy()), self.targets[index]

    def __getstate__(self) -> dict[str, object]:
        """Each worker opens the file for itself."""
        return {**self.__dict__, "_array": None}

    @property
    def sample_bytes(self) -> int:
        """Bytes that one sample takes in memory."""
        return self._form.ready(self._opened[:1]).nbytes

    @property
    def _opened(self) -> np.ndarray:
        if self._array is None:
            array: np.ndarray = np.load(self._file, mmap_mode="r", allow_pickle=False)
            self._array = array[:, None] if array.ndim == 1 else array
        return self._array
