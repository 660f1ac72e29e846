"""Which samples are trained on, which are watched while training, and which are left for the end."""

# N samples · K classes · G groups

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Generator, Tensor

from engine.data.samples import BadSample, Listed, Loaded, MapDataset, Measured, Part, Readable, Samples
from engine.data.serving.fetching import refused
from engine.errors import DataError, RecipeError, nearest
from engine.recipe import Data, Split, TaskName
from engine.seeds import derive

Drawn = dict[str, tuple[Part, Tensor | None]]
"""Each part as samples and the numbers taken of them; None: all."""
Parts = dict[str, tuple[Readable, Tensor | None]]
"""The same when all that is measured on the training samples is measured."""

_SHOWN = 5  # classes named in a note


@dataclass(frozen=True)
class Sizes:
    """How many samples each part gets of those that are shared out; with folds `val` is the one at hand."""

    train: int
    val: int
    test: int


def split(loaded: Loaded, data: Data, notes: list[str]) -> Drawn:
    """Each part as samples and the indices taken of them (None: all), drawn from `split.seed` alone.

    A dataset's own validation and test sets stay whole; the others share the rest in the recipe's proportion. Of the
    training samples a `subset` is taken. Raises DataError for a column that is not there, RecipeError for what does
    not fit.
    """
    shares, name = data.split, loaded.source.name
    main = main_part(loaded)
    own = {part: loaded.parts[part] for part in ("val", "test") if part in loaded.parts}
    for part, word in (("val", "validation"), ("test", "test")):
        if part in own and getattr(shares, part) > 0 and not (part == "val" and shares.folds):
            notes.append(f"{name} brings its own {word} set: split.{part} has no effect.")
    sizes = shared_out(len(main), shares, frozenset(own), f"data: {name}")
    generator = torch.Generator().manual_seed(shares.seed)
    match shares.how:
        case "random":
            drawn = _in_a_row(torch.randperm(len(main), generator=generator), sizes, shares)
        case "ordered":
            drawn = _by_time(_order_of(main, shares.by, name), sizes, shares)
        case "stratified":
            drawn = _stratified(loaded, main, sizes, shares, generator, notes)
        case "grouped":
            groups = _group_numbers(main, shares.by, name)
            drawn = _grouped(groups, sizes, shares, generator)
            counts = " · ".join(f"{part} {len(index)}" for part, index in drawn.items() if len(index))
            notes.append(f"split by {shares.by}: {int(groups.max()) + 1 if len(groups) else 0} groups, {counts}")
    if shares.folds:
        notes.append(
            f"fold {shares.fold} of 0…{shares.folds - 1} is the validation part; split.train and .val don't count"
        )
    found: Drawn = {part: (main, index) for part, index in drawn.items()}
    found["train"] = main, _subset(loaded, main, drawn["train"], data, notes)
    return found | {part: (samples, None) for part, samples in own.items()}


def check_split(shares: Split, task: TaskName, loaded: Loaded | None = None) -> None:
    """What can be said of a split before it is drawn. Raises RecipeError, or DataError for a column `loaded` lacks."""
    if shares.how == "stratified" and task != "classification":
        what = f"stratified is by class, and a {task} has none"
        raise RecipeError("data.split.how", what, 'Set how = "random".')
    if shares.by and loaded is not None:
        _column(main_part(loaded), shares.by, loaded.source.name)


def main_part(loaded: Loaded) -> Part:
    """What is split, or trained on whole. Raises DataError where there is nothing to train on."""
    main = loaded.parts.get("all", loaded.parts.get("train"))
    if main is None:
        raise DataError(f"data: {loaded.source.name}", "has no part to train on", "Give it a 'train' part.")
    return main


def shared_out(count: int, shares: Split, own: frozenset[str], where: str = "data.split") -> Sizes:
    """The sizes of the parts of `count` samples; those that the dataset has of its `own` take none of them.

    Of groups and of classes with one sample the real ones may differ. Raises DataError.
    """
    owned = sum(getattr(shares, part) for part in sorted(own))
    scale = 1 / (1 - owned) if 0 < owned < 1 else 1.0
    if shares.folds:
        if "val" in own:
            raise RecipeError("data.split.folds", "the dataset brings its own validation set", "Remove folds.")
        test = 0 if "test" in own else min(round(count * shares.test), count)
        rest = count - test
        if rest < shares.folds:
            raise DataError(where, f"{rest} samples can't be cut into {shares.folds} folds", "Lower data.split.folds.")
        val = rest // shares.folds + (shares.fold < rest % shares.folds)
        return Sizes(rest - val, val, test)
    val = 0 if "val" in own else round(count * shares.val * scale)
    test = 0 if "test" in own else min(round(count * shares.test * scale), count - val)
    rest = count - val - test
    whole = shares.train + shares.val + shares.test > 1 - 1e-9  # then rounding must not lose a sample
    return Sizes(rest if whole else min(round(count * shares.train * scale), rest), val, test)


