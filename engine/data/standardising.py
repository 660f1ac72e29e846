"""What transforms must know of the training samples before they do anything: the mean and deviation of Standardize."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from engine.data.samples import BadSample, MapDataset, Progress, Readable, Samples
from engine.data.serving.batches import Finish
from engine.data.transforms import Standardize

_LARGE = 1 << 26  # numbers that are measured piece by piece
_TOGETHER = 1024
_READ = 64


def fit_transforms(
    transforms: Sequence[Any], part: Readable, index: Tensor | None, codes: int, progress: Progress
) -> None:
    """Measure those that need it on the samples `index` (None: all) of `part`, whose last `codes` columns are codes.

    Raises what `progress` raises.
    """
    for position, transform in enumerate(transforms):
        if not isinstance(transform, Standardize):
            continue
        before = Finish(transforms[:position])
        if isinstance(part, Samples) and part.inputs.numel() > _LARGE:
            # All at once could not be called off, and bytes as floats, and what is computed of them, would take ten
            # times their memory.
            transform.fit_batches((before.inputs(raw) for raw in _pieces(part, index, progress)), codes)
        elif isinstance(part, Samples):
            inputs = before.inputs(part.inputs if index is None else part.inputs[index])
            transform.fit(inputs, codes)
        else:
            transform.fit_batches(before.inputs(raw) for raw in _read(part, index, progress))


def _pieces(part: Samples, index: Tensor | None, progress: Progress) -> Iterator[Tensor]:
    numbers = torch.arange(len(part)) if index is None else index
    for first in range(0, len(numbers), _TOGETHER):
        progress("measuring", first, len(numbers))
        yield part.inputs[numbers[first : first + _TOGETHER]]


def _read(part: MapDataset, index: Tensor | None, progress: Progress) -> Iterator[Tensor]:
    """The raw inputs of these samples; what becomes of one that can't be read is said when it is trained on."""
    numbers = range(len(part)) if index is None else index.tolist()
    for first in range(0, len(numbers), _READ):
        inputs: list[Tensor] = []
        for done, number in enumerate(numbers[first : first + _READ], first):
            progress("measuring", done, len(numbers))
            with contextlib.suppress(BadSample):
                inputs.append(part[number][0])
        if inputs:
            yield torch.stack(inputs)
