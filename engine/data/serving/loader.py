"""Batches of samples that are read one by one, here or by worker processes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from engine.data.samples import MapDataset, Samples
from engine.data.serving.ahead import Ahead, Streams, side_stream
from engine.data.serving.batches import Batch, Finish
from engine.data.serving.fetching import Classes, Partial, Skipped
from engine.data.serving.loading import Loading
from engine.data.serving.order import Drawing, Order
from engine.data.serving.readers import Readers
from engine.data.serving.workers import Failed
from engine.seeds import derive


class LoaderBatches:
    """For datasets that do not fit, user-defined ones, and `num_workers`.

    `readers` read the samples, and those of other parts; None stands for readers of its own, this thread or `workers`
    processes. An error of the dataset itself is a DataError with the sample's number. Neither that nor a worker's end
    can be gone on with: `close` is next. `streams` copy to the device beside the training; None is the device's own
    way, where it has one. Samples that can't be read, or are of none of the `classes`, are `skipped`; None says that
    they end the run.
    """

    def __init__(
        self, data: Samples | MapDataset, index: Tensor | None, finish: Finish, batch_size: int, device: torch.device,
        *, readers: Readers | None = None, workers: int = 0, seed: int | None = None, drop_last: bool = False,
        patience_s: float = 300.0, streams: Streams | None = None, drawing: Drawing | None = None,
        skipped: Skipped | None = None, classes: Classes | None = None,
    ) -> None:  # fmt: skip
        count = len(data) if index is None else len(index)
        self._order = Order(count, batch_size, seed, drop_last, index, drawing)
        self.samples, self.batch_size = self._order.samples, batch_size
        self._count, self._skipped = count, skipped
        self._missing: set[int] = set()  # numbers of samples that could not be read
        self._finish, self._device, self.copy_seconds = finish, device, 0.0
        self._streams = streams or side_stream(device)
        self._ahead: Ahead | None = None
        self._readers = readers or Readers(Loading(workers, pinned=device.type == "cuda"), patience_s)
        self.workers = self._readers.workers
        skip = skipped is not None
        self._part = self._readers.part(data, index, derive(seed or 0, 2), skip=skip, classes=classes)

    @property
    def steps(self) -> int:
        return self._order.steps

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        if self._readers.ended:
            return
        keys = [(epoch, position) for position in self._order.of(epoch)[start:].tolist()]
        batches = [keys[first : first + self.batch_size] for first in range(0, len(keys), self.batch_size)]
        raws = self._part.read(batches, derive(self._order.seed or 0, epoch, 3))
        if self._streams:
            raws = self._ahead = Ahead(raws, self._streams)
        for first, raw in zip(range(start, self.samples, self.batch_size), raws, strict=True):
            if isinstance(raw, Partial) and raw.stands_in and self._order.seed is None:
                self._note(raw)  # evaluation would count the sample that stands in twice
                continue
            yield self._finished(raw, epoch, first)

    def indices(self, epoch: int, start: int) -> list[int]:
        positions = self._order.positions(epoch, start)
        numbers = [number for number in self._order.numbers(positions) if number not in self._missing]
        if numbers:
            return numbers
        after = (int(positions[-1]) + 1 + torch.arange(self._count)) % self._count
        return [number for number in self._order.numbers(after) if number not in self._missing][:1]

    def peek(self, epoch: int, start: int) -> Batch:
        """Read here and not by the workers, which have an epoch of their own before them."""
        positions = self._order.positions(epoch, start).tolist()
        return self._finished(self._part.here([(epoch, position) for position in positions]), epoch, start)

    def to(self, device: torch.device) -> None:
        """Between two batches nothing lies on the device but what is copied ahead."""
        if self._ahead:
            self._ahead.to(device)

    def _finished(self, raw: Any, epoch: int, first: int) -> Batch:
        """A raw batch on the device, augmented as (seed, epoch, first) say."""
        if isinstance(raw, Failed):
            raw.throw()
        began, skipped = time.perf_counter(), 0
        if isinstance(raw, Partial):
            self._note(raw)
            skipped, raw = raw.lacking, (raw.inputs, raw.targets)
        inputs, targets = (part.to(self._device, non_blocking=True) for part in raw)
        seed = self._order.batch_seed(epoch, first)
        batch = self._finish.batch(inputs, self._finish.targets(targets), seed, skipped)
        self.copy_seconds += time.perf_counter() - began
        return batch

    def _note(self, raw: Partial) -> None:
        assert self._skipped is not None, "samples were left out of a run that is to stop at them"
        self._missing.update(number for number, _ in raw.bad)
        self._skipped.note(bad for _, bad in raw.bad)

    def close(self) -> None:
        """Let go of the readers, which then read nothing for others either."""
        if self._ahead:
            self._ahead.close()
        self._readers.close()
