"""Batches cut short for a quick look: a few steps an epoch, or one batch over and over."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice, repeat

import torch

from engine.data.serving.batches import Batch, Batches


class Limited:
    """The first `steps` batches of each epoch of `batches`."""

    def __init__(self, batches: Batches, steps: int) -> None:
        self._batches = batches
        self.batch_size = batches.batch_size
        self.samples = min(batches.samples, steps * batches.batch_size)
        self.workers = batches.workers

    @property
    def steps(self) -> int:
        return -(-self.samples // self.batch_size)

    @property
    def copy_seconds(self) -> float:
        return self._batches.copy_seconds

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        left = -(-(self.samples - start) // self.batch_size)
        return islice(self._batches.epoch(epoch, start), max(0, left))

    def indices(self, epoch: int, start: int) -> list[int]:
        return self._batches.indices(epoch, start)

    def peek(self, epoch: int, start: int) -> Batch:
        return self._batches.peek(epoch, start)

    def to(self, device: torch.device) -> None:
        self._batches.to(device)

    def close(self) -> None:
        self._batches.close()


class Repeated:
    """The first batch of epoch 0, `steps` times an epoch: the very same numbers, augmented once.

    A model that can't learn one batch by heart has a mistake in it.
    """

    def __init__(self, batches: Batches, steps: int) -> None:
        self._batches = batches
        self.batch_size = min(batches.batch_size, batches.samples)
        self.steps, self.workers = steps, batches.workers
        self.samples = steps * self.batch_size
        self._batch: Batch | None = None

    @property
    def copy_seconds(self) -> float:
        return self._batches.copy_seconds

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        # Asked for anew at each step: between two of them the batch may have been moved.
        return (self.peek(epoch, start) for _ in repeat(None, self.steps - start // self.batch_size))

    def indices(self, epoch: int, start: int) -> list[int]:
        return self._batches.indices(0, 0)

    def peek(self, epoch: int, start: int) -> Batch:
        if self._batch is None:
            self._batch = self._batches.peek(0, 0)
        return replace(self._batch, inputs=self._batch.inputs.clone())  # a model may write into its inputs

    def to(self, device: torch.device) -> None:
        self._batches.to(device)
        self._batch = self._batch and self._batch.to(device)

    def close(self) -> None:
        self._batch = None
        self._batches.close()