def subset_size(count: int, subset: float) -> int:
    """How many of `count` training samples are trained on: a share up to 1, or so many."""
    if not count or subset == 1:
        return count
    return max(1, round(count * subset)) if subset < 1 else min(int(subset), count)


def labels(part: Part, index: Tensor | None, *, stop: bool = False) -> Tensor:
    """The classes (N,) of the samples of these numbers. A dataset of one's own is read for it, once and whole.

    A sample of it that can't be read is of class -1, or, to `stop` at it, raised as a DataError.
    """
    if isinstance(part, (Samples, Listed, Measured)):
        return part.targets if index is None else part.targets[index]
    numbers = range(len(part)) if index is None else index.tolist()
    return torch.tensor([_label(part, number, stop) for number in numbers], dtype=torch.long)


def _label(part: MapDataset, number: int, stop: bool) -> int:
    try:
        return int(part[number][1])
    except BadSample as error:
        if stop:
            raise refused(error) from error
        return -1


def apportioned(counts: Tensor, total: int, most: Tensor) -> Tensor:
    """`total` shared out by `counts` (K,), none above `most` (K,): by the largest remainder."""
    total = min(total, int(most.sum()))
    if not total:
        return torch.zeros_like(counts)
    quota = counts.double() * total / int(counts.sum())
    given = torch.minimum(quota.floor().long(), most)
    while (left := total - int(given.sum())) > 0:
        open_to_it = given < most
        remainder = torch.where(open_to_it, quota - given, -torch.inf)
        chosen = remainder.argsort(descending=True, stable=True)[: min(left, int(open_to_it.sum()))]
        given[chosen] += 1
    return given


# How


def _in_a_row(order: Tensor, sizes: Sizes, shares: Split) -> dict[str, Tensor]:
    """The parts one behind the other: the first are trained on."""
    if shares.folds:
        return _folded(order, sizes, shares)
    held = sizes.train + sizes.val
    return {"train": order[: sizes.train], "val": order[sizes.train : held], "test": order[held : held + sizes.test]}


def _by_time(order: Tensor, sizes: Sizes, shares: Split) -> dict[str, Tensor]:
    """The first are trained on, the last are the test, whatever is left out between them."""
    if shares.folds:
        return _folded(order, sizes, shares)
    end = len(order) - sizes.test
    return {"train": order[: sizes.train], "val": order[end - sizes.val : end], "test": order[end:]}


def _folded(order: Tensor, sizes: Sizes, shares: Split) -> dict[str, Tensor]:
    end = len(order) - sizes.test
    folds = list(order[:end].tensor_split(shares.folds))
    val = folds.pop(shares.fold)
    return {"train": torch.cat(folds), "val": val, "test": order[end:]}


def _stratified(
    loaded: Loaded, main: Part, sizes: Sizes, shares: Split, generator: Generator, notes: list[str]
) -> dict[str, Tensor]:
    """Each class by the same shares, at least one sample of each trained on."""
    check_split(shares, loaded.source.task)
    found, classes = _told_apart(labels(main, None))
    counts = torch.bincount(classes, minlength=len(found))
    if (alone := found[(counts == 1) & (found >= 0)].tolist()) and sizes.val + sizes.test:
        names = ", ".join(_class_name(loaded, number) for number in alone[:_SHOWN])
        more = f" and {len(alone) - _SHOWN} more" if len(alone) > _SHOWN else ""
        have = "has one sample, which is" if len(alone) == 1 else "have one sample each, which is"
        notes.append(f"{names}{more} {have} trained on: there is none to validate or test with")
    shuffled = torch.randperm(len(classes), generator=generator)
    order = shuffled[classes[shuffled].argsort(stable=True)]  # class after class, each shuffled
    places = torch.arange(len(order)) - (counts.cumsum(0) - counts)[classes[order]]  # its place in its class
    several = torch.where(counts > 1, counts, 0)
    test = apportioned(several, sizes.test, (counts - 1).clamp_min(0))
    of_test = (places < test[classes[order]]).nonzero().flatten()
    left, held = counts - test, order[of_test]
    rest = order[places >= test[classes[order]]]
    if shares.folds:
        several_left = (counts > 1)[classes[rest]]
        dealt = rest[several_left]
        fold = torch.arange(len(dealt)) % shares.folds
        trained = torch.cat([dealt[fold != shares.fold], rest[~several_left]])
        return _shuffled({"train": trained, "val": dealt[fold == shares.fold], "test": held}, generator)
    val = apportioned(torch.where(counts > 1, left, 0), sizes.val, (left - 1).clamp_min(0))
    train = left - val
    if sizes.train + sizes.val + sizes.test < len(main):
        train = _one_of_each(apportioned(train, sizes.train, train), train)
    place = places[places >= test[classes[order]]] - test[classes[rest]]
    in_val = place < val[classes[rest]]
    in_train = ~in_val & (place < (val + train)[classes[rest]])
    return _shuffled({"train": rest[in_train], "val": rest[in_val], "test": held}, generator)


