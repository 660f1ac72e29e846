"""Datasets that are trained on beside `[data]`, checked to be of its kind."""

from __future__ import annotations

import contextlib
import os
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, cast

import torch
from torch import Tensor

from engine.data.choosing.splits import main_part
from engine.data.load import load
from engine.data.samples import (
    BadSample,
    Encoder,
    Loaded,
    MapDataset,
    Measured,
    Progress,
    Readable,
    Samples,
    as_tensor,
)
from engine.data.sources import Source, described
from engine.data.transforms import as_floats
from engine.errors import DataError, RecipeError
from engine.recipe import Data, Dataset, Mixed, TaskName


@dataclass(frozen=True)
class Piece:
    """Samples that are trained on: those of these numbers (None: all), each drawn `weight` times an epoch."""

    part: Readable
    index: Tensor | None = None
    weight: float = 1.0

    def __len__(self) -> int:
        return len(self.part) if self.index is None else len(self.index)


class Joined:
    """Datasets one behind the other; with `floats`, bytes among them become floats as in the others."""

    def __init__(self, parts: Sequence[Readable], *, floats: bool) -> None:
        self._parts, self._floats = parts, floats
        self._ends = list(accumulate(len(part) for part in parts))

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        number = bisect_right(self._ends, index)
        inputs, target = self._parts[number][index - (self._ends[number - 1] if number else 0)]
        return (as_floats(as_tensor(inputs)) if self._floats else inputs), target


def mixed_sources(data: Data, task: TaskName) -> list[Source]:
    """What is known of the datasets in `mix` before they are loaded. Raises RecipeError or DataError."""
    return [_source(each, task, f"data.mix.{number}") for number, each in enumerate(data.mix)]


def check_mix(data: Data, source: Source, *, encoded: bool) -> None:
    """Raises DataError for a dataset in `mix` that is not of the kind of `source`, the one of `[data]`.

    Where samples must be `encoded` their shape is known when they are, and checked then.
    """
    _check_others(data)
    for number, other in enumerate(mixed_sources(data, source.task)):
        _check_kind(source, other, f"data.mix.{number}: {other.name}", encoded=encoded)


def mixed_pieces(
    data: Data, main: Loaded, source: Source, encoder: Encoder | None, progress: Progress
) -> list[tuple[Loaded, Piece]]:
    """The datasets in `mix` with all that is trained on of them, encoded as `[data]` is: all but their test sets.

    `main` is the dataset of `[data]`, `source` what is known of it when it is encoded.

    Raises RecipeError or DataError.
    """
    _check_others(data)
    kind = type(main_part(main)) if encoder is not None else None
    return [_piece(each, kind, source, encoder, progress, f"data.mix.{number}") for number, each in enumerate(data.mix)]


def _check_others(data: Data) -> None:
    """Raises RecipeError for a dataset in `mix` that is the one of `[data]`, of which a part is held out."""
    ours = _identity(data)
    for number, each in enumerate(data.mix):
        if _identity(each) == ours:
            what = "is the dataset of [data] itself, whose validation and test samples would be trained on"
            raise RecipeError(f"data.mix.{number}", what, "Remove it. data.sampler draws some samples more often.")


def _identity(data: Dataset) -> tuple[object, ...]:
    """What tells datasets apart. Files are the same however they are read."""
    return (os.path.realpath(data.path),) if data.path else (data.name, data.python, data.options)


def _piece(
    mixed: Mixed, kind: type | None, source: Source, encoder: Encoder | None, progress: Progress, where: str
) -> tuple[Loaded, Piece]:
    loaded = load(mixed, source.task, progress, where)
    where = f"{where}: {loaded.source.name}"
    part = main_part(loaded)
    measured = isinstance(part, Measured)
    if measured != (encoder is not None) or (measured and type(part) is not kind):
        what = f"is not read as {source.name} is: their samples can't be encoded alike"
        raise DataError(where, what, "Mix datasets of one format.")
    _check_kind(source, loaded.source, where, encoded=measured)
    ready = encoder.encode(part, progress) if encoder is not None else cast(Readable, part)
    if isinstance(ready, Samples) and tuple(ready.inputs.shape[1:]) != source.shape:
        raise _other_shape(source, tuple(ready.inputs.shape[1:]), where)
    return loaded, Piece(ready, None, mixed.weight)


def _source(mixed: Mixed, task: TaskName, where: str) -> Source:
    if mixed.name:
        return described(mixed, where)
    return load(mixed, task, where=where).source


def _check_kind(source: Source, other: Source, where: str, *, encoded: bool) -> None:
    if other.task != source.task:
        what = f"is for {other.task}, and {source.name} is for {source.task}"
        raise DataError(where, what, "Mix datasets of one task.")
    if not encoded and other.shape != source.shape:
        raise _other_shape(source, other.shape, where)
    if not encoded and source.columns and other.columns and other.columns != source.columns:
        what = f"has the columns {', '.join(other.columns[:8])}, and {source.name} {', '.join(source.columns[:8])}"
        raise DataError(where, what, "Mix datasets of the same columns in the same order.")
    if other.classes != source.classes or other.outputs != source.outputs:
        what = f"has {_outputs(other)}, and {source.name} has {_outputs(source)}"
        raise DataError(where, what, "Mix datasets of the same classes in the same order.")


def _other_shape(source: Source, shape: tuple[int, ...], where: str) -> DataError:
    ours, theirs = ("×".join(map(str, each)) for each in (source.shape, shape))
    what = f"has samples of {theirs}, and {source.name} of {ours}"
    return DataError(where, what, "Mix datasets whose samples have one shape.")


def _outputs(source: Source) -> str:
    if source.task != "classification":
        return f"{source.outputs} numbers to predict"
    names = source.classes
    listed = ", ".join(names[:8]) + (", …" if len(names) > 8 else "")
    return f"{source.outputs} classes" + (f" ({listed})" if names else "")


def joined(pieces: Sequence[Piece]) -> Piece:
    """Several pieces as one, those of one kind in memory as Samples; their weights are for the order to keep."""
    if len(pieces) == 1:
        return pieces[0]
    numbers = []
    first = 0
    for piece in pieces:
        own = torch.arange(len(piece.part)) if piece.index is None else piece.index
        numbers.append(first + own)
        first += len(piece.part)
    kinds = {_kind(piece.part) for piece in pieces}
    parts: list[MapDataset] = [piece.part for piece in pieces]
    return Piece(Joined(parts, floats=len(kinds) > 1), torch.cat(numbers))


def gathered(pieces: Sequence[Samples]) -> Samples:
    """Samples of several datasets in memory as one; bytes become floats where others are floats."""
    if len(pieces) == 1:
        return pieces[0]
    inputs = [piece.inputs for piece in pieces]
    if len({each.dtype for each in inputs}) > 1:
        inputs = [as_floats(each) for each in inputs]
    return Samples(torch.cat(inputs), torch.cat([piece.targets for piece in pieces]))


def _kind(part: Readable) -> str:
    """The type of a part's inputs; empty where none can be read."""
    if isinstance(part, Samples):
        return str(part.inputs.dtype)
    for number in range(len(part)):
        with contextlib.suppress(BadSample):
            return str(as_tensor(part[number][0]).dtype)
    return ""
