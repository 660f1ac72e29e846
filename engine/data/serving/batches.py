"""Samples → batches on the device, in an order that depends on (seed, epoch) alone.

A dataset that fits is one tensor on the device, shuffled by `torch.randperm` and served by indexing: on small networks
this is many times faster than a DataLoader. Larger and user-defined datasets go through a DataLoader: loader.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from engine.data.augmentation.augment import Augment
from engine.data.samples import Samples
from engine.data.serving.mixing import Mixing
from engine.data.serving.order import Drawing, Order
from engine.data.serving.picking import Picker, can_pick_ahead
from engine.data.transforms import Normalize, Standardize, as_floats


@dataclass(frozen=True, slots=True)
class Batch:
    """Inputs (B, …) and targets (B, …) on the device.

    `skipped` samples belong here and could not be read: with them it is so many samples of its epoch's order.
    """

    inputs: Tensor
    targets: Tensor
    skipped: int = 0

    def __len__(self) -> int:
        return len(self.inputs)

    def split(self, parts: int) -> Sequence[Batch]:
        """At most `parts` micro-batches, views of this one, as even as can be: batch norm can't do with one sample."""
        parts = min(parts, len(self))
        if parts <= 1:
            return (self,)
        pairs = zip(torch.tensor_split(self.inputs, parts), torch.tensor_split(self.targets, parts), strict=True)
        return [Batch(inputs, targets) for inputs, targets in pairs]

    def to(self, device: torch.device) -> Batch:
        """The same batch on `device`."""
        return replace(self, inputs=self.inputs.to(device), targets=self.targets.to(device))

    def channels_last(self) -> Batch:
        """The same batch with inputs (B, C, H, W) laid out channel by channel a pixel; others stay as they are."""
        if self.inputs.ndim != 4:
            return self
        return replace(self, inputs=self.inputs.to(memory_format=torch.channels_last))  # grey ones too


class Batches(Protocol):
    """Something that serves the batches of an epoch."""

    samples: int
    batch_size: int
    workers: int
    """Processes that read samples; 0 where that is done between the steps, or there is nothing to read."""

    @property
    def steps(self) -> int:
        """Batches in an epoch."""

    @property
    def copy_seconds(self) -> float:
        """Seconds spent so far to bring batches to the device and finish them, as this thread sees it.

        On a GPU that is the time to ask for it: the copies themselves run beside the training.
        """

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of `epoch` from sample `start` on. Raises DataError and TrainingError, as reading may fail."""

    def indices(self, epoch: int, start: int) -> list[int]:
        """The dataset's own numbers of the samples in the batch that begins at sample `start` of `epoch`."""

    def peek(self, epoch: int, start: int) -> Batch:
        """The batch that begins at sample `start` of `epoch`, made once more; an epoch under way is not disturbed."""

    def to(self, device: torch.device) -> None:
        """Move what is held on a device, to give its memory back or take it again."""

    def close(self) -> None:
        """Let go of workers and memory."""


@dataclass
class Finish:
    """What happens to a raw batch on the device: bytes to floats in [0, 1], augmentation, fixed transforms, targets.

    `numbers` says that the targets are numbers to predict, not classes; `masks` that they are classes of pixels, which
    are moved as the inputs are. `mixing` comes last, of inputs and targets.
    """

    transforms: Sequence[Any]
    augment: Augment | None = None
    numbers: bool = False
    target_mean: Tensor | None = None
    target_std: Tensor | None = None
    masks: bool = False
    mixing: Mixing | None = None

    def batch(self, raw: Tensor, targets: Tensor, seed: int, skipped: int = 0) -> Batch:
        """A batch of raw inputs and finished targets."""
        if self.augment and self.masks:
            moved, targets = self.augment.with_masks(raw, targets, seed)
            inputs = self._transformed(as_floats(moved), raw)
        else:
            inputs = self.inputs(raw, seed)
        if self.mixing:
            inputs, targets = self.mixing(inputs, targets, seed)
        return Batch(inputs, targets, skipped)

    def inputs(self, raw: Tensor, seed: int = 0) -> Tensor:
        """Floats from raw inputs."""
        return self._transformed(as_floats(self.augment(raw, seed) if self.augment else raw), raw)

    def _transformed(self, inputs: Tensor, raw: Tensor) -> Tensor:
        ours = raw.dtype == torch.uint8  # the floats are new; others may be the dataset itself
        for transform in self.transforms:
            if ours and isinstance(transform, (Normalize, Standardize)):
                inputs = transform.in_place(inputs)
            else:
                inputs, ours = transform(inputs), False
        return inputs

    def targets(self, raw: Tensor) -> Tensor:
        """Class numbers as they are; numbers to predict as floats, standardised where the recipe asks for it."""
        if self.numbers:  # a person's dataset may give whole numbers, or one bare number a sample
            raw = raw.float().reshape(len(raw), -1)
        if self.target_mean is None or self.target_std is None:
            return raw
        return (raw - self.target_mean.to(raw.device)) / self.target_std.to(raw.device)