def _one_of_each(counts: Tensor, there: Tensor) -> Tensor:
    """`counts` of classes with one of each that is `there`, given by the largest, as far as they reach."""
    counts = counts.clone()
    for number in ((counts == 0) & (there > 0)).nonzero().flatten().tolist():
        largest = int(counts.argmax())
        if counts[largest] > 1:
            counts[largest] -= 1
            counts[number] += 1
    return counts


def _shuffled(parts: Mapping[str, Tensor], generator: Generator) -> dict[str, Tensor]:
    """The same parts, each shuffled: evaluation takes them as they stand, and classes in a row mislead batch norm."""
    return {name: index[torch.randperm(len(index), generator=generator)] for name, index in parts.items()}


def _grouped(groups: Tensor, sizes: Sizes, shares: Split, generator: Generator) -> dict[str, Tensor]:
    """Whole groups, the largest first, each to the part that lacks most; no part stays empty if there are enough."""
    counts = torch.bincount(groups)
    shuffled = torch.randperm(len(counts), generator=generator)
    order = shuffled[counts[shuffled].argsort(descending=True, stable=True)].tolist()
    wanted = {"train": sizes.train, "val": sizes.val, "test": sizes.test}
    if shares.folds:
        wanted = {"rest": sizes.train + sizes.val, "test": sizes.test}
    unused = len(groups) - sizes.train - sizes.val - sizes.test
    given = _dealt(order, counts.tolist(), {**wanted, **({"unused": unused} if unused else {})})
    if shares.folds:
        rest = given.pop("rest")
        if len(rest) < shares.folds:
            what = f"{len(rest)} groups can't be cut into {shares.folds} folds"
            raise DataError(f"data: {shares.by}", what, "Lower data.split.folds.")
        total = sum(int(counts[group]) for group in rest)
        folds = _dealt(rest, counts.tolist(), {str(fold): total // shares.folds for fold in range(shares.folds)})
        given["val"] = folds.pop(str(shares.fold))
        given["train"] = [group for fold in folds.values() for group in fold]
    where = torch.zeros(len(counts), dtype=torch.long)
    names = ("train", "val", "test")
    for number, name in enumerate(names, start=1):
        where[given[name]] = number
    samples = torch.randperm(len(groups), generator=generator)
    part = where[groups[samples]]
    return {name: samples[part == number] for number, name in enumerate(names, start=1)}


def _dealt(order: Sequence[int], counts: Sequence[int], wanted: Mapping[str, int]) -> dict[str, list[int]]:
    """The groups of each part; `wanted` says how many samples it should have."""
    lacking = dict(wanted)
    given: dict[str, list[int]] = {name: [] for name in wanted}
    for group in order:
        name = max(lacking, key=lambda each: lacking[each])
        given[name].append(group)
        lacking[name] -= counts[group]
    for name, groups in given.items():
        if wanted[name] and not groups:
            richest = max(given.values(), key=len)
            if len(richest) > 1:
                groups.append(richest.pop())  # the smallest one of it
    return given


def _subset(loaded: Loaded, main: Part, train: Tensor, data: Data, notes: list[str]) -> Tensor:
    """As many of the training samples as the recipe wants, in their order."""
    size = subset_size(len(train), data.subset)
    if size == len(train):
        if data.subset > max(1, len(train)):
            notes.append(f"data.subset: there are only {len(train)} training samples, all of them are trained on.")
        return train
    generator = torch.Generator().manual_seed(derive(data.split.seed, 1))
    order = torch.randperm(len(train), generator=generator)
    if data.split.how == "stratified":
        classes = _told_apart(labels(main, train))[1]
        counts = torch.bincount(classes)
        order = order[classes[order].argsort(stable=True)]
        places = torch.arange(len(order)) - (counts.cumsum(0) - counts)[classes[order]]
        order = order[places < apportioned(counts, size, counts)[classes[order]]]
    return train[order[:size].sort().values]


# What of


def _column(part: Part, by: str, name: str) -> np.ndarray:
    columns = getattr(part, "columns", None)
    columns = columns if isinstance(columns, Mapping) else {}
    if by not in columns:
        remedy = nearest(by, columns) or (f"It has {', '.join(columns)}." if columns else "It has none to split by.")
        raise DataError(f"data.split.by: {name}", f"has no column '{by}'", remedy)
    values = np.asarray(columns[by])
    return values.astype(str) if values.dtype == object else values


def _order_of(part: Part, by: str, name: str) -> Tensor:
    if not by:
        return torch.arange(len(part))
    return torch.from_numpy(np.argsort(_column(part, by, name), kind="stable"))


def _group_numbers(part: Part, by: str, name: str) -> Tensor:
    """For each sample the number of its group (N,)."""
    return torch.from_numpy(np.unique(_column(part, by, name), return_inverse=True)[1].reshape(-1)).long()


def _told_apart(classes: Tensor) -> tuple[Tensor, Tensor]:
    """The classes that there are, and for each sample which of those it is of."""
    found: tuple[Tensor, Tensor] = torch.unique(classes, return_inverse=True)
    return found


def _class_name(loaded: Loaded, number: int) -> str:
    names = loaded.source.classes
    return names[number] if 0 <= number < len(names) else f"class {number}"
