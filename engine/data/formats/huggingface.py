"""Datasets of Hugging Face: on its hub, saved by `save_to_disk`, or in a folder of Parquet files."""

# N samples · C channels · H height · W width

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import json
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from engine.data.fetching.hub_bars import hub_bars
from engine.data.fetching.turns import turn
from engine.data.formats.catalog import format_entry
from engine.data.formats.text import Texts, Tokenizing
from engine.data.pictures.decoding import GREY, Channels, Fit
from engine.data.pictures.hub import HubPictures
from engine.data.reading.parts import CALLED
from engine.data.samples import BadSample, Loaded, Part, Progress, Samples
from engine.data.sources import HUGGING_FACE, Source, find
from engine.data.tokenizing.tokenizers import Kind
from engine.data.vision.table import USUAL
from engine.errors import DataError, first_line, nearest
from engine.paths import data_root
from engine.recipe import Dataset, TaskName

_LABELS = ("label", "labels", "class", "target", "fine_label", "category", "y")
_LOOKED_AT = 32
_OWN = 1024  # pictures of one size keep it up to this side
_last: list[tuple[str, Loaded]] = []
_reading = threading.Lock()


def open_huggingface(
    path: Path,
    task: TaskName,
    progress: Progress,
    *,
    config: str = "",
    input: str | tuple[str, ...] = "",
    label: str = "",
    train: str = "",
    val: str = "",
    test: str = "",
    size: int | tuple[int, int] = 0,
    fit: Fit = "crop",
    channels: Channels = "auto",
    tokenizer: Kind = "word",
    vocabulary: int = 10_000,
    min_count: int = 1,
    max_length: int = 256,
    lowercase: bool = True,
) -> Loaded:
    """A dataset of Hugging Face's hub, one that was saved by `save_to_disk`, or a folder of Parquet files.

    Args:
        config: the name of the configuration, of a dataset that has several.
        input: the column to learn from, or a list of columns of numbers; empty finds the only picture, or all numbers.
        label: the column to predict; empty finds it.
        train: what the part to train on is called there; empty finds it.
        val: what the part to validate on is called there; empty finds it.
        test: what the part to test on is called there; empty finds it.
        size: the side of a picture in pixels, or [height, width]; 0 is their own where all are alike, else 224.
        fit: how pictures are brought to that size: crop, pad, stretch.
        channels: grey, rgb, or auto: grey where none of those looked at has colours.
        tokenizer: of texts, what a token is: a word, a character, or a byte-pair, which is a frequent piece of a word.
        vocabulary: the most tokens that are known, with padding and unknown; the rest is unknown.
        min_count: tokens that are rarer than this in the training texts are unknown.
        max_length: tokens of a text that are kept; 0 is as many as the longest training text has.
        lowercase: whether A and a are the same.

    Raises:
        DataError: the package is not there, or the dataset can't be read so.
    """
    name, parts = str(path), {"train": train, "val": val, "test": test}
    hub = name.startswith(HUGGING_FACE)  # open_hub says so: the options are the same
    where = f"data.{'name' if hub else 'path'}: {name}"
    how = Tokenizing(tokenizer, vocabulary, min_count, max_length, lowercase)
    wanted = _Wanted(where, task, input, label, parts, size, fit, channels, how)
    if hub:
        # It stays in Hugging Face's own cache, where a person's other programs find it.
        repository = name.removeprefix(HUGGING_FACE)
        known = replace(find(name), task=task)
        return _loaded(lambda package: package.load_dataset(repository, config or None), known, wanted, progress)
    source = Source(path.resolve().name, f"{path}, of Hugging Face.", task, (), 0, {}, "yours", path=name)
    if {"dataset_dict.json", "state.json"} & {entry.name for entry in path.iterdir()}:
        return _loaded(lambda package: package.load_from_disk(name), source, wanted, progress)
    cache = str(data_root() / "huggingface")  # of rows that it copies from the files
    return _loaded(
        lambda package: package.load_dataset(name, config or None, cache_dir=cache), source, wanted, progress
    )


