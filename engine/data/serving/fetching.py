"""Samples of a dataset, read a batch at a time, here or in the workers of a DataLoader; or all at once, to be kept."""

from __future__ import annotations

import os
import random
import traceback
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, default_collate, get_worker_info

from engine.data.fetching.telling import Bytes
from engine.data.samples import BadSample, Listed, MapDataset, Progress, Samples, as_tensor
from engine.data.serving.workers import Failed, Slots, unreadable
from engine.errors import DataError, SampleRefused, first_line
from engine.seeds import derive

_AT_ONCE = 64
"""Samples between two looks at the progress, and so at whether the person has had enough."""
NAMED = 20
"""Samples that can't be read and are named each; of more their number is told."""


@dataclass(frozen=True)
class Partial:
    """A raw batch without its samples that can't be read: `lacking` positions of the order, `bad` as (number, why).

    Where none can be read it has the next one of the dataset, which `stands_in`: training has no step without a sample.
    """

    inputs: Tensor
    targets: Tensor
    lacking: int
    bad: Sequence[tuple[int, BadSample]]
    stands_in: bool = False


@dataclass(frozen=True)
class Classes:
    """The numbers that a target may be: 0 to `count` - 1, and the one that the loss leaves out."""

    count: int
    ignored: int | None = None

    def lack(self, target: object) -> str:
        """What is wrong with a target that is the number of no class, at which a GPU would give up; else ""."""
        scalar = np.asarray(target)
        if scalar.ndim or scalar.dtype.kind not in "iu" or scalar == self.ignored or 0 <= scalar < self.count:
            return ""
        return f"is of class {scalar}, and there are 0 to {self.count - 1}"


class Skipped:
    """What is left out of training and evaluation, each sample said once. For the engine thread alone."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._known: set[str] = set()

    def note(self, bad: Iterable[BadSample]) -> None:
        """These could not be read."""
        for each in bad:
            if each.place in self._known:
                continue
            self._known.add(each.place)
            if len(self._known) <= NAMED:
                self._say(f"skipped {each}")
            elif len(self._known) == NAMED + 1:
                self._say("more samples can't be read; from here on they are only counted")

    def close(self) -> None:
        """Say how many they were, if not all were named."""
        if len(self._known) > NAMED:
            self._say(f"{len(self._known)} samples could not be read and were skipped")
        self._known.clear()


def refused(bad: BadSample) -> SampleRefused:
    """What ends a run that is to stop at a sample that can't be read."""
    return SampleRefused(bad.place, bad.what, 'Mend or remove it, or set data.on_bad_sample = "skip".')


class TurnOver(Exception):  # noqa: N818 - nothing went wrong
    """Nobody waits for this batch any more."""


class Fetch(Dataset[Any]):
    """Whole batches of a dataset, with each sample's randomness drawn from (seed, epoch, index) alone.

    Samples that can't be read, or are of none of the `classes`, are left out where the recipe wants to `skip` them.
    """

    def __init__(
        self, data: Samples | MapDataset, index: Tensor | None, seed: int, slots: Slots, *, skip: bool = False,
        classes: Classes | None = None,
    ) -> None:  # fmt: skip
        self._data, self._index, self._seed, self._slots, self._skip = data, index, seed, slots, skip
        self._classes = classes

    def __getitems__(
        self, keys: list[tuple[int, int]], turn: int | None = None
    ) -> tuple[Tensor, Tensor] | Partial | Failed | None:
        """The samples of these (epoch, position); None where the `turn` that they are for ends before they are read.

        Raises DataError, or returns it where this is a worker.
        """
        try:
            return self._batch(keys, turn)
        except TurnOver:
            return None
        except DataError as error:
            if get_worker_info() is None:
                raise
            return Failed(error, traceback.format_exc())
        finally:
            self._slots.note()

    def _batch(self, keys: list[tuple[int, int]], turn: int | None) -> tuple[Tensor, Tensor] | Partial:
        if isinstance(self._data, Samples):
            index = torch.tensor([key[1] for key in keys])
            index = index if self._index is None else self._index[index]
            self._slots.note(int(index[0]))
            return self._data.inputs.index_select(0, index), self._data.targets.index_select(0, index)
        bad: list[tuple[int, BadSample]] = []
        pairs = self._read(keys, bad, turn)
        if not bad:
            return self._collated(pairs, keys)
        lacking = len(keys) - len(pairs)
        stands_in = not pairs
        if stands_in:
            epoch, last = keys[-1]
            count = len(self._data) if self._index is None else len(self._index)
            for step in range(1, count + 1):
                pairs = self._read([(epoch, (last + step) % count)], bad, turn)
                if pairs:
                    break
            else:
                raise DataError(bad[0][1].place, f"{bad[0][1].what}, and no other sample can be read", "Mend the data.")
            lacking = len(keys) - 1
        return Partial(*self._collated(pairs, keys), lacking, bad, stands_in)

    def _read(self, keys: Sequence[tuple[int, int]], bad: list[tuple[int, BadSample]], turn: int | None) -> list[Any]:
        """Samples of these keys; those that can't be read and are skipped are put into `bad`. Raises TurnOver."""
        pairs = []
        for epoch, position in keys:
            if turn is not None and turn != self._slots.turn:
                raise TurnOver
            try:
                pairs.append(self._sample(epoch, position))
            except BadSample as error:
                if not self._skip:
                    raise refused(error) from error
                bad.append((self._number(position), error))
        return pairs

    def _collated(self, pairs: Sequence[Any], keys: Sequence[tuple[int, int]]) -> tuple[Tensor, Tensor]:
        try:
            return collate(pairs)
        except Exception as error:  # samples of several shapes or types, or not (input, target)
            numbers = [self._number(position) for _, position in keys]
            what = f"samples {', '.join(map(str, numbers))} do not make a batch: {first_line(error)}"
            raise DataError("data", what, "Give all samples one shape and type: (input, target).") from error

    def _number(self, position: int) -> int:
        return position if self._index is None else int(self._index[position])

    def _place(self, index: int) -> str:
        return self._data.places[index] if isinstance(self._data, Listed) else f"sample {index} of the dataset"

    def _sample(self, epoch: int, position: int) -> Any:
        index = self._number(position)
        self._slots.note(index)
        before = random.getstate(), np.random.get_state(), torch.get_rng_state()
        try:
            seed = derive(self._seed, epoch, index)
            random.seed(seed)
            np.random.seed(seed % 2**32)
            torch.default_generator.manual_seed(seed)  # torch.manual_seed would also reseed every GPU
            sample = self._data[index]
            pair = isinstance(sample, (tuple, list)) and len(sample) == 2
            if pair and self._classes and (lack := self._classes.lack(sample[1])):
                raise BadSample(self._place(index), lack)
            return sample
        except (BadSample, DataError):
            raise
        except (Exception, SystemExit) as error:  # a person's dataset may raise anything
            raise unreadable(error, index) from error
        finally:
            random.setstate(before[0])
            np.random.set_state(before[1])
            torch.set_rng_state(before[2])


