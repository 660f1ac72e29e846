"""Which arrays of a file or folder are inputs, and which are their targets."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil

from engine.data.reading.parts import PARTS
from engine.errors import DataError, RecipeError, first_line, nearest

INPUTS = ("x", "inputs", "input", "images", "image", "data", "features", "samples")
TARGETS = ("y", "targets", "target", "labels", "label", "classes")


@dataclass(frozen=True)
class Pair:
    """The inputs (N, …) and targets (N, …) of a part, as they are stored.

    `named` says where the inputs are, `told` where the targets; `file` is that of inputs which need not be in memory.
    """

    named: str
    inputs: np.ndarray
    targets: np.ndarray
    told: str
    file: Path | None = None


@dataclass(frozen=True)
class _Store:
    """Arrays by name, each read when it is asked for; `files` has those that lie in a file of their own."""

    where: str
    names: Sequence[str]
    read: Callable[[str], np.ndarray]
    files: Mapping[str, Path]


def pairs(path: Path, inputs: str, targets: str, tokens: bool) -> dict[str, Pair]:
    """The arrays of each part. `inputs` and `targets` are names that a person gives; with `tokens`, columns are places.

    Raises RecipeError for names that are not there, DataError for what can't be read or told.
    """
    store, found = _found(path, inputs, targets)
    made = {}
    for part, (given, wanted) in found.items():
        named = f"{store.where}: {given}"
        array = store.read(given)
        if wanted:
            made[part] = Pair(named, _of_samples(array, named), store.read(wanted), f"{wanted}", store.files.get(given))
        elif array.ndim == 2 and array.shape[1] > 1 and array.dtype.kind in "biuf" and not tokens:
            made[part] = Pair(named, array[:, :-1], array[:, -1], "its last column")
        else:
            what = f"is {shape_text(array)} and has no targets beside it"
            remedy = "Name them in targets, or write them into the last column of a table (samples × columns)."
            raise DataError(named, what, remedy)
    return made


def shape_text(array: np.ndarray) -> str:
    """`1000×28×28`."""
    return "×".join(map(str, array.shape)) or "one number"


def _of_samples(array: np.ndarray, named: str) -> np.ndarray:
    if not array.ndim:
        raise DataError(named, "is one number, not an array of samples", "Give it a dimension that counts them.")
    return array[:, None] if array.ndim == 1 else array


def _found(path: Path, inputs: str, targets: str) -> tuple[_Store, dict[str, tuple[str, str]]]:
    """Where the arrays are, and the names of inputs and targets by part; no targets: they are in the inputs."""
    if path.is_dir():
        files = sorted(path.glob("*.npy"))
        archives = sorted(path.glob("*.npz"))
        if not files and len(archives) == 1:
            return _found(archives[0], inputs, targets)
        if not files:
            what = f"has {len(archives)} .npz files" if archives else "has no .npy or .npz file"
            raise DataError(str(path), what, "Let path be the file that is meant.")
        store = _of_files(path, files)
        return store, _by_name(store, inputs, targets)
    if path.suffix.lower() == ".npz" or zipfile.is_zipfile(path):
        store = _of_archive(path)
        return store, _by_name(store, inputs, targets)
    store = _of_files(path.parent, sorted({*path.parent.glob("*.npy"), path}))
    wanted = _wanted(targets, store, "targets") if targets else _beside(path.stem, store.names)
    return store, {"all": (path.stem, wanted)}


def _by_name(store: _Store, inputs: str, targets: str) -> dict[str, tuple[str, str]]:
    """The names of inputs and targets by part."""
    names = store.names
    by_part: dict[str, list[tuple[str, str]]] = {}
    for name in names:
        part, rest = _split(name)
        by_part.setdefault(part, []).append((rest, name))
    exact = {"all": (inputs, "")} if inputs in names else {}
    found = exact or {
        part: (name, "")
        for part, there in by_part.items()
        if (name := _first(there, (inputs.casefold(),) if inputs else INPUTS))
    }
    if not inputs and not found:
        found = {"all": ("arr_0", "")} if set(names) == {"arr_0", "arr_1"} else found
        found = {"all": (names[0], "")} if len(names) == 1 else found
    if "train" in found:
        found.pop("all", None)
    elif "all" in found:
        found = {"all": found["all"]}
    else:
        there = ", ".join(names[:12]) or "nothing"
        if inputs:
            raise _no_array("inputs", inputs, names)
        raise DataError(store.where, f"has no array of inputs among {there}", "Name it in inputs, and its targets.")
    return {part: (name, _target(store, part, name, targets, by_part)) for part, (name, _) in found.items()}


def _target(
    store: _Store, part: str, given: str, targets: str, by_part: Mapping[str, Sequence[tuple[str, str]]]
) -> str:
    """The name of the targets of a part; empty where there are none."""
    there = by_part.get(_split(given)[0] if part == "all" else part, ())
    if targets:
        return _first(there, (targets.casefold(),)) or _wanted(targets, store, "targets")
    if given == "arr_0" and "arr_1" in store.names:
        return "arr_1"
    found = _first([each for each in there if each[1] != given], TARGETS)
    if not found and part != "all":
        raise DataError(f"{store.where}: {given}", f"has no targets of {part} beside it", "Name them in targets.")
    return found


def _beside(stem: str, names: Sequence[str]) -> str:
    """The file of targets beside a file of inputs: y_train beside x_train."""
    part, rest = _split(stem)
    if rest not in INPUTS:
        return ""
    return _first([(other, name) for name in names for where, other in (_split(name),) if where == part], TARGETS)


def _first(there: Sequence[tuple[str, str]], wanted: Sequence[str]) -> str:
    return next((name for each in wanted for rest, name in there if rest == each), "")


def _split(name: str) -> tuple[str, str]:
    """The part that a name tells of, and the rest of it: ("train", "x")."""
    words = [word for word in re.split(r"[_\-. ]", name.casefold()) if word]
    for position in (0, -1):
        if len(words) > 1 and words[position] in PARTS:
            part = PARTS[words.pop(position)]
            return part, "_".join(words)
    return "all", name.casefold()


def _wanted(name: str, store: _Store, option: str) -> str:
    stem = name.removesuffix(".npy")
    if stem not in store.names:
        raise _no_array(option, name, store.names)
    return stem


def _no_array(option: str, name: str, names: Sequence[str]) -> RecipeError:
    remedy = nearest(name, names) or f"There are {', '.join(names[:12])}."
    return RecipeError(f"data.options.{option}", f"there is no array '{name}'", remedy)


def _of_files(folder: Path, files: Sequence[Path]) -> _Store:
    by_stem = {file.stem: file for file in files}

    def read(name: str) -> np.ndarray:
        file = by_stem[name]
        try:
            array: np.ndarray = np.load(file, mmap_mode="r", allow_pickle=False)
        except Exception as error:  # of a damaged file NumPy raises nearly anything
            raise refused(str(file), error) from error
        return array

    return _Store(str(folder), tuple(by_stem), read, by_stem)


def _of_archive(path: Path) -> _Store:
    try:
        with zipfile.ZipFile(path) as archive:
            sizes = {Path(info.filename).with_suffix("").as_posix(): info.file_size for info in archive.infolist()}
    except (zipfile.BadZipFile, NotImplementedError, ValueError) as error:
        raise refused(str(path), error) from error

    def read(name: str) -> np.ndarray:
        free = psutil.virtual_memory().available
        if sizes[name] > free:
            what = f"unpacks to {sizes[name] / 1e9:.1f} GB, {free / 1e9:.1f} GB of memory are free"
            raise DataError(f"{path}: {name}", what, "Save it as .npy, which is read sample by sample.")
        try:
            with np.load(path, allow_pickle=False) as archive:
                array: np.ndarray = archive[name]
        except Exception as error:  # of a damaged file NumPy, zipfile and zlib raise nearly anything
            raise refused(f"{path}: {name}", error) from error
        if not isinstance(array, np.ndarray):  # a member of a ZIP that is no .npy comes as bytes
            raise DataError(f"{path}: {name}", "is no array", "Save it by numpy.savez.")
        return array

    return _Store(str(path), tuple(sizes), read, {})


def refused(where: str, error: BaseException) -> DataError:
    """Why NumPy does not read a file. What only a pickle could hold is not read: a pickle can run anything."""
    text = first_line(error)
    if "pickle" in text or "Python objects" in text or "Object arrays" in text:
        return DataError(where, "has Python objects in it, which are not read: they could run anything", _PLAIN)
    return DataError(where, f"can't be read: {text}", "Write it anew by numpy.save or numpy.savez.")


_PLAIN = "Save an array of numbers, of one shape for all samples."