def open_hub(data: Dataset, task: TaskName, progress: Progress) -> Loaded:
    """The dataset named `hf:org/name`, downloaded if it is not there; what was read last is kept. Raises as above."""
    entry = format_entry("huggingface")
    entry.check(data.options, "data.options")
    key = json.dumps([data.name, task, data.options], sort_keys=True)
    with turn(_reading, data.name, progress):
        last = next(iter(_last), None)
        if last is None or last[0] != key:
            values = {name: entry.ready(name, value) for name, value in data.options.items()}
            loaded = open_huggingface(Path(data.name), task, progress, **values)
            with contextlib.suppress(OSError):
                data_root().mkdir(parents=True, exist_ok=True)
                loaded.source.marker.touch()
            last = key, loaded
            _last[:] = [last]
        return last[1]


def forget() -> None:
    """Read it anew when it is next asked for."""
    _last.clear()


@dataclass(frozen=True)
class _Wanted:
    """The options, and where a recipe has them."""

    where: str
    task: TaskName
    input: str | tuple[str, ...]
    label: str
    parts: Mapping[str, str]
    size: int | tuple[int, int]
    fit: Fit
    channels: Channels
    how: Tokenizing


def _loaded(read: Callable[[Any], Any], source: Source, wanted: _Wanted, progress: Progress) -> Loaded:
    if importlib.util.find_spec("datasets") is None:
        what = "is read by the package datasets, which is not installed"
        raise DataError(wanted.where, what, "pip install 'torch-tui[huggingface]'")
    package = importlib.import_module("datasets")  # 2.7 s
    try:
        with hub_bars(progress):
            found = read(package)
    except (OSError, ValueError, RuntimeError, KeyError, AttributeError) as error:  # its own are of these kinds
        remedy = "Check the name, the configuration and the connection." if source.read else "Check the folder."
        raise DataError(wanted.where, f"can't be had: {first_line(error)}", remedy) from error
    except package.exceptions.DatasetGenerationError as error:
        why = first_line(error.__cause__ or error)
        raise DataError(wanted.where, f"can't be read: {why}", "Look at its files.") from error
    splits = _splits(found, wanted)
    first = next(iter(splits.values()))
    label = _label(first, wanted)
    classes = _class_names(splits, label) if wanted.task == "classification" else ()
    targets = {part: _targets(split, label, classes, wanted) for part, split in splits.items()}
    labelled = {part: _labelled(split, targets[part]) for part, split in splits.items()}
    kept = {part: each for part, each in labelled.items() if len(each.rows)}
    if "all" not in kept and "train" not in kept:
        raise DataError(wanted.where, f"has no value in the column '{label}'", "Set options.label.")
    columns = _inputs(first, label, wanted)
    parts, shape = _parts(kept, columns, wanted)
    bad = [
        BadSample(f"{part} {row}", f"has no value in the column '{label}'")
        for part, each in kept.items()
        for row in np.setdiff1d(np.arange(len(splits[part])), each.rows).tolist()
    ]
    numbers = shape == (len(columns),) and len(columns) > 1
    made = replace(
        source,
        shape=shape,
        outputs=len(classes) if wanted.task == "classification" else 1,
        sizes={part: len(samples) for part, samples in parts.items()},
        classes=classes,
        columns=columns if numbers else (),
    )
    return Loaded(made, parts, bad)


def _splits(found: Any, wanted: _Wanted) -> dict[str, Any]:
    """Its parts by our names: those that the recipe names, else those that are called so."""
    if not isinstance(found, Mapping):
        return {"all": found}
    chosen: dict[str, str] = {}
    for part, name in wanted.parts.items():
        if name and name not in found:
            remedy = nearest(name, found) or f"There are {', '.join(found)}."
            raise DataError(wanted.where, f"has no part '{name}'", remedy)
        if ours := name or next((each for each in CALLED[part] if each in found), ""):
            chosen[part] = ours
    if "train" not in chosen and len(found) == 1:
        return {"all": next(iter(found.values()))}
    if "train" not in chosen:
        raise DataError(wanted.where, f"has parts {', '.join(found)}", "Set options.train to the one to train on.")
    return {part: found[name] for part, name in chosen.items()}


