"""Which samples come when: an order for each epoch that depends on (seed, epoch) alone."""

# N samples that can be drawn · K classes

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Generator, Tensor

from engine.seeds import derive


class Drawing(Protocol):
    """How an epoch's samples are drawn. `samples` are drawn an epoch, out of as many or more or fewer."""

    @property
    def samples(self) -> int: ...

    def __call__(self, generator: Generator) -> Tensor:
        """The positions (samples,) of an epoch."""


class Shuffled:
    """Every sample once an epoch."""

    def __init__(self, samples: int) -> None:
        self.samples = samples

    def __call__(self, generator: Generator) -> Tensor:
        return torch.randperm(self.samples, generator=generator)


class Mixture:
    """Samples of several datasets that lie one behind the other, those of each drawn `weight` times an epoch.

    A weight of 2.5 draws each twice, and half of them once more, others in each epoch.
    """

    def __init__(self, sizes: Sequence[int], weights: Sequence[float]) -> None:
        self._sizes = sizes
        self._times = [int(weight) for weight in weights]
        parts = zip(sizes, weights, strict=True)
        self._more = [round(size * (weight - int(weight))) for size, weight in parts]
        self.samples = mixed_samples(sizes, weights)

    def __call__(self, generator: Generator) -> Tensor:
        drawn: list[Tensor] = []
        first = 0
        for size, times, more in zip(self._sizes, self._times, self._more, strict=True):
            drawn += [torch.arange(first, first + size)] * times
            if more:
                drawn.append(first + torch.randperm(size, generator=generator)[:more])
            first += size
        positions = torch.cat(drawn)
        return positions[torch.randperm(len(positions), generator=generator)]


class Balanced:
    """Each class equally often, its samples drawn with replacement, each as likely as its weight says.

    Of `labels` (N,) those below 0 or from `classes` on are of no class: they are not drawn.
    """

    def __init__(self, labels: Tensor, classes: int, samples: int, weights: Tensor | None = None) -> None:
        self.samples = samples
        known = ((labels >= 0) & (labels < classes)).nonzero().flatten()
        by_class = labels[known].argsort(stable=True)
        self._positions = known[by_class]  # class after class
        counts = torch.bincount(labels[known], minlength=classes)
        ends = counts.cumsum(0)
        self._present = counts.nonzero().flatten()
        weight = torch.ones(len(known), dtype=torch.float64) if weights is None else weights[self._positions].double()
        self._below = torch.cat([torch.zeros(1, dtype=torch.float64), weight.cumsum(0)])
        self._first, self._last = (ends - counts)[self._present], ends[self._present] - 1

    def __call__(self, generator: Generator) -> Tensor:
        # Which classes get one more, where the samples can't be shared out evenly, is drawn too.
        order = torch.randperm(len(self._present), generator=generator)
        place = order[torch.arange(self.samples) % len(order)]
        place = place[torch.randperm(self.samples, generator=generator)]
        low, high = self._below[self._first[place]], self._below[self._last[place] + 1]
        drawn = low + (high - low) * torch.rand(self.samples, generator=generator, dtype=torch.float64)
        found = torch.searchsorted(self._below, drawn, right=True) - 1
        return self._positions[found.clamp(self._first[place], self._last[place])]


class Order:
    """Which samples come when. Training draws by (seed, epoch); evaluation, without a seed, keeps them as they stand.

    `index` gives positions their numbers in the dataset that they were chosen from.
    """

    def __init__(
        self,
        samples: int,
        batch_size: int,
        seed: int | None,
        drop_last: bool,
        index: Tensor | None = None,
        drawing: Drawing | None = None,
    ) -> None:
        self.batch_size, self.seed = batch_size, seed
        self._index = index
        self._drawing = drawing or Shuffled(samples)
        drawn = self._drawing.samples
        whole = drawn // batch_size * batch_size
        self.samples = whole if drop_last and whole else drawn

    @property
    def steps(self) -> int:
        """Batches in an epoch."""
        return -(-self.samples // self.batch_size)

    def of(self, epoch: int) -> Tensor:
        """The positions of an epoch's samples, (samples,)."""
        if self.seed is None:
            return torch.arange(self.samples)
        return self._drawing(torch.Generator().manual_seed(derive(self.seed, epoch)))[: self.samples]

    def positions(self, epoch: int, start: int) -> Tensor:
        """The positions of the samples in the batch that begins at sample `start`."""
        return self.of(epoch)[start : start + self.batch_size]

    def numbers(self, positions: Tensor) -> list[int]:
        """The dataset's own numbers of the samples at these positions."""
        chosen: list[int] = (positions if self._index is None else self._index[positions]).tolist()
        return chosen

    def batch_seed(self, epoch: int, start: int) -> int:
        """What a batch's random changes are drawn from."""
        return derive(self.seed or 0, epoch, start // self.batch_size, 1)


def mixed_samples(sizes: Sequence[int], weights: Sequence[float]) -> int:
    """How many samples an epoch has in which those of each dataset are drawn `weight` times."""
    parts = zip(sizes, weights, strict=True)
    return sum(size * int(weight) + round(size * (weight - int(weight))) for size, weight in parts)
