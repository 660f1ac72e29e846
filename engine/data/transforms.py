"""Fixed transforms of whole batches, and augmentation that draws anew for every sample.

A torchvision v2 transform draws one set of parameters a call, so a random one called on a batch would crop every sample
alike. Here a batch is augmented by vectorised code that draws per sample, or sample by sample where there is none.
"""

# B batch · C channels · H height · W width

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.transforms import v2

from engine import catalog
from engine.catalog import Entry
from engine.errors import RecipeError
from engine.recipe import Part
from engine.seeds import derive


class Standardize:
    """Brings every column to mean 0 and standard deviation 1, as measured on the training samples alone."""

    def __init__(self) -> None:
        self.mean: Tensor | None = None
        self.std: Tensor | None = None

    def fit(self, inputs: Tensor) -> None:
        """Measure `inputs` (N, columns); a constant column keeps its scale."""
        self.mean = inputs.float().mean(0)
        std = inputs.float().std(0, correction=0)
        self.std = torch.where(std > 0, std, torch.ones_like(std))

    def __call__(self, inputs: Tensor) -> Tensor:
        if self.mean is None or self.std is None:
            return inputs
        return (inputs - self.mean.to(inputs.device)) / self.std.to(inputs.device)


@cache
def transforms() -> Mapping[str, Entry]:
    """Every transform that a recipe can name: torchvision's v2 and our Standardize."""
    found = {"Standardize": Entry("Standardize", "transform", Standardize, "tables")}
    for name, target in sorted(vars(v2).items()):
        if isinstance(target, type) and issubclass(target, v2.Transform) and target is not v2.Transform:
            entry = Entry(name, "transform", target, target.__module__.rpartition("._")[2])
            if not any(parameter.required and parameter.takes_function for parameter in entry.parameters):
                found[name] = entry
    return found


def is_random(entry: Entry) -> bool:
    """Whether the transform draws: torchvision's random ones make their parameters anew for each call."""
    target: Any = entry.target
    draws = issubclass(target, v2.Transform) and target.make_params is not v2.Transform.make_params
    # GaussianNoise draws where it is applied, which its class does not show.
    named = entry.name.startswith("Random") or entry.name == "GaussianNoise"
    return draws or named or entry.group in ("auto_augment", "augment")


def fixed(parts: Sequence[Part], where: str = "data.transforms") -> list[Callable[[Tensor], Tensor]]:
    """The recipe's `transforms`, ready to be called on batches of floats.

    Raises RecipeError for an unknown transform or parameter, and for a random one.
    """
    made = []
    for index, part in enumerate(parts):
        entry = _checked(part, f"{where}.{index}")
        if is_random(entry):
            raise RecipeError(f"{where}.{index}", f"{part.name} draws at random", "Put it into data.augment.")
        made.append(entry.make(part.parameters, f"{where}.{index}"))
    return made


class Augment:
    """The recipe's `augment`: random changes of (B, C, H, W) float images, drawn for each sample from one seed."""

    def __init__(self, parts: Sequence[Part], where: str = "data.augment") -> None:
        self._steps = []
        for index, part in enumerate(parts):
            entry = _checked(part, f"{where}.{index}")
            if not is_random(entry):
                raise RecipeError(f"{where}.{index}", f"{part.name} draws nothing", "Put it into data.transforms.")
            transform = entry.make(part.parameters, f"{where}.{index}")
            self._steps.append(_VECTORISED.get(part.name, _sample_by_sample)(transform))
        self.draws_globally = any(part.name not in _VECTORISED for part in parts)
        """Whether it uses the process's random number generators: then only the engine thread may call it."""

    def __bool__(self) -> bool:
        return bool(self._steps)

    def __call__(self, inputs: Tensor, seed: int) -> Tensor:
        for index, step in enumerate(self._steps):
            inputs = step(inputs, derive(seed, index))
        return inputs


Step = Callable[[Tensor, int], Tensor]


def _checked(part: Part, where: str) -> Entry:
    entry = catalog.find("transform", transforms(), part.name, where)
    entry.check(part.parameters, where)
    return entry


def _sample_by_sample(transform: Any) -> Step:
    def step(inputs: Tensor, seed: int) -> Tensor:
        generators = [torch.default_generator]
        if inputs.is_cuda:  # some draw on the device of what they are given
            generators.append(torch.cuda.default_generators[inputs.device.index])
        before = [generator.get_state() for generator in generators]
        try:
            for generator in generators:
                generator.manual_seed(seed)
            return torch.stack([transform(sample) for sample in inputs])
        finally:
            for generator, state in zip(generators, before, strict=True):
                generator.set_state(state)

    return step


def _flip(dimension: int) -> Callable[[Any], Step]:
    def make(transform: Any) -> Step:
        def step(inputs: Tensor, seed: int) -> Tensor:
            draws = torch.rand(len(inputs), generator=torch.Generator().manual_seed(seed))
            chosen = (draws < transform.p).to(inputs.device).view(-1, 1, 1, 1)
            return torch.where(chosen, inputs.flip(dimension), inputs)

        return step

    return make


def _crop(transform: Any) -> Step:
    if transform.padding_mode != "constant" or transform.pad_if_needed or transform.fill not in (0, None):
        return _sample_by_sample(transform)
    height, width = transform.size
    sides = transform.padding or [0, 0, 0, 0]  # torchvision keeps it as left, right, top, bottom, as F.pad takes it

    def step(inputs: Tensor, seed: int) -> Tensor:
        padded = F.pad(inputs, sides) if any(sides) else inputs  # (B, C, H', W')
        spare_rows, spare_columns = padded.shape[-2] - height, padded.shape[-1] - width
        generator = torch.Generator().manual_seed(seed)
        count = len(inputs)
        top = torch.randint(spare_rows + 1, (count, 1), generator=generator).to(inputs.device)
        left = torch.randint(spare_columns + 1, (count, 1), generator=generator).to(inputs.device)
        rows = top + torch.arange(height, device=inputs.device)  # (B, H)
        columns = left + torch.arange(width, device=inputs.device)  # (B, W)
        sample = torch.arange(count, device=inputs.device)
        picked = padded[sample[:, None, None], :, rows[:, :, None], columns[:, None, :]]  # (B, H, W, C)
        return picked.permute(0, 3, 1, 2).contiguous()

    return step


_VECTORISED: dict[str, Callable[[Any], Step]] = {
    "RandomHorizontalFlip": _flip(-1),
    "RandomVerticalFlip": _flip(-2),
    "RandomCrop": _crop,
}
