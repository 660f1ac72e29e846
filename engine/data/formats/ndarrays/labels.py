"""The targets of arrays: labels as class numbers, or numbers to predict."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from engine.data.formats.ndarrays.pairs import shape_text
from engine.data.formats.tabular.columns import in_order
from engine.data.formats.tabular.targets import Targets, check_classes
from engine.errors import DataError


def labelled(
    arrays: Mapping[str, np.ndarray], named: tuple[str, ...], where: str
) -> tuple[tuple[str, ...], dict[str, Targets]]:
    """The names of the classes, and each part's targets. `named` are those that a person gives, by number from 0.

    Raises DataError for arrays that are no labels.
    """
    flat = {part: _flat(array, where) for part, array in arrays.items()}
    if any(array.dtype.kind in "US" for array in flat.values()):
        return _of_texts(flat, named, where)
    whole = {part: _whole(array) for part, array in flat.items()}  # which labels are whole numbers
    count, right = sum(map(len, flat.values())), sum(int(each.sum()) for each in whole.values())
    if right < count / 2:
        part = next(part for part, each in whole.items() if not each.all())
        index = int((~whole[part]).argmax())
        what = f"{count - right:,} of {count:,} labels are no whole numbers, the first {flat[part][index]} at {index}"
        raise DataError(where, what, 'Set task = "regression", or number the classes from 0.')
    values = {part: np.where(whole[part], array, -1).astype(np.int64) for part, array in flat.items()}
    found = np.unique(np.concatenate([each[whole[part]] for part, each in values.items()]))
    opposite = found.tolist() == [-1, 1]
    if named:
        found = np.arange(len(named))
    elif not opposite:
        found = found[found >= 0]
        check_classes(len(found), count, where)
    targets = {}
    for part, each in values.items():
        place = np.searchsorted(found, each).clip(max=max(0, len(found) - 1))
        known = whole[part] & (found[place] == each) if len(found) else np.zeros(len(each), dtype=bool)
        expected = f"0 to {len(named) - 1}" if named else "from 0"
        wrong = {
            index: f"label {flat[part][index]} is out of range: classes are numbered {expected}"
            if whole[part][index]
            else f"label {flat[part][index]} is no whole number"
            for index in np.flatnonzero(~known).tolist()
        }
        targets[part] = Targets(torch.from_numpy(place), wrong)
    return named or tuple(map(str, found.tolist())), targets


def numbered(arrays: Mapping[str, np.ndarray], where: str) -> dict[str, Targets]:
    """Each part's numbers to predict. Raises DataError for what is none."""
    targets = {}
    for part, array in arrays.items():
        if array.dtype.kind not in "biuf":
            raise DataError(where, f"are {array.dtype}, no numbers to predict", 'Set task = "classification".')
        with np.errstate(over="ignore"):  # what is too large for float32 becomes infinite
            values = array.reshape(len(array), -1).astype(np.float32)
        bad = ~np.isfinite(values).all(1)
        wrong = dict.fromkeys(np.flatnonzero(bad).tolist(), "its target is NaN or infinite")
        targets[part] = Targets(torch.from_numpy(values), wrong)
    return targets


def _flat(array: np.ndarray, where: str) -> np.ndarray:
    """(N,) labels: as they are, of one column, or of rows with a single one."""
    if array.dtype.kind not in "biufUS":
        raise DataError(where, f"are {array.dtype}, no labels", "Number the classes from 0.")
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim == 1:
        return np.asarray(array)
    if array.ndim == 2 and array.dtype.kind in "biuf":
        ones = array == 1
        if (ones.sum(1) == 1).all() and (ones | (array == 0)).all():
            return np.asarray(ones.argmax(1))
    what = f"are {shape_text(array)}, not one label a sample"
    raise DataError(where, what, "Give each sample the number of its class.")


def _whole(array: np.ndarray) -> np.ndarray:
    if array.dtype.kind != "f":
        return np.ones(len(array), dtype=bool)
    whole: np.ndarray = np.isfinite(array) & (np.abs(array) < 2**53) & (np.floor(array) == array)
    return whole


def _of_texts(
    flat: Mapping[str, np.ndarray], named: tuple[str, ...], where: str
) -> tuple[tuple[str, ...], dict[str, Targets]]:
    texts = {part: array.astype(np.str_) for part, array in flat.items()}
    found = in_order(sorted({text for array in texts.values() for text in np.unique(array).tolist()}))
    if not named:
        check_classes(len(found), sum(map(len, flat.values())), where)
    classes = named or tuple(found)
    place = {name: number for number, name in enumerate(classes)}
    targets = {}
    for part, array in texts.items():
        unique, inverse = np.unique(array, return_inverse=True)
        values = np.array([place.get(text, -1) for text in unique.tolist()], dtype=np.int64)[inverse]
        wrong = {
            index: f"label '{array[index]}' is none of the classes {', '.join(classes)}"
            for index in np.flatnonzero(values < 0).tolist()
        }
        targets[part] = Targets(torch.from_numpy(values), wrong)
    return classes, targets