class TensorBatches:
    """Batches by indexing tensors that lie on the device whole.

    Without augmentation, and if the result fits (`ahead`), the transforms are applied once, before the first step.
    `index` gives the samples their numbers in the dataset that they were chosen from. Of the samples those that are not
    `good` (N,) are left out of their batches, as what can't be read is left out by a DataLoader.
    """

    copy_seconds = 0.0  # nothing is copied: the samples lie on the device
    workers = 0

    def __init__(
        self,
        data: Samples,
        finish: Finish,
        batch_size: int,
        *,
        seed: int | None = None,
        drop_last: bool = False,
        ahead: bool = True,
        index: Tensor | None = None,
        drawing: Drawing | None = None,
        good: Tensor | None = None,
    ) -> None:
        self._order = Order(len(data), batch_size, seed, drop_last, index, drawing)
        self.samples, self.batch_size = self._order.samples, batch_size
        self._good = None if good is None or bool(good.all()) else good
        self._finish, self._raw = finish, bool(finish.augment) or not ahead
        self._draws = bool(finish.augment or finish.mixing)
        self._inputs = data.inputs if self._raw else finish.inputs(data.inputs)
        self._targets = finish.targets(data.targets)
        self._picker = Picker()

    @property
    def steps(self) -> int:
        return self._order.steps

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        size = self.batch_size
        if self._order.seed is None and self._good is None:
            for first in range(start, self.samples, size):
                inputs = self._inputs[first : first + size].clone()  # a model may write into its inputs
                inputs = self._finish.inputs(inputs) if self._raw else inputs
                yield Batch(inputs, _numbers(self._targets[first : first + size]))
            return
        whole = self._order.of(epoch)
        tensors = self._inputs, self._targets
        if self._good is None and can_pick_ahead(tensors, size):
            picked = self._picker.batches(tensors, whole[start:], size)
            for first, (inputs, targets) in zip(range(start, self.samples, size), picked, strict=True):
                yield self._made(inputs, targets, epoch, first)
            return
        # The good ones are known here: on a GPU the order goes there once, and not at each step.
        order = whole.to(self._inputs.device) if self._good is None else whole
        for first in range(start, self.samples, size):
            index = order[first : first + size]
            left = len(index)
            if self._order.seed is None and self._good is not None and not self._good[index].any():
                continue  # the sample that would stand in for these would be counted twice
            index = self._readable(index).to(self._inputs.device)  # they may have been moved since
            inputs, targets = self._inputs.index_select(0, index), self._targets.index_select(0, index)
            yield self._made(inputs, targets, epoch, first, left - len(index))

    def _made(self, inputs: Tensor, targets: Tensor, epoch: int, first: int, skipped: int = 0) -> Batch:
        targets = _numbers(targets)
        seed = self._order.batch_seed(epoch, first) if self._draws else 0  # it takes as long as a small layer
        if self._raw:
            return self._finish.batch(inputs, targets, seed, skipped)
        if self._finish.mixing:
            inputs, targets = self._finish.mixing(inputs, targets, seed)
        return Batch(inputs, targets, skipped)

    def _readable(self, positions: Tensor) -> Tensor:
        """The positions of good samples; of the next one behind them where there is none."""
        if self._good is None:
            return positions
        good = positions[self._good[positions]]
        if len(good):
            return good
        after = (int(positions[-1]) + 1 + torch.arange(len(self._good))) % len(self._good)
        return after[self._good[after]][:1]

    def indices(self, epoch: int, start: int) -> list[int]:
        positions = self._readable(self._order.positions(epoch, start))
        return self._order.numbers(positions)

    def peek(self, epoch: int, start: int) -> Batch:
        return next(self.epoch(epoch, start))

    def to(self, device: torch.device) -> None:
        self._inputs, self._targets = self._inputs.to(device), self._targets.to(device)

    def close(self) -> None:
        self._picker.close()
        self._inputs = self._targets = torch.empty(0)


def _numbers(targets: Tensor) -> Tensor:
    """Masks, which are kept as bytes, as class numbers; other targets as they are."""
    return targets.long() if targets.dtype == torch.uint8 else targets
