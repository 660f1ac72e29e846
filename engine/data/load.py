"""A dataset of the catalog or of one's own → its samples, as tensors where they fit in memory.

Images are uint8 in (N, channels, height, width); tables are float32 in (N, columns). Class targets are int64 in (N,),
numbers to predict float32 in (N, outputs).
"""

from __future__ import annotations

import contextlib
import json
import reprlib
import threading
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from engine.data.fetching.turns import turn
from engine.data.formats import opening
from engine.data.formats.opening import open_files
from engine.data.samples import BadSample, Loaded, MapDataset, Progress, Samples, as_tensor
from engine.data.sources import HUGGING_FACE, Source, check_options, described, find, row_of, unread
from engine.errors import DataError, with_article
from engine.paths import bundled, data_root
from engine.printable import printable_line
from engine.python_file import call, line_of, load_function, said
from engine.recipe import Dataset, TaskName


def load(
    data: Dataset, task: TaskName, progress: Progress = lambda what, done, total: None, where: str = "data"
) -> Loaded:
    """Load the dataset that `[data]` names, or another table of the recipe (`where`), downloading it if it must.

    Raises RecipeError for a dataset or option that does not exist, DataError for one that can't be had or read.
    """
    if data.python:
        return _load_python(data, task, where)
    if data.path:
        return open_files(data, task, progress, where)
    source = find(data.name, f"{where}.name")
    options = check_options(source, data, f"{where}.options")
    if source.origin == "made":
        return make_line(source, **options)
    if source.origin == "bundled":
        return _load_bundled(source)
    if data.name.startswith(HUGGING_FACE):
        from engine.data.formats.huggingface import open_hub  # it is one of many formats

        return open_hub(data, task, progress)
    return _load_vision(described(data, where), options, progress)


def _load_vision(source: Source, options: dict[str, Any], progress: Progress) -> Loaded:
    """What was read last of boxes, and of what is only known by reading it, is kept: it is asked for at every edit."""
    from engine.data.vision.reading import load_vision  # torchvision takes a second to import

    row = row_of(source.name, options)
    if not source.read and source.task != "detection":
        return load_vision(source, row, options, progress)
    key = json.dumps([source.name, str(data_root()), options], sort_keys=True)
    with turn(_reading, source.name, progress):
        last = next(iter(_last), None)
        if last is None or last[0] != key:
            last = key, load_vision(source, row, options, progress)
            _last[:] = [last]
        return last[1]


_last: list[tuple[str, Loaded]] = []
_reading = threading.Lock()


def forget() -> None:
    """Read every dataset anew when it is next asked for."""
    from engine.data.formats import huggingface  # it is one of many formats

    opening.forget()
    huggingface.forget()
    _last.clear()


def _load_bundled(source: Source) -> Loaded:
    path = bundled(f"{source.name}.npz")
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {key: archive[key] for key in archive.files}
    except (OSError, ValueError) as error:
        raise DataError(str(path), "can't be read", "Install torch-tui again.") from error
    if "images" in arrays:
        inputs = torch.from_numpy(arrays["images"]).unsqueeze(1)  # (N, 1, 28, 28)
    else:
        inputs = torch.from_numpy(arrays["features"])
    if source.task == "classification":
        targets = torch.from_numpy(arrays["labels"]).long()
    else:
        targets = torch.from_numpy(arrays["targets"]).unsqueeze(1)
    columns = tuple(map(str, arrays.get("feature_names", ())))
    return Loaded(replace(source, columns=columns), {"all": Samples(inputs, targets)})


def make_line(source: Source, points: int = 1000, slope: float = 2.0, noise: float = 0.1, seed: int = 0) -> Loaded:
    """Points of a straight line with Gaussian noise.

    y = slope · x + noise · ε, with x uniform in [-1, 1] and ε standard normal.

    Args:
        points: how many there are.
        slope: how much y grows with x.
        noise: how far the points lie from the line, as a standard deviation.
        seed: other points for each.
    """
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(points, 1, generator=generator) * 2 - 1
    y = slope * x + noise * torch.randn(points, 1, generator=generator)
    return Loaded(replace(source, sizes={"all": points}), {"all": Samples(x, y)})


_NUMBERS = "fiub"  # kinds of NumPy's types: floats, whole numbers of both sorts, truth values


