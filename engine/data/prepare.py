"""Recipe → train, validation and test batches: load, split, transform, choose where the samples live."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import cast

import psutil
import torch
from torch import Tensor

from engine.data.augmentation.augment import Augment
from engine.data.load import load
from engine.data.samples import Listed, Loaded, Measured, Progress, Readable, Samples
from engine.data.serving.batches import Batches, Finish, LoaderBatches, TensorBatches
from engine.data.serving.workers import patience
from engine.data.sources import Source, described
from engine.data.splits import Drawn, Parts, split
from engine.data.transforms import Standardize, fixed
from engine.errors import DataError, RecipeError, first_line
from engine.recipe import Data, Recipe, Split, TaskName

PARTS = ("train", "val", "test")


def _untold(what: str, done: int, total: int) -> None:
    """Nobody wants to know how far reading is."""


@dataclass(frozen=True)
class Facts:
    """What the model and the task must know of the data.

    `shape` is one sample's input shape after the transforms, `outputs` the number of classes or predicted numbers.
    `vocabulary` counts the tokens that there are, where the inputs are tokens; else it is 0.
    Predicted numbers are `standardised · target_std + target_mean`. `class_counts` are the training samples of each
    class; unknown before the data is loaded, and of a dataset of one's own unless the loss is balanced by them.
    """

    shape: tuple[int, ...]
    outputs: int
    classes: tuple[str, ...] = ()
    target_mean: Tensor | None = None
    target_std: Tensor | None = None
    class_counts: tuple[int, ...] | None = None
    vocabulary: int = 0

    @property
    def dtype(self) -> torch.dtype:
        """What a batch's inputs are."""
        return torch.long if self.vocabulary else torch.float32


@dataclass(frozen=True)
class Prepared:
    """The three parts as batches; validation and test may be empty (None)."""

    source: Source
    facts: Facts
    train: Batches
    val: Batches | None
    test: Batches | None
    notes: tuple[str, ...]

    def close(self) -> None:
        """Let go of workers and memory."""
        for batches in (self.train, self.val, self.test):
            if batches is not None:
                batches.close()


def describe(recipe: Recipe, *, aside: bool = False, reading: Progress = _untold) -> tuple[Source, Facts]:
    """What is known of the data before it is loaded; one's own dataset is asked for its first sample.

    `aside` says that a training may be running in another thread: then nothing draws from the random number generators
    of the process, and what only drawing could find out is left for the start.

    Raises RecipeError or DataError.
    """
    data = recipe.data
    if data.path:
        source = opened(data, recipe.task, [], reading)[0]
    else:
        source = load(data, recipe.task).source if data.python else described(data)
    _check_measured(recipe)
    _check_task(recipe, source)
    shape = _transformed_shape(data, source, aside)
    return source, Facts(shape, source.outputs, source.classes, vocabulary=source.vocabulary)


