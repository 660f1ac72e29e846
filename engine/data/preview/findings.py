"""What is wrong with a dataset, found before it is trained on."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from engine.data.preview.drawn import class_name
from engine.data.preview.view import View, place_of, read
from engine.data.samples import BadSample, Progress, Samples

_NAMED = 5  # places that a finding names


@dataclass(frozen=True)
class Finding:
    """`what` is wrong with `count` samples, of which `places` names some. `fatal`: the training would end of it."""

    what: str
    count: int
    places: tuple[str, ...]
    fatal: bool
    remedy: str

    def __str__(self) -> str:
        more = self.count - len(self.places)
        named = f": {'; '.join(self.places)}{f' and {more:,} more' if more > 0 else ''}" if self.places else ""
        return f"{self.what}{named}. {self.remedy}".strip()


@dataclass(frozen=True)
class Examination:
    """`read` of `total` samples were read; the others are taken to be like them."""

    findings: tuple[Finding, ...]
    read: int
    total: int


def findings(view: View, progress: Progress, seconds: float = 20.0) -> Examination:
    """Look at every label and, for so many `seconds`, at every sample, evenly spread.

    Raises what `progress` raises.
    """
    skips = view.recipe.data.on_bad_sample == "skip"
    numbers_read = total = 0
    wild: list[str] = []
    bad = list(map(str, view.bad))
    end = time.monotonic() + seconds
    for name in view.sizes:
        part, index = view.part(name)
        total += len(index)
        if isinstance(part, Samples):
            numbers_read += len(index)
            wild += _wild(part, index, name)
            continue
        for done, number in enumerate(_spread(index)):
            if time.monotonic() > end:
                break
            if done % 16 == 0:
                progress(f"{name} read", done, len(index))
            pair = read(part, number)
            numbers_read += 1
            if isinstance(pair, BadSample):
                bad.append(str(pair))
            elif not _finite(pair[0]) or not _finite(pair[1]):
                wild.append(place_of(part, number) or f"{name} sample {number}")
    found = [_unreadable(bad, skips)] if bad else []
    if wild:
        what = "not all numbers are finite"
        found.append(Finding(what, len(wild), _some(wild), True, "Mend or remove these: the loss would be NaN."))
    found += _labels(view, progress)
    return Examination(tuple(found), numbers_read, total)


def _unreadable(bad: Sequence[str], skips: bool) -> Finding:
    what, them = ("1 sample", "it") if len(bad) == 1 else (f"{len(bad):,} samples", "them")
    what = f"{what} can't be used"
    left_out = "It is left out." if len(bad) == 1 else "They are left out."
    remedy = left_out if skips else f'Mend or remove {them}, or set data.on_bad_sample = "skip".'
    return Finding(what, len(bad), _some(bad), not skips, remedy)


def _labels(view: View, progress: Progress) -> Iterator[Finding]:
    """Labels that are no class, and classes with no training sample, or a single one."""
    source = view.source
    labels = view.labels("train", progress)
    if labels is None:
        return
    part, index = view.part("train")
    wrong = ((labels < 0) | (labels >= source.outputs)).nonzero().flatten().tolist()
    readable = [at for at in wrong if not isinstance(read(part, int(index[at])), BadSample)]
    if readable:
        places = [place_of(part, int(index[at])) or f"train sample {int(index[at])}" for at in readable]
        are = "label is" if len(readable) == 1 else "labels are"
        what = f"{len(readable):,} {are} no class from 0 to {source.outputs - 1}"
        yield Finding(what, len(readable), _some(places), True, "Mend the labels.")
    counts = torch.bincount(labels[(labels >= 0) & (labels < source.outputs)], minlength=source.outputs)
    for wanted, what in ((0, "no training sample"), (1, "a single training sample")):
        rare = [class_name(number, source) for number in (counts == wanted).nonzero().flatten().tolist()]
        if rare and len(labels) == view.sizes["train"]:
            plural = "es have" if len(rare) > 1 else " has"
            remedy = "It can't be learned: add samples, or remove it."
            yield Finding(f"{len(rare)} class{plural} {what}", len(rare), _some(rare), False, remedy)


def _wild(part: Samples, index: Tensor, name: str) -> list[str]:
    """Where the samples lie that hold NaN or infinity."""
    wild = torch.zeros(len(index), dtype=torch.bool)
    for values in (part.inputs, part.targets):
        if values.is_floating_point():
            wild |= ~torch.isfinite(values[index].flatten(1) if values.ndim > 1 else values[index][:, None]).all(1)
    numbers = index[wild].tolist()
    return [place_of(part, number) or f"{name} sample {number}" for number in numbers]


def _spread(index: Tensor) -> list[int]:
    """All numbers, so that the first few come from all over the part."""
    order = torch.randperm(len(index), generator=torch.Generator().manual_seed(0))
    numbers: list[int] = index[order].tolist()
    return numbers


def _finite(values: Tensor) -> bool:
    return not values.is_floating_point() or bool(torch.isfinite(values).all())


def _some(places: Sequence[str]) -> tuple[str, ...]:
    return tuple(places[:_NAMED])
