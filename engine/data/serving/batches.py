"""Samples → batches on the device, in an order that depends on (seed, epoch) alone.

A dataset that fits is one tensor on the device, shuffled by `torch.randperm` and served by indexing: on small networks
this is many times faster than a DataLoader. Larger and user-defined datasets go through a DataLoader.
"""

from __future__ import annotations

import random
import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler, default_collate, get_worker_info

from engine.data.augmentation.augment import Augment
from engine.data.samples import MapDataset, Samples, as_tensor
from engine.data.serving.ahead import Ahead, Streams, side_stream
from engine.data.serving.workers import Failed, Slots, Watch, start_forkserver, unreadable
from engine.data.transforms import Normalize, as_floats
from engine.errors import DataError, first_line
from engine.python_file import Packed
from engine.seeds import derive


@dataclass(frozen=True, slots=True)
class Batch:
    """Inputs (B, …) and targets (B, …) on the device."""

    inputs: Tensor
    targets: Tensor

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
        return Batch(self.inputs.to(device), self.targets.to(device))

    def channels_last(self) -> Batch:
        """The same batch with inputs (B, C, H, W) laid out channel by channel a pixel; others stay as they are."""
        if self.inputs.ndim != 4:
            return self
        return Batch(self.inputs.contiguous(memory_format=torch.channels_last), self.targets)


