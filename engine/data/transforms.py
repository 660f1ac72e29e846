"""Which transforms a recipe can name, and those that treat all samples of a batch alike.

torchvision's v2 takes a second to import. The few that nearly every recipe names are ours, with torchvision's
parameters and results, so that a recipe with no others never imports it.
"""

# B batch · C channels · H height · W width

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, Literal

import torch
from torch import Tensor

from engine import catalog
from engine.catalog import Entry
from engine.errors import RecipeError
from engine.recipe import Part


def as_floats(inputs: Tensor) -> Tensor:
    """Bytes as floats in [0, 1], in memory of their own; other types as they are."""
    return inputs.float().div_(255) if inputs.dtype == torch.uint8 else inputs


class Standardize:
    """Brings every column to mean 0 and standard deviation 1, as measured on the training samples alone.

    Columns that are codes of categories stay as they are.
    """

    def __init__(self) -> None:
        self.mean: Tensor | None = None
        self.std: Tensor | None = None

    def fit(self, inputs: Tensor, codes: int = 0) -> None:
        """Measure `inputs` (N, columns), but for the last `codes`; a constant column keeps its scale."""
        self.mean = inputs.float().mean(0)
        std = inputs.float().std(0, correction=0)
        self.std = torch.where(std > 0, std, torch.ones_like(std))
        if codes:
            self.mean[-codes:], self.std[-codes:] = 0, 1

    def __call__(self, inputs: Tensor) -> Tensor:
        if self.mean is None or self.std is None:
            return inputs
        return (inputs - self.mean.to(inputs.device)) / self.std.to(inputs.device)


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


_OWN = {
    target.__name__: Entry(target.__name__, "transform", target, group)
    for target, group in (
        (Standardize, "tables"),
        (Normalize, "misc"),
        (RandomHorizontalFlip, "geometry"),
        (RandomVerticalFlip, "geometry"),
        (RandomErasing, "augment"),
    )
}


@cache
def transforms() -> Mapping[str, Entry]:
    """Every transform that a recipe can name: torchvision's v2 and our own."""
    from torchvision.transforms import v2  # torchvision takes a second to import

    found = dict(_OWN)
    for name, target in sorted(vars(v2).items()):
        public = isinstance(target, type) and issubclass(target, v2.Transform) and target is not v2.Transform
        if public and name not in found:
            entry = Entry(name, "transform", target, target.__module__.rpartition("._")[2])
            if not any(parameter.required and parameter.takes_function for parameter in entry.parameters):
                found[name] = entry
    return found


def checked(part: Part, where: str) -> Entry:
    """The transform that `part` names. Raises RecipeError for an unknown one and for parameters that it can't have."""
    entry = _OWN.get(part.name) or catalog.find("transform", transforms(), part.name, where)
    entry.check(part.parameters, where)
    return entry


def is_random(entry: Entry) -> bool:
    """Whether the transform draws: torchvision's random ones make their parameters anew for each call."""
    # GaussianNoise draws where it is applied, which its class does not show.
    if entry.name.startswith("Random") or entry.name == "GaussianNoise" or entry.group in ("auto_augment", "augment"):
        return True
    if entry.name in _OWN:
        return False
    from torchvision.transforms import v2  # torchvision takes a second to import

    target: Any = entry.target
    return issubclass(target, v2.Transform) and target.make_params is not v2.Transform.make_params


def fixed(parts: Sequence[Part], where: str = "data.transforms") -> list[Callable[[Tensor], Tensor]]:
    """The recipe's `transforms`, ready to be called on batches of floats.

    Raises RecipeError for an unknown transform or parameter, and for a random one.
    """
    made = []
    for index, part in enumerate(parts):
        entry = checked(part, f"{where}.{index}")
        if is_random(entry):
            raise RecipeError(f"{where}.{index}", f"{part.name} draws at random", "Put it into data.augment.")
        made.append(entry.make(part.parameters, f"{where}.{index}"))
    return made
