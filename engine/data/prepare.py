"""Recipe → train, validation and test batches: load, split, transform, choose where the samples live."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from engine.data.augmentation.augment import Augment, check_for_masks
from engine.data.choosing.kept_split import KeptSplit
from engine.data.choosing.mixture import Piece, check_mix, mixed_pieces, mixed_sources
from engine.data.choosing.splits import check_split, labels, shared_out, subset_size
from engine.data.fetching.telling import untold
from engine.data.formats.opening import make_room
from engine.data.load import load
from engine.data.opened import face_bad, open_dataset, opened
from engine.data.samples import Listed, Progress, Readable, Samples
from engine.data.serving.batches import Batches, Finish
from engine.data.serving.fetching import Skipped
from engine.data.serving.mixing import Mixing, mixing_part
from engine.data.serving.order import mixed_samples
from engine.data.serving.server import Server
from engine.data.sources import Source, described
from engine.data.standardising import fit_transforms
from engine.data.transforms import fixed, flattened
from engine.errors import DataError, NotDownloaded, RecipeError, StudioError, first_line, with_article
from engine.recipe import Data, Recipe

PARTS = ("train", "val", "test")


def _unsaid(text: str) -> None:
    """Nobody wants to know what is skipped."""


@dataclass(frozen=True)
class Facts:
    """What the model and the task must know of the data.

    `shape` is one sample's input shape after the transforms, `outputs` the number of classes or predicted numbers.
    `vocabulary` counts the tokens that there are, where the inputs are tokens; else it is 0. `cardinalities` count the
    codes of each of the last columns, where they are codes of categories.
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
    cardinalities: tuple[int, ...] = ()

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
    skipped: Skipped | None = None

    def close(self) -> None:
        """Let go of workers and memory."""
        for batches in (self.train, self.val, self.test):
            if batches is not None:
                batches.close()
        if self.skipped is not None:
            self.skipped.close()


def describe(
    recipe: Recipe, progress: Progress | None = None, *, aside: bool = False, reading: Progress = untold
) -> tuple[Source, Facts]:
    """What is known of the data before it is loaded; one's own dataset is asked for its first sample.

    `aside` says that a training may be running in another thread: then nothing draws from the random number generators
    of the process, and what only drawing could find out is left for the start. With `progress` a dataset of which
    nothing is known before is downloaded.

    Raises RecipeError or DataError.
    """
    data = recipe.data
    make_room(1 + len(data.mix))
    encoded, loaded = False, None
    if data.path:
        found = open_dataset(data, recipe.task, reading, None)
        source, encoded = found.source, found.encoder is not None
    else:
        loaded = load(data, recipe.task) if data.python else None
        source = loaded.source if loaded else described(data)
        if source.read:
            source = _looked_at(recipe, source, progress)
    _check_measured(recipe)
    _check_task(recipe, source)
    _check_numbers(recipe, source)
    _check_classes(recipe, source)
    check_split(data.split, recipe.task, loaded)
    check_mix(data, source, encoded=encoded)
    shape = _transformed_shape(data, source, aside)
    known = Facts(shape, source.outputs, source.classes, None, None, None, source.vocabulary, source.cardinalities)
    return source, known


def _looked_at(recipe: Recipe, source: Source, progress: Progress | None) -> Source:
    if progress is None and not source.ready:
        what = "is not here yet, and nothing is known of it before"
        raise NotDownloaded(f"data.name: {source.name}", what, "Train, and it is downloaded (in the studio also by d).")
    return opened(recipe.data, recipe.task, [], progress or untold)[0]


