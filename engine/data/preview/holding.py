"""Whether a dataset will lie on the device whole while it is trained on, and why."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import psutil
import torch

from engine.data.choosing.splits import Parts
from engine.data.samples import Listed, Samples
from engine.data.sources import Source
from engine.devices.device import choose
from engine.errors import DeviceError
from engine.recipe import Recipe

_SHARE = 4  # a part is held if it takes less than this fraction of what is free, as engine.data.serving does
_TYPICAL = 4  # bytes of a number whose type is not known before it is read


@dataclass(frozen=True)
class Holding:
    """`nbytes` are those of all samples in memory; `held` says that they will be, on `device`, and `why`."""

    nbytes: int
    held: bool
    device: str
    why: str


def holding(recipe: Recipe, source: Source, parts: Parts, sizes: Mapping[str, int]) -> Holding:
    """What becomes of a recipe's opened data, judged by the training samples: theirs is the largest part."""
    device = _device(recipe)
    part = parts["train"][0]
    if isinstance(part, Samples):
        nbytes = sum(math.ceil(part.nbytes * size / max(1, len(part))) for size in sizes.values())
        train = part.nbytes
    else:
        each = _sample_bytes(part, source)
        nbytes, train = sum(sizes.values()) * each, sizes["train"] * each
    workers = recipe.data.num_workers

    def unheld(why: str) -> Holding:
        return Holding(nbytes, False, device.type, why)

    if not isinstance(part, (Samples, Listed)):
        return unheld("your code is asked for each sample when it is needed")
    if isinstance(workers, int) and workers:
        return unheld("data.num_workers has processes load it")
    if not recipe.data.in_memory:
        return unheld("data.in_memory is off")
    # What is read is held by the host first.
    for place in (device, torch.device("cpu")) if isinstance(part, Listed) else (device,):
        if train >= (free := _free(place)) / _SHARE:
            return unheld(f"that is over a quarter of the {free / 1e9:.3g} GB that are free")
    return Holding(nbytes, True, device.type, "under a quarter of what is free")


def _free(device: torch.device) -> int:
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return int(psutil.virtual_memory().available)


def _sample_bytes(part: object, source: Source) -> int:
    if isinstance(part, Listed):
        return int(part.sample_bytes)
    return math.prod(source.shape) * _TYPICAL


def _device(recipe: Recipe) -> torch.device:
    try:
        return choose(recipe.training.device)
    except DeviceError:  # the check of the recipe says so
        return torch.device("cpu")
