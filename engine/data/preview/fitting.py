"""Which transforms fit a dataset, and what they make of its samples."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from engine.catalog import Entry
from engine.data.augmentation.augment import Augment, check_for_masks
from engine.data.fetching.telling import untold
from engine.data.preview.drawn import Sample
from engine.data.preview.view import View, tried
from engine.data.samples import Progress
from engine.data.serving.batches import Finish
from engine.data.serving.mixing import MIXES
from engine.data.transforms import Standardize, fixed, is_random, transforms
from engine.data.transforms.unfit import VARYING, unfit
from engine.errors import RecipeError
from engine.recipe import Part

# What a transform is tried with where it needs a parameter; a person fills in his own.
_TRIED: Mapping[str, Any] = {
    "mean": [0.5],
    "std": [0.5],
    "size": [8, 8],
    "degrees": 10,
    "padding": 1,
    "kernel_size": 3,
    "bits": 4,
    "threshold": 0.5,
    "sharpness_factor": 2.0,
    "min_size": 8,
    "max_size": 16,
    "scale_range": [0.5, 1.0],
    "target_size": [8, 8],
    "num_output_channels": 1,
}


Inside = Literal["", "augment", "transforms"]
_WITHOUT_TRIAL = (*VARYING, "Identity")  # fit whatever they make of two samples of noise


def fitting(
    view: View, *, aside: bool = False, inside: Inside = "", progress: Progress = untold
) -> list[tuple[Entry, bool]]:
    """The transforms that take the dataset's samples, each with whether it is random.

    Each is tried on a batch of noise: random ones on samples as they are, the others on what the recipe's transforms
    make of them. `aside` says that a training may be running: then nothing draws, and random ones are taken to fit.
    `inside` asks for those that another transform in that list may hold.
    torchvision's are for pictures, though some turn a table's rows around without complaint.
    """
    from torchvision.transforms import v2  # torchvision takes a second to import

    source = view.source
    generator = torch.Generator().manual_seed(0)
    if source.vocabulary:
        noise = torch.randint(1, max(2, source.vocabulary), (2, *source.shape), generator=generator)
    else:
        noise = torch.rand(2, *source.shape, generator=generator)
    transformed = noise
    with contextlib.suppress(RecipeError):
        present = Finish(view.prepared(view.recipe.data.transforms, progress))
        transformed = tried(lambda: present.inputs(noise))
    found = []
    for entry in transforms().values():
        if unfit(entry) is not None:
            continue
        random = is_random(entry)
        if not _has_place(entry, inside, random=random):
            continue
        taken = noise if random or inside == "augment" else transformed
        if entry.target is Standardize:  # measured for each column or band, before which it changes nothing
            fits = (noise.ndim == 2 or source.rate > 0) and not source.vocabulary
        elif taken.ndim != 4 and hasattr(v2, entry.name):
            fits = False
        else:
            fits = (random and aside) or _takes(entry, taken, source.rate, random=random)
        if fits and not _refused(entry, view, random=random):
            found.append((entry, random))
    return found


def before_after(
    view: View,
    augment: Sequence[Part],
    fixed: Sequence[Part],
    positions: Sequence[int],
    draw: int,
    progress: Progress = untold,
) -> list[tuple[Sample, Sample]]:
    """Training samples as they are, and as these steps would show them to the model.

    Raises RecipeError, and what `progress` raises.
    """
    recipe = view.recipe.override({"data.augment": _plain(augment), "data.transforms": _plain(fixed)}, "data")
    after = view.with_recipe(recipe).page("train", positions, seen=True, draw=draw, progress=progress)
    return list(zip(view.page("train", positions), after, strict=True))


def _plain(parts: Sequence[Part]) -> list[dict[str, Any]]:
    return [part.model_dump() for part in parts]


def _values(entry: Entry) -> dict[str, Any] | None:
    """Values for the parameters that it needs; None where one is not known."""
    needed = [parameter.name for parameter in entry.parameters if parameter.required]
    return {name: _TRIED[name] for name in needed} if all(name in _TRIED for name in needed) else None


def _has_place(entry: Entry, inside: Inside, *, random: bool) -> bool:
    """Whether it may stand there, whatever the samples are."""
    if inside == "augment":
        return entry.name not in MIXES and entry.target is not Standardize
    return not random if inside else entry.name not in VARYING


def _refused(entry: Entry, view: View, *, random: bool) -> bool:
    """Whether a training of such a task would refuse it, whatever it makes of the samples."""
    if entry.name in MIXES:
        return view.source.task != "classification"
    if view.source.task != "segmentation" or entry.container:  # of that what it holds will be asked
        return False
    part = Part.model_validate({"name": entry.name, **(_values(entry) or {})})
    steps = {"augment": (part,), "transforms": ()} if random else {"augment": (), "transforms": (part,)}
    try:
        check_for_masks(view.recipe.data.model_copy(update=steps))
    except RecipeError:
        return True
    return False


def _takes(entry: Entry, noise: Tensor, rate: int, *, random: bool) -> bool:
    """Whether it makes another batch of numbers of `noise` (2, …)."""
    values = _values(entry)
    if values is None or entry.container or entry.name in _WITHOUT_TRIAL:
        return noise.ndim == 4
    part = Part.model_validate({"name": entry.name, **values})
    try:
        with warnings.catch_warnings(action="ignore"):  # torchvision's deprecated ones say so
            result = Augment([part])(noise, 0) if random else Finish(fixed([part], rate=rate)).inputs(noise)
    except Exception:  # torchvision raises whatever it likes for what does not fit
        return False
    if not isinstance(result, Tensor) or len(result) != len(noise):
        return False
    # What leaves every number alone is for other kinds of pictures, as RGB is for grey ones.
    return random or not (result.dtype == noise.dtype and torch.equal(result, noise))