def _column(name: str, features: Mapping[str, Any], wanted: _Wanted) -> str:
    if name not in features:
        remedy = nearest(name, features) or f"There are {', '.join(features)}."
        raise DataError(wanted.where, f"has no column '{name}'", remedy)
    return name


def _label(split: Any, wanted: _Wanted) -> str:
    features = split.features
    if wanted.label:
        return _column(wanted.label, features, wanted)
    named = [name for name, feature in features.items() if hasattr(feature, "names")]
    likely = [name for name in _LABELS if name in features]
    found = named if len(named) == 1 else likely
    if not found:
        raise DataError(wanted.where, f"has columns {', '.join(features)}", "Set options.label to the one to predict.")
    return found[0]


def _inputs(split: Any, label: str, wanted: _Wanted) -> tuple[str, ...]:
    features = split.features
    if wanted.input:
        names = (wanted.input,) if isinstance(wanted.input, str) else wanted.input
        return tuple(_column(name, features, wanted) for name in names)
    others = [name for name in features if name != label]
    pictures = [name for name in others if _is_picture(features[name])]
    texts = [name for name in others if _is_text(features[name])]
    if len(pictures) == 1 or (not pictures and len(texts) == 1):
        return ((pictures or texts)[0],)
    numbers = [name for name in others if not hasattr(features[name], "names") and _is_number(features[name])]
    if pictures or not numbers:
        raise DataError(
            wanted.where, f"has columns {', '.join(features)}", "Set options.input to the one to learn from."
        )
    return tuple(numbers)


def _is_picture(feature: Any) -> bool:
    return type(feature).__name__ == "Image"


def _is_text(feature: Any) -> bool:
    return "string" in str(getattr(feature, "dtype", ""))


def _is_number(feature: Any) -> bool:
    inner = getattr(feature, "feature", feature)  # of a list of numbers, what it holds
    return any(kind in str(getattr(inner, "dtype", "")) for kind in ("int", "float", "bool"))


# Targets


def _array(split: Any, name: str) -> np.ndarray:
    """A column whole, without reading the others."""
    return np.asarray(split.select_columns([name]).with_format("numpy")[:][name])


def _class_names(splits: Mapping[str, Any], label: str) -> tuple[str, ...]:
    named = getattr(next(iter(splits.values())).features[label], "names", None)
    if named:
        return tuple(named)
    values = {value for split in splits.values() for value in _array(split, label).tolist() if not _absent(value)}
    plain = {_plain(value) for value in values}
    return tuple(str(value) for value in sorted(plain, key=lambda value: (isinstance(value, str), value)))


def _targets(split: Any, label: str, classes: Sequence[str], wanted: _Wanted) -> Tensor:
    """(N,) classes, -1 where there is none, or (N, 1) numbers to predict."""
    feature, values = split.features[label], _array(split, label)
    if wanted.task == "regression":
        if _is_text(feature) or values.ndim != 1:
            raise DataError(
                wanted.where, f"the column '{label}' holds no numbers", "Set options.label to one that does."
            )
        return torch.from_numpy(values.astype(np.float32)).unsqueeze(1)
    if values.ndim != 1 or (values.dtype.kind == "f" and len(classes) > 1000):
        raise DataError(wanted.where, f"the column '{label}' holds no classes", "Set options.label, or the task.")
    if hasattr(feature, "names"):
        return torch.from_numpy(np.nan_to_num(values.astype(np.float64), nan=-1).astype(np.int64))
    numbers = {name: number for number, name in enumerate(classes)}
    found = [-1 if _absent(value) else numbers[str(_plain(value))] for value in values.tolist()]
    return torch.tensor(found, dtype=torch.long)


def _absent(value: Any) -> bool:
    """Whether a cell has nothing in it: NumPy knows that of numbers as NaN, which is not even itself."""
    return value is None or value != value