class Batches(Protocol):
    """Something that serves the batches of an epoch."""

    samples: int
    batch_size: int

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

    `numbers` says that the targets are numbers to predict, not classes; `masks` that they are classes of pixels.
    """

    transforms: Sequence[Any]
    augment: Augment | None = None
    numbers: bool = False
    target_mean: Tensor | None = None
    target_std: Tensor | None = None
    masks: bool = False

    def together(self, raw: Tensor, targets: Tensor, seed: int) -> tuple[Tensor, Tensor]:
        """Floats from raw inputs, and the finished targets, where these are masks changed as the inputs are."""
        if not self.augment or not self.masks:
            return self.inputs(raw, seed), targets
        moved, targets = self.augment.with_masks(raw, targets, seed)
        return self._transformed(as_floats(moved), raw), targets

    def inputs(self, raw: Tensor, seed: int = 0) -> Tensor:
        """Floats from raw inputs."""
        return self._transformed(as_floats(self.augment(raw, seed) if self.augment else raw), raw)

    def _transformed(self, inputs: Tensor, raw: Tensor) -> Tensor:
        ours = raw.dtype == torch.uint8  # the floats are new; others may be the dataset itself
        for transform in self.transforms:
            if ours and isinstance(transform, Normalize):
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


class _Order:
    """Which samples come when. Training shuffles by (seed, epoch); evaluation keeps the order."""

    def __init__(
        self, samples: int, batch_size: int, seed: int | None, drop_last: bool, index: Tensor | None = None
    ) -> None:
        self.batch_size = batch_size
        self._index = index
        self.seed = seed
        whole = samples // batch_size * batch_size
        self.samples = whole if drop_last and whole else samples
        self._of = samples

    @property
    def steps(self) -> int:
        return -(-self.samples // self.batch_size)

    def of(self, epoch: int) -> Tensor:
        if self.seed is None:
            return torch.arange(self.samples)
        generator = torch.Generator().manual_seed(derive(self.seed, epoch))
        return torch.randperm(self._of, generator=generator)[: self.samples]

    def indices(self, epoch: int, start: int) -> list[int]:
        positions = self.of(epoch)[start : start + self.batch_size]
        chosen: list[int] = (positions if self._index is None else self._index[positions]).tolist()
        return chosen

    def batch_seed(self, epoch: int, start: int) -> int:
        return derive(self.seed or 0, epoch, start // self.batch_size, 1)


class TensorBatches:
    """Batches by indexing tensors that lie on the device whole.

    Without augmentation, and if the result fits (`ahead`), the transforms are applied once, before the first step.
    `index` gives the samples their numbers in the dataset that they were chosen from.
    """

    copy_seconds = 0.0  # nothing is copied: the samples lie on the device

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
    ) -> None:
        self._order = _Order(len(data), batch_size, seed, drop_last, index)
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
            index = order[first : first + size].to(self._inputs.device)  # they may have been moved since
            inputs, targets = self._inputs.index_select(0, index), self._targets.index_select(0, index)
            if self._finish:
                inputs, targets = self._finish.together(inputs, targets, self._order.batch_seed(epoch, first))
            yield Batch(inputs, targets)

    def indices(self, epoch: int, start: int) -> list[int]:
        return self._order.indices(epoch, start)

    def peek(self, epoch: int, start: int) -> Batch:
        return next(self.epoch(epoch, start))

    def to(self, device: torch.device) -> None:
        self._inputs, self._targets = self._inputs.to(device), self._targets.to(device)

    def close(self) -> None:
        self._inputs = self._targets = torch.empty(0)


class LoaderBatches:
    """Batches through a DataLoader: for datasets that do not fit, user-defined ones, and `num_workers`.

    Workers start by forkserver: forking a process with running threads can deadlock the child. One that dies, or reads
    a sample for longer than `patience_s`, ends the epoch with a TrainingError that names it and the sample; an error
    of the dataset itself is a DataError with the sample's number. Neither can be gone on with: `close` is next.
    `streams` copy to the device beside the training; None is the device's own way, where it has one.
    """

    def __init__(
        self, data: Samples | MapDataset, index: Tensor | None, finish: Finish, batch_size: int, device: torch.device,
        *, workers: int = 0, seed: int | None = None, drop_last: bool = False, patience_s: float = 300.0,
        streams: Streams | None = None,
    ) -> None:  # fmt: skip
        count = len(data) if index is None else len(index)
        self._order = _Order(count, batch_size, seed, drop_last, index)
        self.samples, self.batch_size = self._order.samples, batch_size
        self._finish, self._device, self.copy_seconds = finish, device, 0.0
        self._streams = streams or side_stream(device)
        self._ahead: Ahead | None = None
        self._sampler, self._generator = _EpochSampler(batch_size), torch.Generator()
        slots = Slots(workers)
        self._watch = Watch(slots, patience_s) if workers else None
        self._fetch = _Fetch(data, index, derive(seed or 0, 2), slots)
        if workers:
            start_forkserver()
        self._loader: DataLoader[Any] | None = DataLoader(
            self._fetch,
            batch_sampler=self._sampler,
            collate_fn=_as_it_is,
            num_workers=workers,
            persistent_workers=workers > 0,
            worker_init_fn=slots if workers else None,
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
        raws = self._read(self._loader)
        if self._streams:
            raws = self._ahead = Ahead(raws, self._streams)
        for first, raw in zip(range(start, self.samples, self.batch_size), raws, strict=True):
            yield self._finished(raw, epoch, first)

    def indices(self, epoch: int, start: int) -> list[int]:
        return self._order.indices(epoch, start)

    def peek(self, epoch: int, start: int) -> Batch:
        """Read here and not by the workers, which have an epoch of their own before them."""
        positions = self._order.of(epoch)[start : start + self.batch_size].tolist()
        raw = self._fetch.__getitems__([(epoch, position) for position in positions])
        return self._finished(raw, epoch, start)

    def to(self, device: torch.device) -> None:
        """Between two batches nothing lies on the device but what is copied ahead."""
        if self._ahead:
            self._ahead.to(device)

    def _read(self, loader: DataLoader[Any]) -> Iterator[Any]:
        """Raw batches, with the workers' failures in our words."""
        try:
            iterator: Any = iter(loader)
            if self._watch:
                self._watch.start(iterator, iterator._workers)
            yield from iterator
        except Exception as error:  # RuntimeError by torch's look-out, or whatever breaks with a worker's sockets
            explained = self._watch.explain() if self._watch else None
            if explained is None:
                raise
            raise explained from error

    def _finished(self, raw: Any, epoch: int, first: int) -> Batch:
        """A raw batch on the device, augmented as (seed, epoch, first) say."""
        if isinstance(raw, Failed):
            raw.throw()
        began = time.perf_counter()
        inputs, targets = (part.to(self._device, non_blocking=True) for part in raw)
        seed = self._order.batch_seed(epoch, first)
        batch = Batch(*self._finish.together(inputs, self._finish.targets(targets), seed))
        self.copy_seconds += time.perf_counter() - began
        return batch

    def close(self) -> None:
        iterator: Any = None if self._loader is None else self._loader._iterator
        self._loader = None
        if self._ahead:
            self._ahead.close()
        if self._watch and iterator is not None:
            iterator._shutdown_workers()  # not left to __del__: the traceback of a failure keeps the iterator alive
            self._watch.end()


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

    def __init__(self, data: Samples | MapDataset, index: Tensor | None, seed: int, slots: Slots) -> None:
        self._data, self._index, self._seed, self._slots = data, index, seed, slots

    def __getstate__(self) -> tuple[Packed, Tensor | None, int, Slots]:
        # A worker must load a person's file before it can unpickle what comes from there.
        return Packed(self._data), self._index, self._seed, self._slots

    def __setstate__(self, state: tuple[Packed, Tensor | None, int, Slots]) -> None:
        packed, self._index, self._seed, self._slots = state
        self._data = packed.value

    def __getitems__(self, keys: list[tuple[int, int]]) -> tuple[Tensor, Tensor] | Failed:
        try:
            return self._batch(keys)
        except DataError as error:
            if get_worker_info() is None:
                raise
            return Failed(error, traceback.format_exc())
        finally:
            self._slots.note()

    def _batch(self, keys: list[tuple[int, int]]) -> tuple[Tensor, Tensor]:
        if isinstance(self._data, Samples):
            index = torch.tensor([key[1] for key in keys])
            index = index if self._index is None else self._index[index]
            self._slots.note(int(index[0]))
            return self._data.inputs.index_select(0, index), self._data.targets.index_select(0, index)
        pairs = [self._sample(epoch, position) for epoch, position in keys]
        try:
            return collate(pairs)
        except Exception as error:  # samples of several shapes or types, or not (input, target)
            numbers = [position if self._index is None else int(self._index[position]) for _, position in keys]
            what = f"samples {', '.join(map(str, numbers))} do not make a batch: {first_line(error)}"
            raise DataError("data", what, "Give all samples one shape and type: (input, target).") from error

    def _sample(self, epoch: int, position: int) -> Any:
        index = position if self._index is None else int(self._index[position])
        self._slots.note(index)
        before = random.getstate(), np.random.get_state(), torch.get_rng_state()
        try:
            seed = derive(self._seed, epoch, index)
            random.seed(seed)
            np.random.seed(seed % 2**32)
            torch.default_generator.manual_seed(seed)  # torch.manual_seed would also reseed every GPU
            return self._data[index]
        except (Exception, SystemExit) as error:  # a person's dataset may raise anything
            raise unreadable(error, index) from error
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
