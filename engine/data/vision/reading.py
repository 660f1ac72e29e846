"""torchvision's datasets → samples in memory where torchvision keeps them there, else pictures read one by one."""

# N samples · C channels · H height · W width

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import math
import pickle
import re
import urllib.error
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import replace
from http.client import HTTPException
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from engine.data.fetching.downloads import NoRoom, alone
from engine.data.pictures.decoding import Fit
from engine.data.pictures.given import as_mask, as_picture
from engine.data.samples import IGNORED, BadSample, Columns, Loaded, Part, Progress, Samples
from engine.data.sources import Source
from engine.data.vision.boxes import with_boxes
from engine.data.vision.fetching import fetching
from engine.data.vision.introspection import classes, downloads, selection
from engine.data.vision.table import Row
from engine.errors import DataError, first_line
from engine.paths import data_root

# What torchvision's readers raise for a file that was cut short.
_UNREADABLE = (ValueError, AssertionError, KeyError, IndexError, TypeError, EOFError, pickle.UnpicklingError)
# Where torchvision's classes keep what a sample's target is, alone or beside its file.
_TARGETS = ("targets", "labels", "_labels", "y", "samples", "_samples", "_flat_character_images", "index")
_FILES = ("_image_files", "_images", "images", "filename", "imgs", "samples", "_samples", "data", *_TARGETS[-2:])
_NAMES = ("classes", "categories", "_characters", "class_to_idx")


def load_vision(source: Source, row: Row, options: Mapping[str, Any], progress: Progress) -> Loaded:
    """Load one of torchvision's datasets, `row` as its `options` make it, downloading it when it is not there yet.

    Raises DataError when it can't be had or read; the message names the bundled twin where there is one.
    """
    where = f"data.name: {source.name}"
    target = classes().get(source.name)
    if target is None:
        raise DataError(where, "is not in this torchvision", "Update it: pip install --upgrade torchvision.")
    if row.needs and importlib.util.find_spec(row.needs) is None:
        raise DataError(where, f"is read by {row.needs}, which is not installed", f"pip install {row.needs}")
    folder = data_root() / source.name if row.own_folder else data_root()
    with _said_in_words(source, row, folder):
        folder.mkdir(parents=True, exist_ok=True)
        found = {part: _open(target, row, folder, part, options, progress) for part in row.sizes}
    with contextlib.suppress(OSError):  # a folder that others share may be readable only
        source.marker.touch()
    if row.task == "detection":
        with _said_in_words(source, row, folder):
            return with_boxes(found, row, source, options, progress)
    names = _classes(next(iter(found.values())))
    parts: dict[str, Part] = {}
    for part, dataset in found.items():
        with _said_in_words(source, row, folder):
            samples = _whole(dataset, row) if row.whole else _listed(dataset, row, source, options, part, progress)
        if samples is not None:
            parts[part] = samples
    if not parts:
        what = "gives no class with its samples, and nobody here has described what else"
        raise DataError(where, what, 'Give what you need of it by a function: python = "data.py:make_dataset".')
    return Loaded(_described(source, row, names, parts), parts)


def _described(source: Source, row: Row, names: Sequence[str], parts: Mapping[str, Part]) -> Source:
    """`source` with what is known of it now. Names that are not as many as classes are of something else."""
    most = max((int(part.targets.max()) + 1 for part in parts.values() if part.targets.numel()), default=0)  # type: ignore[union-attr]
    outputs = max(source.outputs, most) or len(names)
    known = tuple(names) if len(names) == outputs else source.classes if len(source.classes) == outputs else ()
    sizes = {part: len(samples) for part, samples in parts.items()}
    return replace(source, classes=known, outputs=outputs, sizes=sizes)


def _open(target: Any, row: Row, folder: Path, part: str, options: Mapping[str, Any], progress: Progress) -> Any:
    """One part of the dataset, downloaded only if it is not there: some classes would fetch or unpack it again."""
    given = {
        option.parameter or name: options[name]
        for name, option in row.options.items()
        if option.parameter != "" and options[name] != ""
    }
    given.update({**row.given, **selection(target, row, part)})
    if not downloads(target) or row.by_hand:
        with fetching(progress):  # archives that a person put there are unpacked
            return target(str(folder), **given)
    try:
        return target(str(folder), download=False, **given)
    except (OSError, RuntimeError):
        wait = lambda: progress(row.name, 0, 0)  # noqa: E731 - another process downloads it
        with alone(folder / f".{row.name}.lock", wait), fetching(progress):
            return target(str(folder), download=True, **given)