def prepare(recipe: Recipe, device: torch.device, progress: Progress) -> Prepared:
    """Load the recipe's data and serve it on `device`. Raises RecipeError or DataError."""
    data, notes = recipe.data, list[str]()
    source, parts = opened(data, recipe.task, notes, progress)
    _check_task(recipe, source)
    finish, facts = _fit(source, parts["train"], recipe)
    counts = _class_counts(recipe, parts["train"], facts.outputs)
    facts = replace(facts, class_counts=counts)
    if recipe.loss.class_weights == "balanced" and counts is not None and 0 in counts:
        notes.append(f"{counts.count(0)} of {len(counts)} classes have no training sample: they weigh 1 in the loss.")
    augment = Augment(data.augment)

    def serve(name: str) -> Batches | None:
        part, index = parts[name]
        if index is not None and not len(index):
            return None
        training = name == "train"
        seed = recipe.training.seed if training else None
        # Who accumulates has memory for a micro-batch, and evaluation must fit there too.
        size = data.batch_size if training else max(1, data.batch_size // recipe.training.accumulate)
        drop = data.drop_last and training
        how = replace(finish, augment=augment if training and augment else None)
        if isinstance(part, Samples) and data.in_memory and not data.num_workers and _fits(part.nbytes, device):
            chosen = part if index is None else Samples(part.inputs[index], part.targets[index])
            moved = Samples(chosen.inputs.to(device), chosen.targets.to(device))
            ahead = _fits(len(chosen) * math.prod(facts.shape) * 4, device)
            return TensorBatches(moved, how, size, seed=seed, drop_last=drop, ahead=ahead, index=index)
        if training and data.in_memory and isinstance(part, Samples) and not data.num_workers:
            notes.append("The data takes more than a quarter of the free memory: it goes through a DataLoader.")
        workers = data.num_workers if training else 0
        limit = patience(data.worker_timeout)
        return LoaderBatches(
            part, index, how, size, device, workers=workers, seed=seed, drop_last=drop, patience_s=limit
        )

    train = serve("train")
    if train is None:
        raise DataError("data.split.train", "leaves no sample to train on", "Raise it.")
    return Prepared(source, facts, train, serve("val"), serve("test"), tuple(notes))


def part_sizes(source: Source, data: Data) -> Mapping[str, int]:
    """How many samples each part will have, before anything is loaded."""
    empty = {name: Samples(torch.empty(size, 0), torch.empty(0)) for name, size in source.sizes.items()}
    parts = split(Loaded(source, empty), data, [])
    return {name: len(part) if index is None else len(index) for name, (part, index) in parts.items()}


def opened(data: Data, task: TaskName, notes: list[str], progress: Progress = _untold) -> tuple[Source, Parts]:
    """A dataset read and split, with tensors made of what must first be measured on the training samples.

    Raises RecipeError or DataError.
    """
    loaded = load(data, task, progress)
    if not data.path:
        return _encoded(loaded.source, split(loaded, data, notes))
    with _measuring:
        if _last and _last[0].loaded is loaded and _last[0].split == data.split:
            notes.extend(_last[0].notes)
            return _last[0].source, _last[0].parts
        ours: list[str] = []
        source, parts = _encoded(loaded.source, split(loaded, data, ours))
        _last[:] = [_Opened(loaded, data.split, source, parts, ours)]
    notes.extend(ours)
    return source, parts


@dataclass(frozen=True)
class _Opened:
    """What was opened last: a vocabulary is not measured again at every edit of the model."""

    loaded: Loaded
    split: Split
    source: Source
    parts: Parts
    notes: Sequence[str]


_last: list[_Opened] = []
_measuring = threading.Lock()


def _encoded(source: Source, drawn: Drawn) -> tuple[Source, Parts]:
    encoder = None
    train, index = drawn["train"]
    if isinstance(train, Measured):
        encoder = train.fit(torch.arange(len(train)) if index is None else index)
        source = encoder.describe(source)
    made: dict[int, Readable] = {}  # parts of one dataset are encoded together
    parts: Parts = {}
    for name, (part, index) in drawn.items():
        if id(part) not in made:
            made[id(part)] = encoder.encode(part) if encoder and isinstance(part, Measured) else cast(Readable, part)
        parts[name] = made[id(part)], index
    return source, parts


def _fit(source: Source, train: tuple[Readable, Tensor | None], recipe: Recipe) -> tuple[Finish, Facts]:
    """Transforms and target scaling, measured on the training samples."""
    _check_measured(recipe)
    part, index = train
    transforms = fixed(recipe.data.transforms)
    for position, transform in enumerate(transforms):
        if isinstance(transform, Standardize):
            assert isinstance(part, Samples)
            inputs = part.inputs if index is None else part.inputs[index]
            transform.fit(Finish(transforms[:position]).inputs(inputs))
    mean = std = None
    if recipe.data.standardize_target:
        assert isinstance(part, Samples)
        targets = part.targets if index is None else part.targets[index]
        mean, std = targets.mean(0), targets.std(0, correction=0).clamp_min(1e-12)
    shape = _transformed_shape(recipe.data, source)
    finish = Finish(transforms, None, recipe.task == "regression", mean, std)
    return finish, Facts(shape, source.outputs, source.classes, mean, std, vocabulary=source.vocabulary)


def _class_counts(recipe: Recipe, train: tuple[Readable, Tensor | None], classes: int) -> tuple[int, ...] | None:
    """How many training samples each class has; targets that are no class (an `ignore_index`) are left out.

    A dataset of one's own is only read for it, once and whole, where the loss asks for it. It may raise anything.
    """
    part, index = train
    if recipe.task != "classification":
        return None
    if isinstance(part, (Samples, Listed)):
        targets = part.targets if index is None else part.targets[index]
    elif recipe.loss.class_weights == "balanced":
        order = range(len(part)) if index is None else index.tolist()
        targets = torch.tensor([int(part[position][1]) for position in order], dtype=torch.long)
    else:
        return None
    known = targets[(targets >= 0) & (targets < classes)]
    return tuple(torch.bincount(known, minlength=classes).tolist())


def _check_task(recipe: Recipe, source: Source) -> None:
    if source.task != recipe.task:
        raise RecipeError("task", f"'{recipe.task}' does not fit {source.name}", f"It is for {source.task}.")


def _check_measured(recipe: Recipe) -> None:
    """Whether what is measured on the training samples can be: a dataset of one's own is never held whole."""
    data = recipe.data
    for position, part in enumerate(data.transforms):
        if part.name == "Standardize" and data.python:
            raise RecipeError(f"data.transforms.{position}", "Standardize needs a dataset in memory", "Use Normalize.")
    if data.standardize_target and (recipe.task != "regression" or data.python):
        raise RecipeError("data.standardize_target", "is for regression on a dataset in memory", "Remove it.")


def _transformed_shape(data: Data, source: Source, aside: bool = False) -> tuple[int, ...]:
    """The input shape after transforms and augmentation, found by sending two blank samples through them."""
    shape = source.shape
    blank = torch.zeros(2, *shape, dtype=torch.long if source.vocabulary else torch.float32)
    augment, finish = Augment(data.augment), Finish(fixed(data.transforms))
    if aside and augment.draws_globally:
        return tuple(_tried("data.transforms", lambda: finish.inputs(blank), shape).shape[1:])
    augmented = _tried("data.augment", lambda: augment(blank, 0), shape)
    plain = _tried("data.transforms", lambda: finish.inputs(blank), shape)
    both = _tried("data.transforms", lambda: finish.inputs(augmented), shape)
    if both.shape != plain.shape:
        trained, seen = ("×".join(map(str, tensor.shape[1:])) for tensor in (both, plain))
        what = f"makes {trained} of samples that validation sees as {seen}"
        raise RecipeError("data.augment", what, "Give the crop that size, or resize in data.transforms.")
    return tuple(plain.shape[1:])


def _tried(where: str, apply: Callable[[], Tensor], shape: tuple[int, ...]) -> Tensor:
    try:
        result = apply()
    except Exception as error:  # torchvision raises TypeError, ValueError, RuntimeError and others for a wrong shape
        text = first_line(error)
        what = f"does not fit samples of {'×'.join(map(str, shape))}: {text}"
        raise RecipeError(where, what, "Change or remove it.") from error
    if not isinstance(result, Tensor):
        raise RecipeError(where, f"makes a {type(result).__name__} of a sample", "Keep to those that give one tensor.")
    return result


def _fits(size: int, device: torch.device) -> bool:
    """Whether `size` bytes are less than a quarter of the device's free memory."""
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else psutil.virtual_memory().available
    return size < free / 4
