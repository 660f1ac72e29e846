"""A recipe's dataset, opened to be looked at: samples by part, class and oddness, raw or as the model sees them."""

from __future__ import annotations

import copy
import json
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from engine.data.augmentation.augment import Augment
from engine.data.fetching.telling import untold
from engine.data.fetching.turns import turn
from engine.data.opened import open_dataset
from engine.data.preview.drawn import Box, Sample, as_picture, class_name, drawn, shares_text
from engine.data.preview.oddness import features, oddness
from engine.data.samples import BadSample, Listed, Progress, Readable, Samples, as_tensor
from engine.data.serving.batches import Batch, Finish
from engine.data.serving.fetching import collate
from engine.data.serving.mixing import Mixing
from engine.data.standardising import fit_transforms
from engine.data.transforms import Standardize, fixed, flattened
from engine.errors import RecipeError, StudioError, first_line
from engine.recipe import Part, Recipe

Found = TypeVar("Found")

SCANNED = 5000
"""Samples that are read, of those that do not lie in memory, where all would have to be."""
_CHUNK = 256
_RECENT = 128


class View:
    """Opened when it is made. Raises RecipeError and DataError, and whatever `progress` raises. For any thread.

    `sizes` counts the samples of each part, `bad` are those that were left out as unreadable.
    """

    def __init__(self, recipe: Recipe, progress: Progress = untold) -> None:
        self.recipe = recipe
        # Whatever the recipe does about bad samples, here they are to be seen beside the others.
        data = recipe.data.model_copy(update={"on_bad_sample": "skip"})
        found = open_dataset(data, recipe.task, progress, None)
        self.source, self.opened = found.source, found.parts
        self.bad: Sequence[BadSample] = found.loaded.bad
        self.sizes = {name: len(part) if index is None else len(index) for name, (part, index) in self.opened.items()}
        self._orders: dict[tuple[str, int | None, bool], list[int]] = {}
        self._read_labels: dict[str, Tensor | None] = {}
        self._recent: dict[tuple[int, int], tuple[Tensor, Tensor] | BadSample] = {}
        self._measured: dict[str, list[Any]] = {}
        self._measuring = threading.Lock()

    def with_recipe(self, recipe: Recipe) -> View:
        """The same samples, seen through another recipe's transforms."""
        other = copy.copy(self)
        other.recipe = recipe
        return other

    def part(self, name: str) -> tuple[Readable, Tensor]:
        """A part's dataset, and the numbers of its samples in it."""
        part, index = self.opened[name]
        return part, torch.arange(len(part)) if index is None else index

    def labels(self, name: str, progress: Progress = untold) -> Tensor | None:
        """The classes of a part's samples (n,), of the first SCANNED where they must be read; None without classes.

        One that can't be read is of class -1.
        """
        if name not in self._read_labels:
            self._read_labels[name] = self._labels(name, progress)
        return self._read_labels[name]

    def counts(self, name: str, progress: Progress = untold) -> list[int]:
        """How many samples of a part each class has, among those whose class is known; or how many boxes."""
        if (boxes := self._boxes(name)) is not None:
            of_class: list[int] = torch.bincount(boxes[1], minlength=self.source.outputs).tolist()
            return of_class
        labels, outputs = self.labels(name, progress), self.source.outputs
        if labels is None:
            return []
        found: list[int] = torch.bincount(labels[(labels >= 0) & (labels < outputs)], minlength=outputs).tolist()
        return found

    def order(self, name: str, label: int | None, odd: bool, progress: Progress = untold) -> Sequence[int]:
        """Positions in a part: those of one class or with a box of it, the oddest of their class first if asked for."""
        key = name, label, odd
        if key in self._orders:
            return self._orders[key]
        labels = self.labels(name, progress) if label is not None or odd else None
        count = self.sizes[name] if labels is None else len(labels)
        if odd:
            ranks = self._oddness(name, labels, progress)
            count = len(ranks)
            order: list[int] = ranks.argsort(descending=True, stable=True).tolist()
        else:
            order = list(range(count))
        if label is not None and labels is not None:
            classes = labels.tolist()
            order = [position for position in order if classes[position] == label]
        elif label is not None and (boxes := self._boxes(name)) is not None:
            holding = set(boxes[0][boxes[1] == label].tolist())
            order = [position for position in order if position in holding]
        self._orders[key] = order
        return order

    def page(
        self, name: str, positions: Sequence[int], *, seen: bool = False, draw: int = 0, progress: Progress = untold
    ) -> list[Sample]:
        """The samples at these positions of a part, as they are or as the model has `seen` them.

        Augmentation, of the training part alone, draws anew for each `draw`. What must first be measured on the
        training samples is, once, and `progress` is told. Raises RecipeError for a transform that does not fit, and
        what `progress` raises.
        """
        if seen:
            return self._seen(name, positions, draw, progress)
        return [self._raw(name, position) for position in positions]

    def inputs(self, name: str, positions: Sequence[int]) -> tuple[Tensor, Tensor]:
        """(inputs, targets) of the samples that can be read. Raises RecipeError where they do not make a batch."""
        part, index = self.part(name)
        numbers = index[torch.tensor(positions, dtype=torch.long)]
        if isinstance(part, Samples):
            return part.inputs[numbers], part.targets[numbers]
        pairs = [pair for number in numbers.tolist() if not isinstance(pair := self._read(part, number), BadSample)]
        if not pairs:
            return torch.empty(0), torch.empty(0)
        try:
            return collate(pairs)
        except Exception as error:  # samples of several shapes or types
            what = f"do not make a batch: {first_line(error)}"
            raise RecipeError("data", f"samples of {name} {what}", "Give all samples one shape and type.") from error

    @property
    def columns(self) -> Sequence[str]:
        """What samples can be grouped or put in order by."""
        return tuple(getattr(self.opened["train"][0], "columns", ()))

    @property
    def draws_globally(self) -> bool:
        """Whether the augmentation uses the process's random number generators, which a training may be using."""
        return Augment(self.recipe.data.augment).draws_globally

    def prepared(self, transforms: Sequence[Part], progress: Progress = untold) -> list[Any]:
        """Fixed transforms, those that are measured measured on the training samples, as a training does.

        What was measured is kept, by what stands before it. Raises RecipeError, and what `progress` raises.
        """
        made = fixed(transforms, rate=self.source.rate)
        last = max((at for at, each in enumerate(made) if isinstance(each, Standardize)), default=-1)
        if last < 0:
            return made
        flat = [part for _, part in flattened(transforms)]
        how = json.dumps([part.model_dump() for part in flat[: last + 1]], sort_keys=True, default=str)
        part, index = self.part("train")
        if not isinstance(part, (Samples, Listed)):  # a training of these is refused: it is asked for each when needed
            return made
        with turn(self._measuring, "measuring", progress):
            if how not in self._measured:
                codes = len(self.source.cardinalities)
                blank = torch.zeros(1, *self.source.shape)
                tried(lambda: Finish(made[:last]).inputs(blank))  # the first that does not fit, before all are read
                fit_transforms(made[: last + 1], part, index, codes, progress)
                self._measured[how] = made[: last + 1]
        return [*self._measured[how], *made[last + 1 :]]

    def _seen(self, name: str, positions: Sequence[int], draw: int, progress: Progress) -> list[Sample]:
        data, masks = self.recipe.data, self.source.task == "segmentation"
        steps = data.augment if name == "train" else ()
        transforms = self.prepared(data.transforms, progress)
        finish = Finish(transforms, Augment(steps) if steps else None, masks=masks)
        part, index = self.part(name)
        samples: dict[int, Sample] = {}
        batches: dict[int, Batch] = {}
        for position in positions:  # one by one: of a batch, one that can't be read would spoil the others
            number = int(index[position])
            pair = self._read(part, number)
            if isinstance(pair, BadSample):
                samples[position] = self._trouble(pair, number)
                continue
            inputs, targets = collate([pair])
            make = partial(finish.batch, inputs, targets, draw * 1_000_003 + number)
            batches[position] = tried(make)
        mixing = Mixing(steps, self.source.outputs) if self.source.task == "classification" else None
        mixed = tried(lambda: _mixed(list(batches.values()), mixing, draw)) if mixing and batches else None
        for at, (position, batch) in enumerate(batches.items()):
            number, inputs = int(index[position]), batch.inputs[0] if mixed is None else mixed.inputs[at]
            sample = self._drawn(part, number, inputs, batch.targets[0], transforms)
            if mixed is not None:
                sample = replace(sample, label=shares_text(mixed.targets[at], self.source))
            if (found := _annotated(part, number)) is not None:
                boxes = self._with_boxes(part, number, *found)  # its target is no class
                still = not data.transforms and not steps
                sample = replace(sample, label=boxes.label, boxes=boxes.boxes if still else ())
            samples[position] = sample
        return [samples[position] for position in positions]

    def _raw(self, name: str, position: int) -> Sample:
        part, index = self.part(name)
        number = int(index[position])
        if (found := _annotated(part, number)) is not None:
            return self._with_boxes(part, number, *found)
        pair = self._read(part, number)
        if isinstance(pair, BadSample):
            return self._trouble(pair, number)
        return self._drawn(part, number, *pair)

    def _read(self, part: Readable, number: int) -> tuple[Tensor, Tensor] | BadSample:
        """A sample; the few that were read last are kept: a page is seen raw, and then as the model sees it."""
        if isinstance(part, Samples):
            return part[number]
        key = id(part), number
        if key not in self._recent:
            if len(self._recent) >= _RECENT:
                self._recent.clear()
            self._recent[key] = read(part, number)
        return self._recent.get(key) or read(part, number)  # another thread may have cleared them

    def _drawn(
        self, part: Readable, number: int, inputs: Tensor, target: Tensor, transforms: Sequence[Any] | None = None
    ) -> Sample:
        """A sample as it is, or as it has come out of `transforms`."""
        source, seen = self.source, transforms is not None
        if transforms and inputs.ndim == 3:
            inputs = shown(inputs, self.recipe.data.transforms, () if source.rate else transforms)
        elif seen and source.rate == 0 and inputs.ndim == 1 and len(source.columns) != len(inputs):
            target = target.float() if source.task == "regression" else target
        raws = getattr(part, "raw", ())
        # As the model sees it, a row of a table is numbers; of a text the words stand beside its tokens.
        raw = raws[number] if raws and not (seen and not isinstance(raws[number], str)) else ""
        stretch = inputs.dtype != torch.uint8 and not (seen and source.rate == 0 and _within_one(inputs))
        return drawn(inputs, target, source, number=number, place=place_of(part, number), raw=raw, stretch=stretch)

    def _with_boxes(self, part: Readable, number: int, image: Tensor, boxes: Tensor, labels: Tensor) -> Sample:
        found = tuple(
            Box(left, top, right, bottom, class_name(int(label), self.source))
            for (left, top, right, bottom), label in zip(boxes.tolist(), labels.tolist(), strict=True)
        )
        label = f"{len(found)} object{'s' * (len(found) != 1)}"
        return Sample(label, number, place_of(part, number), picture=as_picture(image), boxes=found)

    def _trouble(self, bad: BadSample, number: int) -> Sample:
        return Sample("?", number, bad.place, trouble=bad.what)

    def _boxes(self, name: str) -> tuple[Tensor, Tensor] | None:
        """The position in a part (T,) and the class (T,) of each box, where its pictures have such."""
        part, index = self.part(name)
        marks: tuple[Tensor, Tensor] | None = getattr(part, "marks", None)
        if marks is None:
            return None
        positions = torch.full((len(part),), -1).scatter_(0, index, torch.arange(len(index)))
        found = positions[marks[0]]
        return found[found >= 0], marks[1][found >= 0]

    def _labels(self, name: str, progress: Progress) -> Tensor | None:
        if self.source.task != "classification":
            return None
        part, index = self.part(name)
        if isinstance(part, (Samples, Listed)):
            targets = part.targets
            return targets[index].long() if targets.ndim == 1 and len(targets) == len(part) else None
        found = []
        for done, number in enumerate(index[:SCANNED].tolist()):
            if done % _CHUNK == 0:
                progress("labels", done, min(len(index), SCANNED))
            pair = read(part, number)
            found.append(-1 if isinstance(pair, BadSample) or pair[1].numel() != 1 else int(pair[1]))
        return torch.tensor(found, dtype=torch.long)

    def _oddness(self, name: str, labels: Tensor | None, progress: Progress) -> Tensor:
        part, index = self.part(name)
        count = len(index) if isinstance(part, Samples) else min(len(index), SCANNED)
        found: list[Tensor] = []
        kept: list[int] = []
        for first in range(0, count, _CHUNK):
            progress("samples compared", first, count)
            positions = range(first, min(first + _CHUNK, count))
            if isinstance(part, Samples):
                found.append(features(part.inputs[index[first : positions.stop]], self.source))
                kept.extend(positions)
                continue
            for position in positions:
                pair = read(part, int(index[position]))
                if not isinstance(pair, BadSample):
                    found.append(features(collate([pair])[0], self.source))
                    kept.append(position)
        ranks = torch.full((count,), float("inf"))  # what can't be read is the oddest
        if kept:
            at = torch.tensor(kept)
            chosen = None if labels is None else labels[at]
            table = len(self.source.shape) == 1 and not self.source.vocabulary
            ranks[at] = oddness(torch.cat(found), chosen, one_unit=not table)
        return ranks


