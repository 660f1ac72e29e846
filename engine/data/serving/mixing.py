"""MixUp and CutMix: samples of a batch mixed with each other, and their classes with them."""

# B batch · C channels · H height · W width · K classes

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor

from engine.data.transforms import as_floats, checked
from engine.errors import RecipeError
from engine.recipe import Part
from engine.seeds import derive

Mix = Callable[[Tensor, Tensor, float, Generator], tuple[Tensor, Tensor]]
"""Inputs (B, …), shares (B, K), alpha and random numbers → both mixed."""


def mix_up(inputs: Tensor, shares: Tensor, alpha: float, draw: Generator) -> tuple[Tensor, Tensor]:
    """Each sample λ · itself + (1 - λ) · the one before it, λ from Beta(alpha, alpha) (arXiv:1710.09412)."""
    return mixed_up(inputs, shares, draw.beta(alpha, alpha))


def mixed_up(inputs: Tensor, shares: Tensor, kept: float) -> tuple[Tensor, Tensor]:
    """`mix_up` for λ = `kept`; the batch is shuffled, so that the one before is any other."""
    return _blended(inputs, kept), _blended(shares, kept)


def cut_mix(inputs: Tensor, shares: Tensor, alpha: float, draw: Generator) -> tuple[Tensor, Tensor]:
    """A rectangle of each picture, about 1 - λ of its area, from the one before it (arXiv:1905.04899)."""
    if inputs.ndim < 4:
        raise ValueError("CutMix cuts pictures: samples of (channels, height, width)")
    kept = draw.beta(alpha, alpha)
    x, y = int(draw.integers(inputs.shape[-1])), int(draw.integers(inputs.shape[-2]))
    return cut_and_mixed(inputs, shares, kept, x, y)


def cut_and_mixed(inputs: Tensor, shares: Tensor, kept: float, x: int, y: int) -> tuple[Tensor, Tensor]:
    """`cut_mix` for λ = `kept` and a rectangle around (x, y), which may reach over the border and is cut there."""
    height, width = inputs.shape[-2:]
    half = 0.5 * math.sqrt(1.0 - kept)
    beside, above = int(half * width), int(half * height)
    left, right = max(x - beside, 0), min(x + beside, width)
    top, bottom = max(y - above, 0), min(y + above, height)
    mixed = inputs.clone()
    mixed[..., top:bottom, left:right] = inputs.roll(1, 0)[..., top:bottom, left:right]
    return mixed, _blended(shares, 1.0 - (right - left) * (bottom - top) / (width * height))


def _blended(values: Tensor, kept: float) -> Tensor:
    return values.roll(1, 0).mul_(1.0 - kept).add_(values.mul(kept))


MIXES: Mapping[str, Mix] = {"MixUp": mix_up, "CutMix": cut_mix}


class Mixing:
    """What of the recipe's `augment` mixes samples: the last ones in it, applied to a batch that is otherwise ready.

    Raises RecipeError for parameters that don't fit.
    """

    def __init__(self, parts: Sequence[Part], classes: int, where: str = "data.augment") -> None:
        self._classes = classes
        self._steps = [
            (position, MIXES[part.name], _alpha(part, f"{where}.{position}", classes))
            for position, part in enumerate(parts)
            if part.name in MIXES
        ]

    def __bool__(self) -> bool:
        return bool(self._steps)

    def __call__(self, inputs: Tensor, targets: Tensor, seed: int) -> tuple[Tensor, Tensor]:
        """Inputs (B, …) and class numbers (B,) → mixed inputs, and the share (B, K) that each class has in them.

        A number below 0 is of no class, as torch's `ignore_index` is: it has no share.
        """
        inputs = as_floats(inputs)
        # Not one_hot: on a GPU it waits for the greatest class.
        shares = torch.zeros(len(targets), self._classes, device=targets.device)
        rows = targets.unsqueeze(1)
        shares.scatter_(1, rows.clamp_min(0), (rows >= 0).float())
        for position, mix, alpha in self._steps:
            inputs, shares = mix(inputs, shares, alpha, np.random.default_rng(derive(seed, position)))
        return inputs, shares


def mixing_part(parts: Sequence[Part]) -> int | None:
    """The position of the first of `parts` that mixes samples."""
    return next((position for position, part in enumerate(parts) if part.name in MIXES), None)


def _alpha(part: Part, where: str, classes: int) -> float:
    entry = checked(part, where)
    for name, value in part.parameters.items():
        if name == "labels_getter" or (name == "num_classes" and value not in (None, classes)):
            raise RecipeError(f"{where}.{name}", "follows from the data", "Remove it.")
    entry.make(part.parameters, where)  # says what torchvision does not take
    return float(part.parameters.get("alpha", 1.0))
