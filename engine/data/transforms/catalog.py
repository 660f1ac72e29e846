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
from engine.data.transforms.function import Lambda
from engine.data.transforms.linear import LinearTransformation
from engine.data.transforms.nested import LISTED, empty, flattened, held
from engine.data.transforms.plain import (
    Normalize,
    RandomErasing,
    RandomHorizontalFlip,
    RandomVerticalFlip,
    Standardize,
    as_floats,
)
from engine.data.transforms.sound import LogMelSpectrogram, MelSpectrogram, Spectrogram
from engine.data.transforms.unfit import unfit
from engine.errors import RecipeError
from engine.recipe import Part

SOUND = "audio"
"""The group of transforms that only sound has: they are given its rate, which a recipe does not write."""
_OWN = {
    target.__name__: Entry(target.__name__, "transform", target, group, frozenset({*Entry.hidden, "rate"}))
    for target, group in (
        (Standardize, "tables"),
        (Normalize, "misc"),
        (LinearTransformation, "misc"),
        (Lambda, "misc"),
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
    """Every transform: torchvision's v2, those of them that are `unfit` too, and our own."""
    from torchvision.transforms import v2  # torchvision takes a second to import

    found = dict(_OWN)
    for name, target in sorted(vars(v2).items()):
        public = isinstance(target, type) and issubclass(target, v2.Transform) and target is not v2.Transform
        if public and name not in found:
            group = target.__module__.rpartition("._")[2]
            found[name] = Entry(name, "transform", target, group, frozenset({*Entry.hidden, LISTED}))
    return found


def named(part: Part, where: str) -> Entry:
    """The transform that `part` names. Raises RecipeError for an unknown one and one that is not for such samples."""
    entry = _OWN.get(part.name) or catalog.find("transform", transforms(), part.name, where)
    if (why := unfit(entry)) is not None:
        raise RecipeError(where, *why)
    return entry


def checked(part: Part, where: str) -> Entry:
    """The same, checked with its parameters and all that it holds. Raises RecipeError."""
    entry = named(part, where)
    if not entry.container:
        entry.check(part.parameters, where)
        return entry
    values = {name: value for name, value in part.parameters.items() if name != LISTED}
    entry.check(values, where)
    inside = held(part, where)
    if not inside:
        raise empty(part, where)
    for at, each in inside:
        checked(each, at)
    if values:  # of all of them that is p
        _check_odds(values, len(inside), part.name, f"{where}.{next(iter(values))}")
        entry.make({**values, LISTED: [as_floats] * len(inside)}, where)
    return entry


def _check_odds(values: Mapping[str, Any], count: int, name: str, where: str) -> None:
    """Raise RecipeError for a chance, or a list of them, that torchvision refuses in few words or not at all."""
    odds = values.get("p")
    if isinstance(odds, (int, float)) and not 0 <= odds <= 1:
        raise RecipeError(where, f"{odds:g} is no chance", "Write one from 0 to 1.")
    if not isinstance(odds, (list, tuple)):
        return
    if len(odds) != count:
        what = f"has {len(odds)} numbers, and {name} holds {count}"
        raise RecipeError(where, what, f"Write {count}, one for each, or remove it.")
    if min(odds) < 0 or not 0 < sum(odds) < float("inf"):
        raise RecipeError(where, f"{list(odds)} are no chances", "Write numbers of 0 and more, not all of them 0.")


def draws(part: Part, where: str) -> bool:
    """Whether the transform, or one that it holds, draws. Raises RecipeError like `named`."""
    entry = named(part, where)
    return is_random(entry) or (entry.container and any(draws(each, at) for at, each in held(part, where)))


def made(part: Part, where: str, *, rate: int = 0) -> Any:
    """The transform that `part` names, ready to be called, for sound of so many values a second."""
    entry = checked(part, where)
    known = {"rate": rate} if entry.group == SOUND or entry.target is Standardize else {}
    transform = entry.make({**part.parameters, **known}, where)
    if isinstance(transform, Lambda):
        transform.where = f"{where}.lambd"
    return transform


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

    A Compose is what it holds.

    Raises RecipeError for an unknown transform or parameter, for a random one, and for one of sound on other data.
    """
    steps = []
    for at, part in flattened(parts, where):
        entry = checked(part, at)
        if is_random(entry):
            raise RecipeError(at, f"{part.name} draws at random", "Put it into data.augment.")
        if entry.group == SOUND and not rate:
            raise RecipeError(at, f"{part.name} is for sound, and the data is none", "Remove it.")
        steps.append(made(part, at, rate=rate))
    return steps
