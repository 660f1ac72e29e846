"""What a step of augmentation is, and the step that hands sample after sample to torchvision."""

# B batch · C channels · H height · W width · K numbers drawn for a sample

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Generator, Tensor

from engine.data.augmentation.draws import on_device

# torchvision's classes and functions are untyped, and importing them takes a second: what is said of them is said here.
Transform = Any
"""A random transform of torchvision's v2, made with the recipe's parameters."""


class Step(Protocol):
    """Changes a batch of float pictures (B, C, H, W), each sample by draws of its own from `seed`."""

    @property
    def draws_globally(self) -> bool:
        """Whether it uses the process's random number generators: then only the engine thread may call it."""

    def __call__(self, inputs: Tensor, seed: int) -> Tensor: ...


class Vectorised(ABC):
    """A step that draws for all samples at once and changes them all at once, on the device that they are on."""

    draws_globally = False

    @abstractmethod
    def draw(self, count: int, shape: torch.Size, generator: Generator) -> Tensor:
        """Parameters (count, K) on the CPU for samples of `shape` (C, H, W), each row as torchvision would draw it."""

    @abstractmethod
    def apply(self, inputs: Tensor, drawn: Tensor) -> Tensor:
        """`inputs` (B, C, H, W), each sample changed as its row of `drawn` says, as torchvision would change it."""

    def __call__(self, inputs: Tensor, seed: int) -> Tensor:
        drawn = self.draw(len(inputs), inputs.shape[1:], torch.Generator().manual_seed(seed))
        return self.apply(inputs, drawn)


Make = Callable[[Transform], Step | None]
"""Makes a step of a transform; None where the options are not covered."""


class SampleBySample:
    """torchvision's transform called on each sample: slow, but there for every transform and every option."""

    draws_globally = True

    def __init__(self, transform: Transform) -> None:
        self._transform = transform

    def __call__(self, inputs: Tensor, seed: int) -> Tensor:
        generators = [torch.default_generator]
        if inputs.is_cuda:  # some draw on the device of what they are given
            generators.append(torch.cuda.default_generators[inputs.device.index])
        before = [generator.get_state() for generator in generators]
        try:
            for generator in generators:
                generator.manual_seed(seed)
            return torch.stack([self._transform(sample) for sample in inputs])
        finally:
            for generator, state in zip(generators, before, strict=True):
                generator.set_state(state)


class OnBytes(SampleBySample):
    """The same for a transform that takes bytes alone, as JPEG does: it is given the floats in 256 steps."""

    def __call__(self, inputs: Tensor, seed: int) -> Tensor:
        from torchvision.transforms.v2.functional import to_dtype

        codes: Tensor = super().__call__(to_dtype(inputs.cpu(), torch.uint8, scale=True), seed)
        changed: Tensor = to_dtype(codes, inputs.dtype, scale=True)
        return changed.to(inputs.device)


class Fixed:
    """A transform that treats all samples alike, among others of which a sample goes through some."""

    draws_globally = False

    def __init__(self, transform: Callable[[Tensor], Tensor]) -> None:
        self._transform = transform

    def __call__(self, inputs: Tensor, seed: int) -> Tensor:
        return self._transform(inputs)


def check_channels(inputs: Tensor) -> None:
    """Raise TypeError unless `inputs` (B, C, H, W) are grey or coloured."""
    if inputs.shape[1] not in (1, 3):
        raise TypeError(f"Input image tensor permitted channel values are 1 or 3, but found {inputs.shape[1]}")


def fill_of(transform: Transform) -> tuple[float, ...] | None:
    """The transform's `fill`, one number or one a channel. It must not be one that differs by kind of input."""
    fill = transform.fill
    if fill is None:
        return None
    return (float(fill),) if isinstance(fill, (int, float)) else tuple(map(float, fill))


def filling(fill: tuple[float, ...], inputs: Tensor) -> Tensor:
    """`fill` as a scalar tensor or (C, 1, 1) for `inputs` (B, C, H, W). Raises ValueError if it does not fit."""
    if len(fill) == 1:
        return torch.tensor(fill[0], dtype=inputs.dtype)  # one number goes with tensors on any device
    if len(fill) != inputs.shape[1]:
        raise ValueError(f"{len(fill)} values do not fit {inputs.shape[1]} channels")
    return on_device(torch.tensor(fill, dtype=inputs.dtype).view(-1, 1, 1), inputs.device)
