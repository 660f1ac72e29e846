"""The mean and the deviation of each channel or column of the training samples, measured when a person asks for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from engine.data.preview.view import View, read
from engine.data.samples import BadSample, Progress, Samples
from engine.data.serving.batches import Finish
from engine.data.serving.fetching import collate
from engine.errors import DataError
from engine.recipe import Part
from engine.recipe.parts import Path, at, holding, inside, replaced, rows

_CHUNK = 256
_DIGITS = 4


@dataclass(frozen=True)
class Moments:
    """`mean` and `std` of each of `names`, over `count` training samples of which `skipped` more could not be read.

    `step` is what standardises with them: Normalize, of a table Standardize, which measures them itself.
    """

    names: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    count: int
    skipped: int
    step: Part


def measure(view: View, progress: Progress) -> Moments:
    """Go through all training samples, pictures as shades from 0 to 1, up to where Normalize stands or would be put.

    Test and validation samples are left out. Raises DataError for data without numbers, and what `progress` raises.
    """
    source, transforms = view.source, view.recipe.data.transforms
    if source.vocabulary:
        raise DataError(source.name, "holds tokens, which have no mean", "Look at their lengths.")
    finish = Finish(view.prepared(_before(transforms, normalize_at(transforms)), progress))
    part, index = view.part("train")
    sums: Tensor | None = None
    squares = shift = torch.empty(0)
    count = numbers = skipped = 0
    for first in range(0, len(index), _CHUNK):
        progress("measured", first, len(index))
        chosen = index[first : first + _CHUNK]
        if isinstance(part, Samples):
            batches = [part.inputs[chosen]]
        else:
            pairs = [pair for number in chosen.tolist() if not isinstance(pair := read(part, number), BadSample)]
            batches = [collate([pair])[0] for pair in pairs]
        skipped += len(chosen) - sum(map(len, batches))
        for batch in batches:
            columns = _columns(finish.inputs(batch)).double()
            if sums is None:
                # Sums of what is far from 0 lose the digits in which it differs.
                shift = columns.mean(0)
                sums, squares = torch.zeros_like(shift), torch.zeros_like(shift)
            if columns.shape[1] != len(sums):
                what = f"has samples of {len(sums)} and of {columns.shape[1]} channels"
                raise DataError(source.name, what, "Make them alike in data.transforms, by Grayscale or RGB.")
            sums += (columns - shift).sum(0)
            squares += (columns - shift).square().sum(0)
            numbers += len(columns)
            count += len(batch)
    if sums is None:
        raise DataError(source.name, "has no training sample that can be read", "Look at its bad samples.")
    progress("measured", len(index), len(index))
    mean = sums / numbers
    std = (squares / numbers - mean.square()).clamp_min(0).sqrt()
    mean = mean + shift
    table = len(source.shape) == 1
    names = source.columns if table and len(source.columns) == len(mean) else _names(len(mean), table=table)
    return Moments(tuple(names), tuple(mean.tolist()), tuple(std.tolist()), count, skipped, _step(mean, std, table))


def with_moments(transforms: Sequence[Part], step: Part) -> tuple[Part, ...]:
    """`transforms` with `step` in the place of the first that does the same, else at the end."""
    return tuple(replaced(transforms, normalize_at(transforms), step))


def normalize_at(transforms: Sequence[Part]) -> Path:
    """Where the first Normalize or Standardize stands, in a Compose too, or would be put."""
    for path, part in rows(transforms):
        holders = (at(transforms, path[:depth]).name for depth in range(1, len(path)))
        if part is not None and part.name in ("Normalize", "Standardize") and set(holders) <= {"Compose"}:
            return path
    return (len(transforms),)


def _before(transforms: Sequence[Part], path: Path) -> tuple[Part, ...]:
    """What samples go through before they reach `path`."""
    above, holder = tuple(transforms[: path[0]]), path[1:] and transforms[path[0]]
    held = _before(inside(holder), path[1:]) if holder else ()
    return (*above, holding(holder, held)) if holder and held else above


def _columns(inputs: Tensor) -> Tensor:
    """(N, C, …) → (all numbers of a channel, C), a table's (N, columns) as it is."""
    return inputs if inputs.ndim == 2 else inputs.transpose(0, 1).flatten(1).T


def _names(count: int, *, table: bool) -> tuple[str, ...]:
    if table:
        return tuple(f"x{number}" for number in range(count))
    return {1: ("grey",), 3: ("red", "green", "blue")}.get(count) or tuple(f"channel {n}" for n in range(count))


def _step(mean: Tensor, std: Tensor, table: bool) -> Part:
    if table:
        return Part(name="Standardize")
    # A channel that never changes keeps its scale.
    rounded = [round(value, _DIGITS) or 1.0 for value in std.tolist()]
    return Part.model_validate(
        {"name": "Normalize", "mean": [round(m, _DIGITS) for m in mean.tolist()], "std": rounded}
    )