def read_all(
    part: Listed,
    index: Tensor,
    name: str,
    progress: Progress,
    skipped: Skipped | None,
    classes: Classes | None = None,
) -> tuple[Samples, Tensor]:
    """The samples of these numbers in their order, and which of them are good (N,): those that can't be read are 0.

    Bad ones, those of none of the `classes` too, are `skipped`; where that is None, the first is raised as a DataError.
    """
    numbers = index.tolist()
    bad: list[BadSample | None] = [None] * len(numbers)
    first, found = _first_good(part, numbers, skip=skipped is not None)
    inputs = torch.zeros((len(numbers), *found[0].shape), dtype=found[0].dtype)
    targets = torch.zeros((len(numbers), *found[1].shape), dtype=found[1].dtype)

    def read(position: int) -> None:
        try:
            given, target = _pair(part, numbers[position])
            if classes and (lack := classes.lack(target)):
                raise BadSample(part.places[numbers[position]], lack)
        except BadSample as error:
            bad[position] = error
            return
        if given.shape != inputs.shape[1:] or target.shape != targets.shape[1:]:
            place = part.places[numbers[position]]
            shapes = " and ".join("×".join(map(str, each.shape)) or "one number" for each in (given, target))
            what = f"is {shapes}, unlike {part.places[numbers[first]]}"
            raise DataError(place, what, "Give all samples one shape.")
        inputs[position], targets[position] = given, target

    with ThreadPoolExecutor(min(8, cores()), "reading") as pool:
        for start in range(0, len(numbers), _AT_ONCE):
            done = min(start + _AT_ONCE, len(numbers))
            list(pool.map(read, range(start, done)))
            if skipped is None and (first_bad := next(filter(None, bad[start:done]), None)):
                raise refused(first_bad) from first_bad
            progress(f"reading {name}", Bytes(done * part.sample_bytes), len(numbers) * part.sample_bytes)
    if skipped is not None:
        skipped.note(filter(None, bad))
    good = torch.tensor([each is None for each in bad])
    masks = targets.ndim > 1 and targets.dtype == torch.uint8  # as bytes an eighth of what they are served as
    return Samples(as_inputs(inputs), targets if masks else as_targets(targets)), good


def collate(pairs: Sequence[Any]) -> tuple[Tensor, Tensor]:
    """(input, target) pairs → tensors. Pictures become bytes (B, C, H, W), other floats float32, classes int64."""
    inputs = default_collate([as_tensor(pair[0]) for pair in pairs])
    return as_inputs(inputs), as_targets(default_collate([torch.as_tensor(np.asarray(pair[1])) for pair in pairs]))


def as_inputs(inputs: Tensor) -> Tensor:
    """Inputs (B, …) in the type in which they are served."""
    return inputs.float() if inputs.is_floating_point() else inputs


def as_targets(targets: Tensor) -> Tensor:
    """Targets (B, …) in the type in which they are served: classes int64, numbers float32 in rows."""
    return targets.float().reshape(len(targets), -1) if targets.is_floating_point() else targets.long()


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


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