def read(part: Readable, number: int) -> tuple[Tensor, Tensor] | BadSample:
    """(input, target) as tensors, or what is wrong with it: a person's own dataset may raise anything."""
    try:
        inputs, target = part[number]
        return as_tensor(inputs), torch.as_tensor(np.asarray(target))
    except BadSample as bad:
        return bad
    except Exception as error:
        return BadSample(place_of(part, number) or f"sample {number}", f"{type(error).__name__}: {first_line(error)}")


def place_of(part: Readable, number: int) -> str:
    """The file or line that a sample was found in, if its dataset says so."""
    places = getattr(part, "places", ())
    return str(places[number]) if len(places) > number else ""


def shown(inputs: Tensor, transforms: Sequence[Part], made: Sequence[Any] = ()) -> Tensor:
    """A picture (C, H, W) that has gone through `transforms`, every Normalize among them undone: to be looked at.

    So is every Standardize of those `made`, which know what was measured; a spectrogram without them keeps its bands.
    """
    for at, (_, part) in reversed(list(enumerate(flattened(transforms)))):
        if at < len(made) and isinstance(made[at], Standardize):
            inputs = _unstandardised(inputs, made[at])
        if part.name != "Normalize":
            continue
        values: Mapping[str, Any] = part.parameters
        mean, std = (torch.tensor(values[key], dtype=inputs.dtype).view(-1, 1, 1) for key in ("mean", "std"))
        if len(mean) in (1, len(inputs)) and len(std) in (1, len(inputs)):
            inputs = inputs * std + mean
    return inputs


