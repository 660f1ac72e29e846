"""Samples → batches on the device, in an order that depends on (seed, epoch) alone.

A dataset that fits is one tensor on the device, shuffled by `torch.randperm` and served by indexing: on small networks
this is many times faster than a DataLoader. Larger and user-defined datasets go through a DataLoader.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler, default_collate

from engine.data.load import MapDataset, Samples, as_tensor
from engine.data.transforms import Augment
from engine.python_file import Packed
from engine.seeds import derive


@dataclass(frozen=True, slots=True)
class Batch:
    """Inputs (B, …) and targets (B, …) on the device. `weight` is this part's share of an accumulated batch."""

    inputs: Tensor
    targets: Tensor
    weight: float = 1.0

    def __len__(self) -> int:
        return len(self.inputs)

    def split(self, parts: int) -> Sequence[Batch]:
        """At most `parts` micro-batches, each weighted by its share of the samples."""
        if parts == 1:
            return (self,)
        size = -(-len(self) // parts)
        pairs = zip(torch.split(self.inputs, size), torch.split(self.targets, size), strict=True)
        return [Batch(inputs, targets, len(inputs) / len(self)) for inputs, targets in pairs]


class Batches(Protocol):
    """Something that serves the batches of an epoch."""

    samples: int
    batch_size: int

    @property
    def steps(self) -> int:
        """Batches in an epoch."""

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of `epoch` from sample `start` on."""

    def close(self) -> None:
        """Let go of workers and memory."""


@dataclass
class Finish:
    """What happens to a raw batch on the device: bytes to floats in [0, 1], augmentation, fixed transforms, targets.

    `numbers` says that the targets are numbers to predict, not classes.
    """

    transforms: Sequence[Any]
    augment: Augment | None = None
    numbers: bool = False
    target_mean: Tensor | None = None
    target_std: Tensor | None = None

    def inputs(self, raw: Tensor, seed: int = 0) -> Tensor:
        """Floats from raw inputs."""
        inputs = raw.float() / 255 if raw.dtype == torch.uint8 else raw
        if self.augment:
            inputs = self.augment(inputs, seed)
        for transform in self.transforms:
            inputs = transform(inputs)
        return inputs

    def targets(self, raw: Tensor) -> Tensor:
        """Class numbers as they are; numbers to predict as floats, standardised where the recipe asks for it."""
        if self.numbers:  # a person's dataset may give whole numbers, or one bare number a sample
            raw = raw.float().reshape(len(raw), -1)
        if self.target_mean is None or self.target_std is None:
            return raw
        return (raw - self.target_mean.to(raw.device)) / self.target_std.to(raw.device)


class _Order:
    """Which samples come when. Training shuffles by (seed, epoch); evaluation keeps the order."""

    def __init__(self, samples: int, batch_size: int, seed: int | None, drop_last: bool) -> None:
        self.batch_size = batch_size
        self.seed = seed
        whole = samples // batch_size * batch_size
        self.samples = whole if drop_last and whole else samples
        self._of = samples

    @property
    def steps(self) -> int:
        return -(-self.samples // self.batch_size)

    def of(self, epoch: int) -> Tensor:
        if self.seed is None:
            return torch.arange(self._of)
        generator = torch.Generator().manual_seed(derive(self.seed, epoch))
        return torch.randperm(self._of, generator=generator)[: self.samples]

    def batch_seed(self, epoch: int, start: int) -> int:
        return derive(self.seed or 0, epoch, start // self.batch_size, 1)


class TensorBatches:
    """Batches by indexing tensors that lie on the device whole.

    Without augmentation, and if the result fits (`ahead`), the transforms are applied once, before the first step.
    """

    def __init__(
        self,
        data: Samples,
        finish: Finish,
        batch_size: int,
        *,
        seed: int | None = None,
        drop_last: bool = False,
        ahead: bool = True,
    ) -> None:
        self._order = _Order(len(data), batch_size, seed, drop_last)
        self.samples, self.batch_size = self._order.samples, batch_size
        self._finish = finish if finish.augment or not ahead else None
        self._inputs = data.inputs if self._finish else finish.inputs(data.inputs)
        self._targets = finish.targets(data.targets)

    @property
    def steps(self) -> int:
        return self._order.steps

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        size = self.batch_size
        if self._order.seed is None:
            for first in range(start, self.samples, size):
                inputs = self._inputs[first : first + size]
                inputs = self._finish.inputs(inputs) if self._finish else inputs
                yield Batch(inputs, self._targets[first : first + size])
            return
        order = self._order.of(epoch).to(self._inputs.device)
        for first in range(start, self.samples, size):
            index = order[first : first + size]
            inputs, targets = self._inputs.index_select(0, index), self._targets.index_select(0, index)
            if self._finish:
                inputs = self._finish.inputs(inputs, self._order.batch_seed(epoch, first))
            yield Batch(inputs, targets)

    def close(self) -> None:
        self._inputs = self._targets = torch.empty(0)


class LoaderBatches:
    """Batches through a DataLoader: for datasets that do not fit, user-defined ones, and `num_workers`.

    Workers start by forkserver: forking a process with running threads can deadlock the child.
    """

    def __init__(
        self,
        data: Samples | MapDataset,
        index: Tensor | None,
        finish: Finish,
        batch_size: int,
        device: torch.device,
        *,
        workers: int = 0,
        seed: int | None = None,
        drop_last: bool = False,
    ) -> None:
        count = len(data) if index is None else len(index)
        self._order = _Order(count, batch_size, seed, drop_last)
        self.samples, self.batch_size = self._order.samples, batch_size
        self._finish, self._device = finish, device
        self._sampler = _EpochSampler(batch_size)
        self._generator = torch.Generator()
        self._loader: DataLoader[Any] | None = DataLoader(
            _Fetch(data, index, derive(seed or 0, 2)),
            batch_sampler=self._sampler,
            collate_fn=_as_it_is,
            num_workers=workers,
            persistent_workers=workers > 0,
            multiprocessing_context="forkserver" if workers else None,
            pin_memory=device.type == "cuda",
            # Its own generator: the default one would be drawn from each epoch, and a resumed run would differ.
            generator=self._generator,
        )

    @property
    def steps(self) -> int:
        return self._order.steps

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        if self._loader is None:
            return
        self._generator.manual_seed(derive(self._order.seed or 0, epoch, 3))
        self._sampler.keys = [(epoch, int(index)) for index in self._order.of(epoch)[start:]]
        first = start
        for raw_inputs, raw_targets in self._loader:
            inputs = raw_inputs.to(self._device, non_blocking=True)
            targets = raw_targets.to(self._device, non_blocking=True)
            seed = self._order.batch_seed(epoch, first)
            yield Batch(self._finish.inputs(inputs, seed), self._finish.targets(targets))
            first += self.batch_size

    def close(self) -> None:
        self._loader = None  # the last reference: its workers are told to end


class _EpochSampler(Sampler[list[tuple[int, int]]]):
    """Batches of (epoch, index), read in the main process, so that persistent workers see each epoch's order."""

    def __init__(self, batch_size: int) -> None:
        self.keys: list[tuple[int, int]] = []
        self._batch_size = batch_size

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        for first in range(0, len(self.keys), self._batch_size):
            yield self.keys[first : first + self._batch_size]

    def __len__(self) -> int:
        return -(-len(self.keys) // self._batch_size)


class _Fetch(Dataset[Any]):
    """Whole batches of a dataset, with each sample's randomness drawn from (seed, epoch, index) alone."""

    def __init__(self, data: Samples | MapDataset, index: Tensor | None, seed: int) -> None:
        self._data, self._index, self._seed = data, index, seed

    def __getstate__(self) -> tuple[Packed, Tensor | None, int]:
        # A worker must load a person's file before it can unpickle what comes from there.
        return Packed(self._data), self._index, self._seed

    def __setstate__(self, state: tuple[Packed, Tensor | None, int]) -> None:
        packed, self._index, self._seed = state
        self._data = packed.value

    def __getitems__(self, keys: list[tuple[int, int]]) -> tuple[Tensor, Tensor]:
        if isinstance(self._data, Samples):
            index = torch.tensor([key[1] for key in keys])
            index = index if self._index is None else self._index[index]
            return self._data.inputs.index_select(0, index), self._data.targets.index_select(0, index)
        return collate([self._sample(epoch, position) for epoch, position in keys])

    def _sample(self, epoch: int, position: int) -> Any:
        index = position if self._index is None else int(self._index[position])
        before = random.getstate(), np.random.get_state(), torch.get_rng_state()
        try:
            seed = derive(self._seed, epoch, index)
            random.seed(seed)
            np.random.seed(seed % 2**32)
            torch.default_generator.manual_seed(seed)  # torch.manual_seed would also reseed every GPU
            return self._data[index]
        except StopIteration as error:  # torch would take it for the end of the epoch
            raise RuntimeError(f"sample {index} of the dataset raised StopIteration") from error
        finally:
            random.setstate(before[0])
            np.random.set_state(before[1])
            torch.set_rng_state(before[2])


def collate(pairs: Sequence[Any]) -> tuple[Tensor, Tensor]:
    """(input, target) pairs → tensors. Pictures become bytes (B, C, H, W), other floats float32, classes int64."""
    inputs = default_collate([as_tensor(pair[0]) for pair in pairs])
    targets = default_collate([torch.as_tensor(np.asarray(pair[1])) for pair in pairs])
    targets = targets.float().reshape(len(targets), -1) if targets.is_floating_point() else targets.long()
    return (inputs.float() if inputs.is_floating_point() else inputs), targets


def _as_it_is(batch: Any) -> Any:
    return batch
