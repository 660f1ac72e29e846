"""How large a batch fits into the memory, and how fast each size is: real steps with doubling batches."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch.nn.modules.batchnorm import _BatchNorm

from engine.data.samples import Progress
from engine.data.serving.batches import Batch
from engine.recipe import Recipe
from engine.training.control import Control
from engine.trials.trial import trial

_LARGEST = 1 << 16
_SLOW_S = 5.0  # a step longer than that, and the next size is not tried
_ENOUGH = 0.9  # a batch as fast as that share of the fastest is recommended if it is smaller
# What would stand between a size and the memory, or between it and the data.
_PLAIN = {
    "training.accumulate": 1,
    "training.on_nan": "stop",
    "training.health_every": 0,
    "training.limit_batches": 0,
    "training.overfit_one_batch": False,
}


@dataclass(frozen=True)
class Size:
    """One batch size: the seconds of a step (least of three), and the most memory torch held, where it can tell."""

    samples: int
    seconds: float
    peak_bytes: int | None

    @property
    def samples_per_second(self) -> float:
        return self.samples / self.seconds


@dataclass(frozen=True)
class BatchSizes:
    """What was measured. `too_large` is the size that did not fit, None if all did; `whole`: the last is all data."""

    sizes: Sequence[Size]
    too_large: int | None
    whole: bool = False

    @property
    def recommended(self) -> int:
        """The smallest size that is about as fast as the fastest."""
        fastest = max(size.samples_per_second for size in self.sizes)
        return next(size.samples for size in self.sizes if size.samples_per_second >= _ENOUGH * fastest)

    def settings(self, batch_size: int) -> dict[str, int]:
        """`data.batch_size` and `training.accumulate` that keep the effective batch and use what fits."""
        parts = 1 if self.whole else -(-batch_size // self.sizes[-1].samples)
        return {"data.batch_size": batch_size, "training.accumulate": parts}


def find_batch_size(
    recipe: Recipe,
    progress: Progress,
    *,
    largest: int = _LARGEST,
    control: Control | None = None,
    look: Callable[[Size], None] = lambda size: None,
) -> BatchSizes:
    """Take three steps with 1, 2, 4, … samples until one does not fit, is slow, exceeds `largest`, or is all the data.

    A model with batch norm, which has nothing to measure on a single sample, begins with 2. The samples are the first
    batch of the training data, over again. Raises Stopped by `control`, TrainingError when not even one sample fits,
    and whatever training the recipe raises.
    """
    plain = recipe.override(_PLAIN)
    sizes: list[Size] = []
    with trial(plain, progress, control) as tried:
        pool = tried.first_batch()
        size = 2 if any(isinstance(module, _BatchNorm) for module in tried.state.model.modules()) else 1
        while not sizes or size <= largest:
            measured = _measure(tried.state.device, tried.fits, _of_size(pool, size))
            if measured is None:
                return BatchSizes(sizes, size)
            sizes.append(measured)
            look(measured)
            if size >= tried.samples:
                return BatchSizes(sizes, None, whole=True)
            if measured.seconds > _SLOW_S:
                break
            size = min(2 * size, tried.samples)
    return BatchSizes(sizes, None)


def _measure(device: torch.device, step: Callable[[Batch], bool], batch: Batch) -> Size | None:
    """None when the batch does not fit."""
    cuda = device.type == "cuda"
    if cuda:
        torch.cuda.reset_peak_memory_stats(device)
    seconds = []
    for _ in range(3):
        began = time.perf_counter()
        if not step(batch):
            return None
        if cuda:
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - began)
    return Size(len(batch), min(seconds), torch.cuda.max_memory_allocated(device) if cuda else None)


def _of_size(pool: Batch, size: int) -> Batch:
    index = torch.arange(size, device=pool.inputs.device) % len(pool)
    return Batch(pool.inputs[index], pool.targets[index])