def prepare(
    recipe: Recipe,
    device: torch.device,
    progress: Progress,
    *,
    say: Callable[[str], None] = _unsaid,
    kept: KeptSplit | None = None,
) -> Prepared:
    """Load the recipe's data and serve it on `device`. Raises RecipeError or DataError.

    `say` is told of samples that are skipped while training; `kept` is where a run's split is, or will be.
    """
    check_trainable(recipe)
    data = recipe.data
    make_room(1 + len(data.mix))
    found = open_dataset(data, recipe.task, progress, kept)
    source, parts, notes = found.source, found.parts, [*found.notes]
    if data.path:
        notes.insert(0, source.about)  # what was found out of the files: columns, missing cells, classes of one sample
    _check_task(recipe, source)
    _check_classes(recipe, source)
    finish, facts = _fit(source, parts["train"], recipe, progress)
    pieces = [Piece(*parts["train"])]
    for loaded, piece in mixed_pieces(data, found.loaded, source, found.encoder, progress):
        face_bad(loaded, data, notes)
        pieces.append(piece)
        notes.append(
            f"{loaded.source.name}: {len(piece)} samples are trained on beside, each {piece.weight:g} times an epoch"
        )
    counts = _class_counts(recipe, pieces, facts.outputs)
    facts = replace(facts, class_counts=counts)
    if counts is not None and 0 in counts:
        weigh = ": they weigh 1 in the loss" if recipe.loss.class_weights == "balanced" else ""
        notes.append(
            f"{counts.count(0)} of {len(counts)} classes have no training sample{weigh}{_named(source, counts)}."
        )
    if recipe.loss.class_weights == data.sampler == "balanced":
        notes.append("data.sampler and loss.class_weights are both balanced: rare classes count for more than others.")
    skipped = Skipped(say) if data.on_bad_sample == "skip" else None
    server = Server(recipe, device, math.prod(facts.shape), facts.outputs, source.name, progress, notes, skipped)
    if not len(pieces[0]):
        raise DataError("data.split.train", "leaves no sample to train on", "Raise it.")
    augment, mixing = Augment(data.augment), Mixing(data.augment, facts.outputs)
    held_out = [Piece(*parts[name]) for name in PARTS[1:]]
    changed = replace(finish, augment=augment or None, mixing=mixing or None)
    train = server.training(pieces, changed, beside=len(held_out[0]))
    val, test = (server.evaluation(piece, finish) if len(piece) else None for piece in held_out)
    return Prepared(source, facts, train, val, test, tuple(notes), skipped)


def check_trainable(recipe: Recipe) -> bool:
    """True for a task that can be trained. Raises RecipeError for one whose data can only be looked at."""
    if recipe.task == "detection":
        what = "detection can't be trained yet: its pictures and boxes can be opened and looked at"
        raise RecipeError("task", what, "Choose another task.")
    return True


def part_sizes(source: Source, data: Data) -> Mapping[str, int]:
    """How many samples each part will have, before anything is loaded. Raises RecipeError or DataError.

    Of one's own data in groups, which are as large as they are, what is there is counted.
    """
    own = {name: size for name, size in source.sizes.items() if name in PARTS[1:]}
    if data.split.how == "grouped" and source.origin == "yours":
        parts = opened(data, source.task, [])[1]
        sizes = {name: len(Piece(*parts[name])) for name in PARTS}
    else:
        count = source.sizes.get("all", source.sizes.get("train"))
        if count is None:
            raise DataError(f"data: {source.name}", "has no part to train on", "Give it a 'train' part.")
        shared = shared_out(count, data.split, frozenset(own), f"data: {source.name}")
        train = subset_size(shared.train, data.subset)
        sizes = {"train": train, "val": shared.val, "test": shared.test} | own
    if data.mix:
        others = [each.sizes.get("all", each.sizes.get("train", 0)) for each in mixed_sources(data, source.task)]
        weights = [1.0, *(each.weight for each in data.mix)]
        sizes["train"] = mixed_samples([sizes["train"], *others], weights)
    return sizes


def _fit(
    source: Source, train: tuple[Readable, Tensor | None], recipe: Recipe, progress: Progress
) -> tuple[Finish, Facts]:
    """Transforms and target scaling, measured on the training samples."""
    _check_measured(recipe)
    part, index = train
    transforms = fixed(recipe.data.transforms, rate=source.rate)
    fit_transforms(transforms, part, index, len(source.cardinalities), progress)
    mean = std = None
    if recipe.data.standardize_target:
        assert isinstance(part, (Samples, Listed))
        targets = part.targets if index is None else part.targets[index]
        mean, std = targets.mean(0), targets.std(0, correction=0).clamp_min(1e-12)
    shape = _transformed_shape(recipe.data, source)
    finish = Finish(transforms, None, recipe.task == "regression", mean, std, masks=recipe.task == "segmentation")
    given = source.outputs, source.classes, mean, std, None, source.vocabulary, source.cardinalities
    return finish, Facts(shape, *given)


def _named(source: Source, counts: Sequence[int]) -> str:
    names = [
        source.classes[number] for number, count in enumerate(counts) if not count and number < len(source.classes)
    ]
    return f" ({', '.join(names[:3])}{', …' if len(names) > 3 else ''})" if names else ""


def _class_counts(recipe: Recipe, pieces: Sequence[Piece], classes: int) -> tuple[int, ...] | None:
    """How many training samples each class has in an epoch; targets that are no class (an `ignore_index`) are left out.

    A dataset of one's own is only read for it, once and whole, where the loss asks for it. It may raise anything.
    """
    if recipe.task != "classification":
        return None
    told = all(isinstance(piece.part, (Samples, Listed)) for piece in pieces)
    if not told and recipe.loss.class_weights != "balanced":
        return None
    stop, counts = recipe.data.on_bad_sample == "stop", torch.zeros(classes, dtype=torch.float64)
    for piece in pieces:
        targets = labels(piece.part, piece.index, stop=stop)
        known = targets[(targets >= 0) & (targets < classes)]
        counts += piece.weight * torch.bincount(known, minlength=classes)
    return tuple(counts.ceil().long().tolist())  # one that is drawn in few epochs is there