@contextlib.contextmanager
def _said_in_words(source: Source, row: Row, folder: Path) -> Any:
    where = f"data.name: {source.name}"
    try:
        yield
    except NoRoom as error:
        raise DataError(where, str(error), "Make room, or set TORCH_TUI_DATA to a larger disk.") from error
    except (OSError, RuntimeError, HTTPException, *_UNREADABLE) as error:
        if row.by_hand:
            what = f"is not in {folder}, and torchvision can't fetch it ({first_line(error)})"
            raise DataError(where, what, f"Put {row.by_hand} there.") from error
        if not _is_network(error):
            raise DataError(where, f"can't be read: {error}", f"Remove it from {folder} and try again.") from error
        twin = f"Use '{source.twin}', which ships with torch-tui, or connect" if source.twin else "Connect"
        # Of torchvision's account of all mirrors the last line; of urllib's, what it says without its numbers.
        last = str(getattr(error, "reason", error)).strip().splitlines()[-1]
        reason = re.sub(r"<urlopen error (.*)>", r"\1", re.sub(r"\[Errno -?\d+\] ", "", last))
        raise DataError(where, f"can't be downloaded ({reason})", f"{twin} and try again.") from error


def _is_network(error: BaseException) -> bool:
    network = (urllib.error.URLError, TimeoutError, ConnectionError, HTTPException)
    return isinstance(error, network) or "download" in str(error).lower()


def _classes(dataset: Any) -> tuple[str, ...]:
    """The names of its classes, as far as the class keeps them; of several names for one class all."""
    names = next((found for each in _NAMES if (found := getattr(dataset, each, None))), ())
    if isinstance(names, Mapping):
        names = sorted(names, key=names.__getitem__)
    if hasattr(dataset, "_characters"):
        names = sorted(dataset._characters)
    if any(hasattr(name, "id") for name in names):  # Cityscapes, where -1 is no class
        names = [name.name for name in names if name.id >= 0]
    return tuple(", ".join(name) if isinstance(name, (tuple, list)) else str(name) for name in names)


# Whole in memory


def _whole(dataset: Any, row: Row) -> Samples | None:
    """All images of a dataset at once: torchvision keeps the small ones whole. None where they have no labels."""
    kept = getattr(dataset, "data", None)
    pairs = None if kept is not None else dataset._samples  # FER2013: [(picture, label)]
    images = torch.as_tensor(np.asarray(kept)) if pairs is None else torch.stack([image for image, _ in pairs])
    targets = next(found for each in _TARGETS if (found := getattr(dataset, each, None)) is not None)
    numbers = _numbers(targets, row.column)
    return None if numbers is None else Samples(_channels_first(images, row.shape), numbers - row.first)


def _channels_first(images: Tensor, shape: tuple[int, ...]) -> Tensor:
    """(N, H, W), (N, H, W, C) or (N, C, H, W) → (N, C, H, W)."""
    if images.ndim == 3:
        images = images.unsqueeze(1)
    elif tuple(images.shape[1:]) != shape:
        images = images.permute(0, 3, 1, 2)
    return images.contiguous()


# Read one by one


class VisionPictures:
    """Pictures of a dataset of torchvision, decoded when they are asked for: bytes (C, H, W), and the target.

    The samples are in the order of their files' names, whatever order the disk lists them in.
    """

    def __init__(self, dataset: Any, order: Tensor, targets: Tensor, places: Sequence[str], frame: _Frame) -> None:
        self._dataset, self._order, self._frame = dataset, order, frame
        self.targets, self.places = targets, places
        self.columns: Columns = {}

    def __len__(self) -> int:
        return len(self._order)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        frame = self._frame
        try:
            image, target = self._dataset[int(self._order[index])]
            picture = as_picture(image, frame.shape[1:], frame.fit, "grey" if frame.shape[0] == 1 else "rgb")
            if not frame.masks:
                return picture, self.targets[index]
            mask = as_mask(target, frame.shape[1:], frame.fit)
        except MemoryError:
            raise
        except Exception as error:  # a damaged file makes Pillow raise SyntaxError, ValueError, struct.error and others
            raise BadSample(self.places[index], f"can't be read: {first_line(error)}") from error
        return picture, torch.where(
            (mask >= frame.first) & (mask < frame.first + frame.outputs), mask - frame.first, IGNORED
        )

    @property
    def sample_bytes(self) -> int:
        return math.prod(self._frame.shape) + (math.prod(self._frame.shape[1:]) * 8 if self._frame.masks else 8)

    def __getstate__(self) -> dict[str, Any]:
        """For workers: a module, which PCAM keeps, can't be pickled."""
        dataset = copy(self._dataset)
        modules = {name: value.__name__ for name, value in vars(dataset).items() if isinstance(value, ModuleType)}
        for name in modules:
            delattr(dataset, name)
        return {**self.__dict__, "_dataset": dataset, "_modules": modules}

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, module in state.pop("_modules").items():
            setattr(state["_dataset"], name, importlib.import_module(module))
        self.__dict__.update(state)


