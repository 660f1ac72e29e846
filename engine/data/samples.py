"""What a dataset is to the rest of the engine: samples in memory, samples that are read when asked for, and more."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from engine.data.fetching.telling import untold
from engine.data.sources import Source
from engine.printable import printable, printable_line

Progress = Callable[[str, int, int], None]
"""Told (what, so far, in all or 0), telling.Bytes or numbers of samples; may raise to cancel."""
Columns = Mapping[str, np.ndarray]
"""Values by which samples can be grouped or put in order, each (N,): a column of a table, the folder of a file."""


IGNORED = -100
"""What stands in a mask where a pixel is of no class and counts nowhere: torch's own default `ignore_index`."""


class MapDataset(Protocol):
    """What torch calls a map-style dataset."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int) -> Any: ...


@dataclass(frozen=True)
class Samples:
    """Samples in memory: `inputs` (N, …) and `targets` (N,) or (N, outputs).

    `places` say where each was found (`cats/3.jpg`, `line 17`), `raw` what it was before it was encoded (a text, or
    a row's cells by column), where that is known.
    """

    inputs: Tensor
    targets: Tensor
    places: Sequence[str] = ()
    columns: Columns = field(default_factory=dict)
    raw: Sequence[str | Mapping[str, str]] = ()

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.inputs[index], self.targets[index]

    @property
    def nbytes(self) -> int:
        """Bytes that the samples take."""
        return self.inputs.nbytes + self.targets.nbytes

    def chosen(self, index: Tensor) -> Samples:
        """The samples of these numbers, in this order."""
        numbers = index.numpy()
        places, raw = (_chosen(texts, numbers) if texts else () for texts in (self.places, self.raw))
        columns = self.columns
        if isinstance(columns, Choosable):
            columns = columns.chosen(numbers)
        else:
            columns = {name: values[numbers] for name, values in columns.items()}
        return Samples(self.inputs[index], self.targets[index], places, columns, raw)


@runtime_checkable
class Choosable(Protocol):
    """What is made when it is asked for, of each sample, and need not be made to choose among them."""

    def chosen(self, numbers: np.ndarray) -> Any:
        """The same of the samples of these numbers, in this order."""


def _chosen(texts: Sequence[Any], numbers: np.ndarray) -> Any:
    return texts.chosen(numbers) if isinstance(texts, Choosable) else [texts[number] for number in numbers.tolist()]


@runtime_checkable
class Listed(Protocol):
    """Samples that are read one by one when they are asked for, and whose targets are known without reading them.

    `[i]` gives (input, target), the input of one shape and type for all. It raises BadSample for one that can't be
    read, and DataError for what ends the training. It is pickled to DataLoader workers: it holds paths, no open files.
    """

    targets: Tensor
    """(N,) int64 classes, or (N, outputs) float32. Segmentation, whose targets are as large as its inputs: (0,)."""
    places: Sequence[str]
    columns: Columns

    def __len__(self) -> int: ...
    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]: ...

    @property
    def sample_bytes(self) -> int:
        """Bytes that one sample takes in memory."""


@runtime_checkable
class Paired(Protocol):
    """Listed samples of two files each."""

    partners: Sequence[str]
    """Where the second lies, as `places` say it of the first."""


@runtime_checkable
class Measured(Protocol):
    """Samples whose encoding is measured on those that are trained on: a vocabulary, the mean of a column."""

    targets: Tensor
    places: Sequence[str]
    columns: Columns

    def __len__(self) -> int: ...

    def fit(self, train: Tensor, progress: Progress = untold) -> Encoder:
        """Measure the samples of these numbers. Raises DataError, and what `progress` raises."""


class Encoder(Protocol):
    """Makes tensors of samples as it was measured on the training ones."""

    def encode(self, part: Any, progress: Progress = untold) -> Samples:
        """All samples of a part (the one it was measured on, or the test set beside it), in their order.

        Raises DataError, and what `progress` raises.
        """

    def describe(self, source: Source) -> Source:
        """`source` with what is known by now: shape, columns, vocabulary."""


Readable = Samples | MapDataset
"""What batches are made of; Listed is a MapDataset that knows more."""
Part = Readable | Measured
"""What a dataset comes in."""


class BadSample(Exception):  # noqa: N818 - it says what a sample is, not that we made a mistake
    """One sample can't be read. `data.on_bad_sample` says what becomes of it.

    `place` says where it lies, `what` what is wrong with it. Rebuilt from both when it comes from a worker.
    """

    def __init__(self, place: str, what: str) -> None:
        super().__init__(place, what)
        self.place, self.what = printable_line(place), printable(what)

    def __str__(self) -> str:
        return f"{self.place}: {self.what}"


@dataclass(frozen=True)
class Loaded:
    """A dataset's samples by part (`all`, or `train` and `test`, and `val` where it brings one), made exact.

    `bad` are samples that were found to be unreadable or wrong and are not among the parts.
    """

    source: Source
    parts: Mapping[str, Part]
    bad: Sequence[BadSample] = ()


def as_tensor(value: Any) -> Tensor:
    """A sample's input as a tensor: a PIL picture as bytes (C, H, W), the rest as it is."""
    if isinstance(value, Tensor):
        return value
    array = np.asarray(value)
    if hasattr(value, "getbands"):  # a PIL picture: (H, W) or (H, W, C)
        return torch.from_numpy(array.copy()).reshape(*array.shape[:2], -1).permute(2, 0, 1)
    return torch.from_numpy(array)