def _check_task(recipe: Recipe, source: Source) -> None:
    if source.task != recipe.task:
        raise RecipeError("task", f"'{recipe.task}' does not fit {source.name}", f"It is for {source.task}.")
    if recipe.task == "segmentation":
        check_for_masks(recipe.data)


def _check_numbers(recipe: Recipe, source: Source) -> None:
    """Whether layers take what a dataset of one's own gives; its transforms and one's own model may."""
    data = recipe.data
    if not source.numbers or data.transforms or data.augment or recipe.model.python:
        return
    where = f"data.python: {data.python}"
    if source.numbers.startswith("complex"):
        what = f"sample 0 is {source.numbers}, and layers take real numbers"
        raise DataError(where, what, "Return torch.view_as_real(x), or its abs().")
    tokens = ", or for tokens give the dataset an attribute vocabulary = 1000" if len(source.shape) == 1 else ""
    raise DataError(where, f"sample 0 is {source.numbers}, and layers take floats", f"Return floats{tokens}.")


def _check_classes(recipe: Recipe, source: Source) -> None:
    """Whether what draws or mixes classes has any."""
    data, position = recipe.data, mixing_part(recipe.data.augment)
    if data.sampler == "balanced" and recipe.task != "classification":
        what = f"balanced is by class, and a {recipe.task} has none"
        raise RecipeError("data.sampler", what, 'Set sampler = "shuffle".')
    if position is not None and (recipe.task != "classification" or source.vocabulary):
        of = "tokens" if source.vocabulary else f"a {recipe.task}"
        what = f"{data.augment[position].name} mixes classes and pictures, not those of {of}"
        raise RecipeError(f"data.augment.{position}", what, "Remove it.")


def _check_measured(recipe: Recipe) -> None:
    """Whether what is measured on the training samples can be: a dataset of one's own is never held whole."""
    data = recipe.data
    for where, part in flattened(data.transforms):
        if part.name == "Standardize" and data.python:
            raise RecipeError(where, "Standardize needs a dataset in memory", "Use Normalize.")
    if data.standardize_target and (recipe.task != "regression" or data.python):
        raise RecipeError("data.standardize_target", "is for regression on a dataset in memory", "Remove it.")


def _transformed_shape(data: Data, source: Source, aside: bool = False) -> tuple[int, ...]:
    """The input shape after transforms and augmentation, found by sending two blank samples through them."""
    shape = source.shape
    blank = torch.zeros(2, *shape, dtype=torch.long if source.vocabulary else torch.float32)
    augment, finish = Augment(data.augment), Finish(fixed(data.transforms, rate=source.rate))
    if source.cardinalities and data.augment:
        remedy = 'Remove it, or set categories = "one-hot" in data.options.'
        raise RecipeError("data.augment", "would change codes of categories", remedy)
    if aside and augment.draws_globally:
        return tuple(_tried("data.transforms", lambda: finish.inputs(blank), shape).shape[1:])
    augmented = _tried("data.augment", lambda: augment.trial(blank), shape)
    plain = _tried("data.transforms", lambda: finish.inputs(blank), shape)
    both = _tried("data.transforms", lambda: finish.inputs(augmented), shape)
    if mixing := Mixing(data.augment, source.outputs):
        both = _tried("data.augment", lambda: mixing(both, torch.zeros(2, dtype=torch.long), 0)[0], shape)
    if both.shape != plain.shape:
        trained, seen = ("×".join(map(str, tensor.shape[1:])) for tensor in (both, plain))
        what = f"makes {trained} of samples that validation sees as {seen}"
        raise RecipeError("data.augment", what, "Give the crop that size, or resize in data.transforms.")
    return tuple(plain.shape[1:])


def _tried(where: str, apply: Callable[[], Tensor], shape: tuple[int, ...]) -> Tensor:
    try:
        result = apply()
    except StudioError:
        raise
    except Exception as error:  # torchvision raises TypeError, ValueError, RuntimeError and others for a wrong shape
        text = first_line(error)
        what = f"does not fit samples of {'×'.join(map(str, shape))}: {text}"
        raise RecipeError(where, what, "Change or remove it.") from error
    if not isinstance(result, Tensor):
        raise RecipeError(
            where, f"makes {with_article(type(result).__name__)} of a sample", "Keep to those that give one tensor."
        )
    return result
