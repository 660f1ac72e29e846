"""Transforms of our own that nearly every recipe names, with torchvision's parameters and results where it has them."""

# B batch · C channels · H height · W width

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

import torch
from torch import Tensor


def as_floats(inputs: Tensor) -> Tensor:
    """Bytes as floats in [0, 1], in memory of their own; other types as they are."""
    return inputs.float().div_(255) if inputs.dtype == torch.uint8 else inputs


class Standardize:
    """Brings every column to mean 0 and standard deviation 1, as measured on the training samples alone.

    Columns that are codes of categories stay as they are. Of sound every channel, and every band of a spectrogram, over
    all its steps.
    """

    def __init__(self, rate: int = 0) -> None:
        self._sound = rate > 0
        self.mean: Tensor | None = None
        self.std: Tensor | None = None

    def fit(self, inputs: Tensor, codes: int = 0) -> None:
        """Measure `inputs` (N, columns) but for the last `codes`, of sound (N, channels, …, steps).

        A constant column keeps its scale.
        """
        values = _steps_as_samples(inputs) if self._sound else inputs
        self._measured(values.float().mean(0), values.float().std(0, correction=0), codes)

    def fit_batches(self, batches: Iterable[Tensor], codes: int = 0) -> None:
        """Measure the same of samples that come in batches, of which one at a time is in memory."""
        count, shift, total, squares = 0, torch.zeros(()), torch.zeros(()).double(), torch.zeros(()).double()
        for batch in batches:
            values = (_steps_as_samples(batch) if self._sound else batch).double().cpu()
            if not count:
                shift = values.mean(0)  # sums of what is far from 0 lose the digits in which it differs
            values = values - shift
            count, total, squares = count + len(values), total + values.sum(0), squares + values.square().sum(0)
        if count:
            mean = total / count
            variance = squares / count - mean.square()
            constant = variance <= 1e-24 * (mean + shift).square()  # but for the rounding of sums
            self._measured((mean + shift).float(), variance.masked_fill(constant, 0).sqrt().float(), codes)

    def _measured(self, mean: Tensor, std: Tensor, codes: int) -> None:
        if codes:
            mean[-codes:], std[-codes:] = 0, 1
        std = torch.where(std > 0, std, torch.ones_like(std))
        self.mean, self.std = (mean.unsqueeze(-1), std.unsqueeze(-1)) if self._sound else (mean, std)

    def __call__(self, inputs: Tensor) -> Tensor:
        if self.mean is None or self.std is None:
            return inputs
        return (inputs - self.mean.to(inputs.device)).div_(self.std.to(inputs.device))

    def in_place(self, inputs: Tensor) -> Tensor:
        """The same, into the memory of `inputs`."""
        if self.mean is None or self.std is None:
            return inputs
        return inputs.sub_(self.mean.to(inputs.device)).div_(self.std.to(inputs.device))


def _steps_as_samples(sound: Tensor) -> Tensor:
    """(N, channels, …, steps) → (N · steps, channels, …)."""
    return sound.movedim(-1, 1).flatten(0, 1)


class Normalize:
    """Subtracts a mean from each channel and divides it by a standard deviation.

    Args:
        mean (sequence): the mean of each channel, or one for all.
        std (sequence): the standard deviation of each channel, or one for all.
        inplace (bool): has no effect: a dataset is never written into.
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float], inplace: bool = False) -> None:
        if not all(std):
            raise ValueError("std evaluated to zero, leading to division by zero.")
        self._mean, self._std = tuple(mean), tuple(std)
        self._ready: dict[tuple[torch.device, torch.dtype], tuple[Tensor, Tensor]] = {}

    def __call__(self, inputs: Tensor) -> Tensor:
        """Floats (…, C, H, W). Raises TypeError and ValueError for other inputs."""
        mean, std = self._constants(inputs)
        return inputs.sub(mean).div_(std)

    def in_place(self, inputs: Tensor) -> Tensor:
        """The same, into the memory of `inputs` where the result has their shape."""
        mean, std = self._constants(inputs)
        if not {len(mean), len(std)} <= {1, inputs.shape[-3]}:
            return self(inputs)  # grey pictures become coloured ones by three means
        return inputs.sub_(mean).div_(std)

    def _constants(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and deviation as (C, 1, 1), sent to the device once."""
        if not inputs.is_floating_point():
            raise TypeError(f"Input tensor should be a float tensor. Got {inputs.dtype}.")
        if inputs.ndim < 3:
            raise ValueError(f"Expected tensor to be a tensor image of size (..., C, H, W). Got {inputs.shape}.")
        key = inputs.device, inputs.dtype
        if key not in self._ready:
            mean, std = (torch.tensor(values, dtype=inputs.dtype).view(-1, 1, 1) for values in (self._mean, self._std))
            self._ready[key] = mean.to(inputs.device), std.to(inputs.device)
        return self._ready[key]


def _check_probability(p: float) -> None:
    if not 0 <= p <= 1:
        raise ValueError("`p` should be a floating point value in the interval [0.0, 1.0].")


class _Flip:
    def __init__(self, p: float = 0.5) -> None:
        _check_probability(p)
        self.p = p


class RandomHorizontalFlip(_Flip):
    """Mirrors a sample left to right with a given probability.

    Args:
        p (float): the probability.
    """


class RandomVerticalFlip(_Flip):
    """Mirrors a sample top to bottom with a given probability.

    Args:
        p (float): the probability.
    """


class RandomErasing:
    """Erases a rectangle of random place, area and aspect with a given probability.

    Args:
        p (float): the probability.
        scale (tuple): least and greatest share of the sample's area.
        ratio (tuple): least and greatest quotient of the sides.
        value (float): what stands there then: one number, one a channel, or "random" for normal noise.
        inplace (bool): has no effect: a dataset is never written into.
    """

    # torchvision takes all three as `value`, but annotates a float, by which a recipe could not say the others.
    def __init__(
        self,
        p: float = 0.5,
        scale: Sequence[float] = (0.02, 0.33),
        ratio: Sequence[float] = (0.3, 3.3),
        value: float | Sequence[float] | Literal["random"] = 0.0,
        inplace: bool = False,
    ) -> None:
        _check_probability(p)
        for name, limits in (("scale", scale), ("ratio", ratio)):
            if len(limits) != 2 or not 0 <= limits[0] <= limits[1]:
                raise ValueError(f"{name} should be two numbers, the lesser first")
        if scale[1] > 1:
            raise ValueError("Scale should be between 0 and 1")
        if ratio[0] == 0:
            raise ValueError("ratio should be above 0")
        self.p, self.scale, self.ratio = p, scale, ratio
        numbers = (value,) if isinstance(value, (int, float)) else value
        self.value = None if numbers == "random" else tuple(map(float, numbers))
