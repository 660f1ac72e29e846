"""Batches through a DataLoader, read here or by its workers."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Sampler

from engine.data.samples import MapDataset, Samples
from engine.data.serving.ahead import Ahead, Streams, side_stream
from engine.data.serving.batches import Batch, Finish
from engine.data.serving.fetching import Fetch, Partial, Skipped
from engine.data.serving.order import Drawing, Order
from engine.data.serving.workers import Failed, Slots, Watch, start_forkserver
from engine.seeds import derive


class LoaderBatches:
    """For datasets that do not fit, user-defined ones, and `num_workers`.

    Workers start by forkserver: forking a process with running threads can deadlock the child. One that dies, or reads
    a sample for longer than `patience_s`, ends the epoch with a TrainingError that names it and the sample; an error
    of the dataset itself is a DataError with the sample's number. Neither can be gone on with: `close` is next.
    `streams` copy to the device beside the training; None is the device's own way, where it has one. Samples that can't
    be read are `skipped`; None says that they end the run.
    """

    def __init__(
        self, data: Samples | MapDataset, index: Tensor | None, finish: Finish, batch_size: int, device: torch.device,
        *, workers: int = 0, seed: int | None = None, drop_last: bool = False, patience_s: float = 300.0,
        streams: Streams | None = None, drawing: Drawing | None = None, skipped: Skipped | None = None,
        prefetch: int = 2,
    ) -> None:  # fmt: skip
        count = len(data) if index is None else len(index)
        self._order = Order(count, batch_size, seed, drop_last, index, drawing)
        self.samples, self.batch_size, self.workers = self._order.samples, batch_size, workers
        self._count, self._skipped = count, skipped
        self._missing: set[int] = set()  # numbers of samples that could not be read
        self._finish, self._device, self.copy_seconds = finish, device, 0.0
        self._streams = streams or side_stream(device)
        self._ahead: Ahead | None = None
        self._sampler, self._generator = _EpochSampler(batch_size), torch.Generator()
        slots = Slots(workers)
        self._watch = Watch(slots, patience_s) if workers else None
        self._fetch = Fetch(data, index, derive(seed or 0, 2), slots, skip=skipped is not None)
        if workers:
            start_forkserver()
        self._loader: DataLoader[Any] | None = DataLoader(
            self._fetch,
            batch_sampler=self._sampler,
            collate_fn=_as_it_is,
            num_workers=workers,
            persistent_workers=workers > 0,
            prefetch_factor=prefetch if workers else None,
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


def _as_it_is(batch: Any) -> Any:
    return batch