def _plain(value: Any) -> Any:
    """A whole number that became a float, as numbers do beside empty cells, as it was."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


@dataclass(frozen=True)
class _Labelled:
    """The samples of a part that have a label: their numbers there, and their targets."""

    split: Any
    rows: np.ndarray
    targets: Tensor


def _labelled(split: Any, targets: Tensor) -> _Labelled:
    """A part without the samples whose labels are missing, or kept back (-1), as all of many a test set are."""
    there = ~torch.isnan(targets).any(1) if targets.is_floating_point() else targets >= 0
    rows = there.nonzero().flatten()
    return _Labelled(split if bool(there.all()) else split.select(rows.numpy()), rows.numpy(), targets[rows])


# Inputs


def _parts(
    found: Mapping[str, _Labelled], columns: Sequence[str], wanted: _Wanted
) -> tuple[dict[str, Part], tuple[int, ...]]:
    splits = {part: each.split for part, each in found.items()}
    targets = {part: each.targets for part, each in found.items()}
    places = {part: [f"{part} {row}" for row in each.rows.tolist()] for part, each in found.items()}
    features = next(iter(splits.values())).features
    if len(columns) == 1 and _is_picture(features[columns[0]]):
        shape = _shape(splits, columns[0], wanted)
        pictures = {part: HubPictures(split, columns[0], targets[part], shape, wanted.fit, places[part])
                    for part, split in splits.items()}  # fmt: skip
        return cast(dict[str, Part], pictures), shape
    if len(columns) == 1 and _is_text(features[columns[0]]):
        texts = {part: [text or "" for text in _array(split, columns[0]).tolist()] for part, split in splits.items()}
        return {part: Texts(texts[part], targets[part], places[part], {}, wanted.how) for part in splits}, ()
    made: dict[str, Part] = {}
    for part, split in splits.items():
        inputs = _numbers(split, columns, wanted)
        made[part] = Samples(inputs, targets[part], places[part])
    return made, tuple(cast(Samples, next(iter(made.values()))).inputs.shape[1:])


def _numbers(split: Any, columns: Sequence[str], wanted: _Wanted) -> Tensor:
    """(N, columns) float32; of a single column of lists or arrays, their own shape."""
    arrays: list[np.ndarray] = []
    for name in columns:
        if not _is_number(split.features[name]):
            raise DataError(wanted.where, f"the column '{name}' holds no numbers", "Set options.input.")
        try:
            values = _array(split, name).astype(np.float32)
        except (TypeError, ValueError) as error:
            raise DataError(wanted.where, f"rows of the column '{name}' are not equally long", "Pad them.") from error
        if missing := int(np.isnan(values).sum()):
            what = f"the column '{name}' has {missing:,} cells without a number"
            raise DataError(wanted.where, what, "Leave the column out by options.input, or fill them.")
        arrays.append(values)
    if len(arrays) == 1 and arrays[0].ndim > 1:
        return torch.from_numpy(arrays[0])
    return torch.from_numpy(np.concatenate([array.reshape(len(array), -1) for array in arrays], axis=1))


def _shape(splits: Mapping[str, Any], column: str, wanted: _Wanted) -> tuple[int, int, int]:
    """(C, H, W) of all pictures, found by a look at some of them."""
    sizes: set[tuple[int, int]] = set()
    grey = True
    for split in splits.values():
        for number in np.unique(np.linspace(0, len(split) - 1, _LOOKED_AT).astype(int)).tolist():
            with contextlib.suppress(Exception):  # a damaged one is found when it is read
                image = split[number][column]
                sizes.add((image.height, image.width))
                grey = grey and image.mode in GREY
    if not sizes:
        raise DataError(wanted.where, f"no picture in the column '{column}' can be read", "Look at its files.")
    own = next(iter(sizes)) if len(sizes) == 1 and max(max(sizes)) <= _OWN else (USUAL, USUAL)
    size = wanted.size
    height, width = own if size == 0 else (size, size) if isinstance(size, int) else size
    channels = {"auto": 1 if grey else 3, "grey": 1, "rgb": 3}[wanted.channels]
    return channels, height, width
