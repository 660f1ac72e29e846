"""Samples that are read one by one, read once and kept in memory."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from engine.data.samples import BadSample, Listed, Progress, Samples, as_tensor
from engine.data.serving.fetching import Skipped, as_inputs, as_targets, refused
from engine.errors import DataError, first_line

_AT_ONCE = 64
"""Samples between two looks at the progress, and so at whether the person has had enough."""


def read_all(
    part: Listed, index: Tensor, name: str, progress: Progress, skipped: Skipped | None
) -> tuple[Samples, Tensor]:
    """The samples of these numbers in their order, and which of them are good (N,): those that can't be read are 0.

    Bad ones are `skipped`; where that is None, the first of them is raised as a DataError.
    """
    numbers = index.tolist()
    bad: list[BadSample | None] = [None] * len(numbers)
    first, found = _first_good(part, numbers, skip=skipped is not None)
    inputs = torch.zeros((len(numbers), *found[0].shape), dtype=found[0].dtype)
    targets = torch.zeros((len(numbers), *found[1].shape), dtype=found[1].dtype)

    def read(position: int) -> None:
        try:
            given, target = _pair(part, numbers[position])
        except BadSample as error:
            bad[position] = error
            return
        if given.shape != inputs.shape[1:] or target.shape != targets.shape[1:]:
            place = part.places[numbers[position]]
            shapes = " and ".join("×".join(map(str, each.shape)) or "one number" for each in (given, target))
            what = f"is {shapes}, unlike {part.places[numbers[first]]}"
            raise DataError(place, what, "Give all samples one shape.")
        inputs[position], targets[position] = given, target

    with ThreadPoolExecutor(min(8, len(os.sched_getaffinity(0))), "reading") as pool:
        for start in range(0, len(numbers), _AT_ONCE):
            list(pool.map(read, range(start, min(start + _AT_ONCE, len(numbers)))))
            if skipped is None and (first_bad := next(filter(None, bad), None)):
                raise refused(first_bad) from first_bad
            done = min(start + _AT_ONCE, len(numbers))
            progress(f"reading {name}", done * part.sample_bytes, len(numbers) * part.sample_bytes)
    if skipped is not None:
        skipped.note(filter(None, bad))
    good = torch.tensor([each is None for each in bad])
    return Samples(as_inputs(inputs), as_targets(targets)), good


def _pair(part: Listed, number: int) -> tuple[Tensor, Tensor]:
    try:
        inputs, target = part[number]
        return as_tensor(inputs), torch.as_tensor(np.asarray(target))
    except (BadSample, DataError):
        raise
    except Exception as error:
        what = f"can't be read: {type(error).__name__}: {first_line(error)}"
        raise DataError(part.places[number], what, "Mend or remove it; the traceback is in the log.") from error


def _first_good(part: Listed, numbers: Sequence[int], *, skip: bool) -> tuple[int, tuple[Tensor, Tensor]]:
    """The first sample that can be read, which says what the others look like, and its position."""
    bad: BadSample | None = None
    for position, number in enumerate(numbers):
        try:
            return position, _pair(part, number)
        except BadSample as error:
            if not skip:
                raise refused(error) from error
            bad = bad or error
    assert bad is not None
    raise DataError(bad.place, f"{bad.what}, and no other sample can be read", "Mend the data.") from bad