def _load_python(data: Dataset, task: TaskName, section: str) -> Loaded:
    """Call `file.py:function`; it returns a map-style dataset, or a dict of them: `train`, and `val` and `test`."""
    where = f"{section}.python: {data.python}"
    returned = call(load_function(data.python, f"{section}.python"), {}, data.options, section, DataError)
    parts = dict(returned) if isinstance(returned, Mapping) else {"all": returned}
    if not parts or (not set(parts) <= {"train", "val", "test"} and set(parts) != {"all"}):
        raise DataError(
            where, f"returned parts {sorted(map(str, parts))}", "Return one dataset, or {'train': …, 'test': …}."
        )
    for name, part in parts.items():
        if not hasattr(part, "__getitem__") or not hasattr(part, "__len__"):
            raise DataError(
                where,
                f"returned {with_article(type(part).__name__)} for {name}",
                "Return an object with [i] and len().",
            )
        if len(part) == 0:
            raise DataError(where, f"the dataset '{name}' is empty", "Give it samples.")
    first: Any = next(iter(parts.values()))
    try:
        inputs, target = _readable(first)
        inputs, target = as_tensor(inputs), np.asarray(target)
        if target.dtype.kind in _NUMBERS:
            torch.as_tensor(target)  # torch takes no turned arrays, and not every width
    except Exception as error:
        at = f"{line}: " if (line := line_of(error)) else ""
        raise DataError(
            where, f"sample 0 can't be read: {at}{said(error)}", "A sample is (input, target), arrays or tensors."
        ) from error
    classes = tuple(map(str, getattr(first, "classes", ())))
    of_classes = task in ("classification", "segmentation")
    outputs = len(classes) if of_classes else max(1, target.size)
    if of_classes and not classes:
        raise DataError(where, "does not say its classes", "Give the dataset an attribute classes = ['cat', 'dog'].")
    vocabulary = _vocabulary(first, inputs, where)
    lack, remedy = _lack_of_target(target, task, outputs)
    if lack:
        raise DataError(where, f"sample 0 {lack}", remedy)
    usual = inputs.is_floating_point() or inputs.dtype is torch.uint8 or vocabulary
    source = replace(
        unread(data, task),
        about=(type(first).__doc__ or data.python).strip().splitlines()[0],
        shape=tuple(inputs.shape),
        outputs=outputs,
        sizes={name: len(part) for name, part in parts.items()},
        classes=classes,
        vocabulary=vocabulary,
        numbers="" if usual else str(inputs.dtype).removeprefix("torch."),
    )
    return Loaded(source, parts)


def _readable(dataset: MapDataset) -> Any:
    """The first sample that can be read: what becomes of bad ones `data.on_bad_sample` says later. Raises anything."""
    for number in range(len(dataset)):
        with contextlib.suppress(BadSample):
            return dataset[number]
    return dataset[0]


def _lack_of_target(target: np.ndarray[Any, Any], task: TaskName, outputs: int) -> tuple[str, str]:
    """What keeps a task from taking a sample's target, and the remedy; else two empty texts."""
    kind = target.dtype.kind
    if kind not in _NUMBERS:
        text = printable_line(reprlib.repr(target.tolist()))
        if task == "classification":
            return f"has the target {text}, and a class is a number", "Return classes.index(name)."
        return f"has the target {text}, which is no number", "Return a number, or an array of them."
    if task == "segmentation" and kind == "f":
        return (
            f"has a mask of {target.dtype}, and the class of a pixel is a whole number",
            "Return mask.long(), or .astype(int) of an array.",
        )
    shares = kind == "f" and target.size == outputs  # they are served in one row, whatever their shape
    if task != "classification" or shares or (not target.ndim and kind != "f"):
        return "", ""
    what = f"has {target.size} {'number' if target.size == 1 else 'numbers'} of {target.dtype} for a target"
    return f"{what}, and a class is one whole number", "Return int(target), or int(target.argmax()) of a one-hot row."


def _vocabulary(dataset: MapDataset, sample: Tensor, where: str) -> int:
    """How many tokens a person's dataset says there are: a number, or the tokens themselves; 0 for other data."""
    said = getattr(dataset, "vocabulary", 0)
    count = said if isinstance(said, int) else len(said)
    if count and (sample.is_floating_point() or sample.ndim != 1):
        what = f"has a vocabulary, but sample 0 is {sample.ndim}-dimensional {sample.dtype}"
        raise DataError(where, what.replace("torch.", ""), "Return the numbers of its tokens: one row of integers.")
    return count
