"""Which transforms a recipe can name, and those that treat all samples of a batch alike.

torchvision's v2 takes a second to import. The few that nearly every recipe names are ours, with torchvision's
parameters and results, so that a recipe with no others never imports it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

from torch import Tensor

from engine import catalog
from engine.catalog import Entry
from engine.data.transforms.plain import (
    Normalize,
    RandomErasing,
    RandomHorizontalFlip,
    RandomVerticalFlip,
    Standardize,
)
from engine.data.transforms.sound import LogMelSpectrogram, MelSpectrogram, Spectrogram
from engine.errors import RecipeError
from engine.recipe import Part

SOUND = "audio"
"""The group of transforms that only sound has: they are given its rate, which a recipe does not write."""
_OWN = {
    target.__name__: Entry(target.__name__, "transform", target, group, frozenset({*Entry.hidden, "rate"}))
    for target, group in (
        (Standardize, "tables"),
        (Normalize, "misc"),
        (RandomHorizontalFlip, "geometry"),
        (RandomVerticalFlip, "geometry"),
        (RandomErasing, "augment"),
        (Spectrogram, SOUND),
        (MelSpectrogram, SOUND),
        (LogMelSpectrogram, SOUND),
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


def fixed(parts: Sequence[Part], where: str = "data.transforms", *, rate: int = 0) -> list[Callable[[Tensor], Tensor]]:
    """The recipe's `transforms`, ready to be called on batches of floats; `rate` is that of sound, 0 of other data.

    Raises RecipeError for an unknown transform or parameter, for a random one, and for one of sound on other data.
    """
    made = []
    for index, part in enumerate(parts):
        at = f"{where}.{index}"
        entry = checked(part, at)
        if is_random(entry):
            raise RecipeError(at, f"{part.name} draws at random", "Put it into data.augment.")
        if entry.group == SOUND and not rate:
            raise RecipeError(at, f"{part.name} is for sound, and the data is none", "Remove it.")
        known = {"rate": rate} if entry.group == SOUND or entry.target is Standardize else {}
        made.append(entry.make({**part.parameters, **known}, at))
    return made
