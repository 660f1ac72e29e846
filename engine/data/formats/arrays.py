"""NumPy's `.npy` and `.npz` files of one's own, read without ever running what a pickle in them says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import torch

from engine.data.formats.ndarrays.form import Form, Layout, MappedArray
from engine.data.formats.ndarrays.labels import labelled, numbered
from engine.data.formats.ndarrays.pairs import Pair, pairs, shape_text
from engine.data.formats.tabular.cells import Places
from engine.data.formats.tabular.targets import Targets, counted
from engine.data.samples import BadSample, Loaded, Progress, Readable, Samples
from engine.data.sources import unread
from engine.errors import DataError, RecipeError
from engine.recipe import Data, TaskName

_HELD = 0.25  # share of the free memory that inputs may take; what is larger is read sample by sample
_CHUNK = 64 << 20  # bytes that are looked through at a time


def open_arrays(
    path: Path,
    task: TaskName,
    progress: Progress,
    *,
    inputs: str = "",
    targets: str = "",
    layout: Layout = "auto",
    vocabulary: int = 0,
    classes: tuple[str, ...] = (),
) -> Loaded:
    """Arrays whose first dimension counts the samples: of a `.npz`, of `.npy` files in a folder, or of one `.npy`.

    Parts are told by names: x_train, y_train, x_test, y_test. Raises RecipeError for options that do not fit the
    arrays, DataError for arrays that can't be read or learned from.

    Args:
        inputs: the name of the inputs in the file or folder; empty is x, inputs, images, data or features
        targets: the name of the targets, or of a `.npy` beside a `.npy`; empty is y, targets or labels, else the last
            column of the inputs
        layout: pictures as (N, H, W), (N, H, W, C) or (N, C, H, W); "plain" takes arrays as they are, "auto" tells
            pictures by their shape and type
        vocabulary: how many tokens there are, where inputs are rows of tokens; 0 takes them for numbers
        classes: the names of the classes, by number from 0; empty is all labels in order
    """
    if task not in ("classification", "regression"):
        raise RecipeError("task", f"arrays are not for {task}", 'Try "classification" or "regression".')
    if vocabulary < 0:
        raise RecipeError("data.options.vocabulary", f"{vocabulary} tokens can't be", "Write how many there are.")
    found = pairs(path, inputs, targets, tokens=vocabulary > 0)
    main = found.get("train") or found["all"]
    for pair in found.values():
        _check(pair, main, vocabulary)
    form = Form(layout, vocabulary).of(main.inputs, main.named)
    wanted, where = {part: pair.targets for part, pair in found.items()}, f"{path}: {main.told}"
    names: tuple[str, ...] = ()
    if task == "classification":
        names, told = labelled(wanted, classes, where)
    else:
        told = numbered(wanted, where)
    parts, bad = dict[str, Readable](), list[BadSample]()
    for part, pair in found.items():
        parts[part], wrong = _samples(pair, told[part], form, "index" if part == "all" else f"{part} index", progress)
        bad += wrong
    notes = []
    if task == "classification":
        notes = counted(names, {part: _targets(each) for part, each in parts.items()}, where)
    kind = "pictures" if form.layout != "plain" else f"{vocabulary} tokens" if vocabulary else "numbers"
    about = f"{shape_text(main.inputs)} {main.inputs.dtype}, {kind}; targets: {main.told}"
    source = replace(
        unread(Data(path=str(path)), task),
        about="; ".join((about, *notes)),
        shape=form.ready(main.inputs[:1]).shape[1:],
        outputs=len(names) or next(iter(told.values())).values.shape[1],
        sizes={part: len(each) for part, each in parts.items()},
        classes=names,
        vocabulary=vocabulary,
    )
    return Loaded(source, parts, bad)


def _check(pair: Pair, main: Pair, vocabulary: int) -> None:
    """Raise DataError for arrays that are no samples, or unlike those that are trained on."""
    inputs, where = pair.inputs, pair.named
    if not inputs.size:
        raise DataError(where, f"is empty ({shape_text(inputs)})", "Give it samples.")
    if inputs.dtype.kind not in "biuf":
        raise DataError(where, f"is {inputs.dtype}, no numbers", "Save numbers: astype('float32').")
    if len(pair.targets.shape) == 0 or len(pair.targets) != len(inputs):
        count = len(pair.targets) if pair.targets.ndim else "one"
        what = f"has {len(inputs):,} samples, {pair.told} has {count} targets"
        raise DataError(where, what, "Save as many targets as samples.")
    if vocabulary and (inputs.dtype.kind not in "iu" or inputs.ndim != 2):
        what = f"is {shape_text(inputs)} {inputs.dtype}, not rows of tokens"
        raise DataError(where, what, "Save whole numbers (samples × length), or set vocabulary = 0.")
    if inputs.shape[1:] != main.inputs.shape[1:] or inputs.dtype != main.inputs.dtype:
        what = f"is {shape_text(inputs)} {inputs.dtype}, {main.named} is {shape_text(main.inputs)} {main.inputs.dtype}"
        raise DataError(where, what, "Make all parts alike.")
    if pair.targets[0].size != main.targets[0].size:
        what = f"{pair.told} has {pair.targets[0].size} targets a sample, {main.told} has {main.targets[0].size}"
        raise DataError(where, what, "Make all parts alike.")


def _samples(pair: Pair, told: Targets, form: Form, place: str, progress: Progress) -> tuple[Readable, list[BadSample]]:
    """The samples of a part, and those of them that are wrong. Raises DataError where none is left."""
    count, wrong = len(pair.inputs), dict(told.wrong)
    inputs, free = None, psutil.virtual_memory().available
    if pair.file is None or pair.inputs.nbytes <= _HELD * free:
        if pair.inputs.nbytes > free:
            what = f"takes {pair.inputs.nbytes / 1e9:.1f} GB, {free / 1e9:.1f} GB of memory are free"
            raise DataError(pair.named, what, "Save inputs and targets as two .npy files: these need not fit.")
        inputs = _held(pair, form, wrong, progress)
    keep = np.ones(count, dtype=bool)
    keep[list(wrong)] = False
    bad = [BadSample(f"{place} {index}", wrong[index]) for index in sorted(wrong)]
    if not keep.any():
        raise DataError(pair.named, f"all {count:,} samples are wrong, the first: {bad[0]}", "Mend the arrays.")
    numbers = np.flatnonzero(keep)
    if inputs is None:
        assert pair.file is not None
        return MappedArray(pair.file, form, told.values[keep], numbers), bad
    inputs = inputs if keep.all() else inputs[keep]
    return Samples(torch.from_numpy(inputs), told.values[keep], Places(place, numbers)), bad


def _held(pair: Pair, form: Form, wrong: dict[int, str], progress: Progress) -> np.ndarray:
    """All inputs in memory, read piece by piece; those that are no numbers are added to `wrong`."""
    first = form.ready(pair.inputs[:1])
    made = np.empty((len(pair.inputs), *first.shape[1:]), dtype=first.dtype)
    step = max(1, _CHUNK // max(1, pair.inputs[:1].nbytes))
    for start in range(0, len(made), step):
        chunk = pair.inputs[start : start + step]
        made[start : start + step] = form.ready(chunk)
        counts = form.wrong(chunk)
        for index in np.flatnonzero(counts).tolist():
            wrong.setdefault(start + index, form.said(int(counts[index]), chunk[index].size))
        progress(f"reading {Path(pair.named).name}", min(start + step, len(made)), len(made))
    return made


def _targets(part: Readable) -> torch.Tensor:
    assert isinstance(part, (Samples, MappedArray))
    return part.targets