class _Frame:
    """What a sample is brought to."""

    def __init__(self, source: Source, row: Row, fit: Fit) -> None:
        channels, height, width = source.shape
        self.shape = (channels, height, width)
        self.fit, self.first, self.outputs = fit, row.first, source.outputs
        self.masks = row.task == "segmentation"


def _listed(
    dataset: Any, row: Row, source: Source, options: Mapping[str, Any], part: str, progress: Progress
) -> VisionPictures | None:
    frame = _Frame(source, row, options["fit"])
    places = _places(dataset, part)
    targets = torch.empty(0, dtype=torch.long) if frame.masks else _targets(dataset, row, progress)
    if targets is None:
        return None
    order = torch.tensor(sorted(range(len(places)), key=places.__getitem__), dtype=torch.long)
    if not frame.masks:
        targets = _rank(dataset)[targets[order]] if hasattr(dataset, "_characters") else targets[order] - row.first
    return VisionPictures(dataset, order, targets, [places[number] for number in order.tolist()], frame)


def _rank(omniglot: Any) -> Tensor:
    """The number of each class among all when their names are in order: Omniglot has them as the disk lists them."""
    names = omniglot._characters
    return torch.tensor(sorted(range(len(names)), key=names.__getitem__)).argsort()


def _places(dataset: Any, part: str) -> list[str]:
    """Where each sample lies, seen from the dataset's folder, as far as the class keeps it."""
    root = f"{dataset.root}/"
    for each in _FILES:
        kept = getattr(dataset, each, None)
        if not isinstance(kept, Sequence) or len(kept) != len(dataset) or not len(kept):
            continue
        pairs = (entry if isinstance(entry, tuple) else (entry,) for entry in kept)
        files = [next((str(each) for each in pair if isinstance(each, (str, Path))), "") for pair in pairs]
        if all(files):
            return [file.removeprefix(root) for file in files]
    return [f"{part} {number:08}" for number in range(len(dataset))]


def _targets(dataset: Any, row: Row, progress: Progress) -> Tensor | None:
    """Each sample's target without reading pictures, where the class keeps them; None where it has none.

    What is found is held against three samples: a list of this length may be something else.
    """
    for each in (row.targets,) if row.targets else _TARGETS:
        kept = getattr(dataset, each, None)
        if (
            kept is None
            or isinstance(kept, (str, Mapping))
            or not hasattr(kept, "__len__")
            or len(kept) != len(dataset)
        ):
            continue
        if (numbers := _numbers(kept, row.column)) is not None and (row.targets or _agrees(numbers, dataset)):
            return numbers
    if (h5py := getattr(dataset, "h5py", None)) is not None:  # PCAM: a file of labels beside that of pictures
        with h5py.File(dataset._base_folder / dataset._FILES[dataset._split]["targets"][0]) as file:
            return torch.from_numpy(np.asarray(file["y"][:, 0, 0, 0])).long()
    asked: list[int] = []
    for number in range(len(dataset)):
        if number % 100 == 0:
            progress(f"targets of {row.name}", number, len(dataset))
        if (target := _number(_asked(dataset, number), row.column)) is None:
            return None
        asked.append(target)
    return torch.tensor(asked, dtype=torch.long)


def _agrees(numbers: Tensor, dataset: Any) -> bool:
    last = len(dataset) - 1
    return all(_number(_asked(dataset, at), 0) == int(numbers[at]) for at in {0, last // 2, last} if at >= 0)


def _asked(dataset: Any, number: int) -> Any:
    """A sample's target, as the class itself gives it; where it can, without its picture."""
    loader = getattr(dataset, "loader", None)
    try:
        if loader is not None:
            dataset.loader = str
        return dataset[number][1]
    finally:
        if loader is not None:
            dataset.loader = loader


def _numbers(kept: Any, column: int) -> Tensor | None:
    """Targets as int64 (N,): of a list, an array, of pairs with a file; None where some are missing."""
    if isinstance(kept, (np.ndarray, Tensor)):
        array = torch.as_tensor(kept)
        return None if array.is_floating_point() else (array[:, column] if array.ndim == 2 else array).long()
    numbers = [_number(each, column) for each in kept]
    return torch.tensor(numbers, dtype=torch.long) if None not in numbers else None


def _number(value: Any, column: int) -> int | None:
    if isinstance(value, (tuple, list)):
        return next((int(each) for each in reversed(value) if isinstance(each, (int, np.integer))), None)
    if isinstance(value, (Tensor, np.ndarray)) and value.ndim:
        return int(value.flatten()[column])
    try:
        return None if value is None or isinstance(value, str) else int(value)
    except (TypeError, ValueError):
        return None