def _unstandardised(inputs: Tensor, step: Standardize) -> Tensor:
    """What went into it, where a later transform has not changed its shape."""
    if step.mean is None or step.std is None or step.mean.shape != inputs.shape:
        return inputs
    return inputs * step.std + step.mean


def tried(apply: Callable[[], Found], where: str = "data.transforms") -> Found:
    """What a transform makes, or a RecipeError: torchvision raises whatever it likes for what does not fit."""
    try:
        return apply()
    except StudioError:
        raise
    except Exception as error:
        raise RecipeError(where, f"do not fit these samples: {first_line(error)}", "Change or remove them.") from error


def _mixed(batches: Sequence[Batch], mixing: Mixing, draw: int) -> Batch:
    """The samples of a page, each mixed with the one before it as those of a batch are."""
    inputs = torch.cat([batch.inputs for batch in batches])
    return Batch(*mixing(inputs, torch.cat([batch.targets for batch in batches]).long(), draw))


def _annotated(part: Readable, number: int) -> tuple[Tensor, Tensor, Tensor] | None:
    """The picture of a sample, its boxes (M, 4) in pixels and their classes (M,), where its dataset has such."""
    method: Callable[[int], tuple[Tensor, Tensor, Tensor]] | None = getattr(part, "annotated", None)
    if method is None:
        return None
    try:
        return method(number)
    except Exception:  # reading it plainly says what is wrong
        return None


def _within_one(inputs: Tensor) -> bool:
    """Whether these are the shades from 0 to 1, give or take what sharpening adds: then black shall stay black."""
    return bool(inputs.numel()) and float(inputs.min()) > -0.25 and float(inputs.max()) < 1.25
