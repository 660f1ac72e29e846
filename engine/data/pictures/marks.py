"""A mask's file → the class of every pixel, whichever way its pixels tell it."""

# H height · W width · K classes

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from engine.data.pictures.decoding import Decoded, Frame, image_of, opened, orientation_of, turned
from engine.data.pictures.names import Names
from engine.data.samples import IGNORED, BadSample, Progress
from engine.errors import DataError, RecipeError

Colours = tuple[tuple[int, int, int], ...]

_STRANGE = -1  # a value that is no class
_MOST = 256  # values that a mask can have
_SAMPLED = 32
_UNLABELLED = 255  # what many datasets write where nobody knows the class


@dataclass(frozen=True)
class Marks:
    """What the values of masks, or the colours of a `palette` by their number, mean.

    `table` (256,) has a class, IGNORED, or -1 for each. `as_stored`: masks lie as the pictures do in their files.
    """

    classes: int
    table: np.ndarray
    palette: Colours = ()
    as_stored: bool = False


def marked(path: bytes, place: str, frame: Frame, marks: Marks, picture: Decoded) -> np.ndarray:
    """The classes (H, W) of the mask at `path`, turned and brought to `frame` as its `picture` was.

    What a padded picture does not reach is IGNORED. Raises BadSample, which names the mask by `place`.
    """
    with opened(path, place, frame.max_pixels) as image:
        turn = _turn(image, picture, as_stored=marks.as_stored)
        numbers = _numbers(image, marks.palette)
        if turn > 1:
            numbers = np.asarray(turned(image_of(numbers), turn))
        height, width = numbers.shape
        if not _alike(width, height, picture):
            raise BadSample(place, f"is a mask of {width}×{height} for a picture of {picture.width}×{picture.height}")
        to = frame.place(width, height)
        # A pixel of the result is the one under its middle, as in Pillow's own.
        rows, columns = (
            np.clip(first + (np.arange(count) + 0.5) * (last - first) / count, 0, limit - 1).astype(np.int64)
            for first, last, count, limit in (
                (to.box[1], to.box[3], to.height, height),
                (to.box[0], to.box[2], to.width, width),
            )
        )
        numbers = numbers[rows[:, None], columns]
        classes: np.ndarray = marks.table[numbers]
        if (classes == _STRANGE).any():
            strange = int(numbers[classes == _STRANGE][0])
            raise BadSample(place, f"has pixels of value {strange}, which is no class: there are {marks.classes}")
    whole = np.full((frame.height, frame.width), IGNORED, np.int64)
    whole[to.top : to.top + to.height, to.left : to.left + to.width] = classes
    return whole


def _turn(image: Any, picture: Decoded, *, as_stored: bool) -> int:
    """How a mask is turned, as a number of EXIF: by its own, else so that it fits its picture.

    Where both ways fit, on a picture upside down or as high as wide, it is upright: labelme, CVAT and whatever runs in
    a browser show pictures so. Only the recipe can know that it is not.
    """
    own = orientation_of(image)
    width, height = image.size
    if own > 1 or picture.orientation == 1:
        return own
    turns = picture.orientation >= 5
    fits = _alike(height, width, picture) if turns else _alike(width, height, picture)
    return picture.orientation if fits and (as_stored or not _alike(width, height, picture)) else 1


def _alike(width: int, height: int, picture: Decoded) -> bool:
    """Whether a mask has its picture's proportions, but for a pixel in one of them."""
    differ = abs(width * picture.height - height * picture.width)
    return differ <= max(width, height, picture.width, picture.height)


def found_in(
    masks: Names,
    classes: int | Sequence[str],
    ignore: int,
    palette: Colours,
    max_pixels: int,
    progress: Progress,
    where: str,
    *,
    as_stored: bool = False,
) -> tuple[Marks, tuple[str, ...]]:
    """What the values mean, and the classes' names: what the recipe says of them, else what some of the masks show.

    Raises DataError, RecipeError.
    """
    names = () if isinstance(classes, int) else tuple(classes)
    count = classes if isinstance(classes, int) else len(classes)
    if not 0 <= count <= _MOST:
        raise RecipeError("data.options.classes", f"{count} are too many", f"A mask can tell {_MOST} apart.")
    if palette:
        values = [number for number in range(len(palette)) if number != ignore]
        if count not in (0, len(values)):
            what = f"there are {count} classes and {len(values)} colours of classes"
            raise RecipeError("data.options.palette", what, "Give each class a colour.")
    else:
        present = _present(masks, max_pixels, progress, where)
        if ignore < 0 and not (present == {0, _UNLABELLED} and count in (0, 2)) and count < _MOST:
            ignore = _UNLABELLED
        values = _values(present - {ignore}, count, ignore, where)
    if len(values) < 2:
        raise DataError(
            where, "its masks show one class: there is nothing to tell apart", "Say how many: options.classes."
        )
    table = np.full(_MOST, _STRANGE, np.int64)
    table[values] = np.arange(len(values))
    if ignore >= 0:
        table[ignore] = IGNORED
    return Marks(len(values), table, palette, as_stored), names or tuple(map(str, values))


def _values(present: set[int], count: int, ignore: int, where: str) -> list[int]:
    """The values that are classes, in order. Raises DataError where masks have others than the recipe says."""
    if present == {0, _UNLABELLED}:
        return [0, _UNLABELLED]
    known = [value for value in range(_MOST) if value != ignore]
    values = known[:count] if count else [value for value in known if value <= max(present, default=0)]
    if strange := present - set(values):
        what = f"its masks have the value {min(strange)}, and {count} classes go to {values[-1]}"
        raise DataError(where, what, "Raise options.classes, or set options.ignore to the value.")
    return values


def _present(masks: Names, max_pixels: int, progress: Progress, where: str) -> set[int]:
    """The values in some masks from all over the folder."""
    chosen = np.unique(np.linspace(0, len(masks) - 1, min(len(masks), _SAMPLED)).astype(np.int64)).tolist()
    present: set[int] = set()
    wrong: list[BadSample] = []
    for done, number in enumerate(chosen):
        progress("looking at masks", done, len(chosen))
        try:
            with opened(masks.path(number), masks[number], max_pixels) as image:
                present.update(np.unique(_numbers(image, ())).tolist())
        except BadSample as error:
            wrong.append(error)
    if len(wrong) == len(chosen):
        raise DataError(
            where, f"none of {len(chosen)} masks can be read, the first of them: {wrong[0]}", "Look at them."
        )
    return present


def _numbers(image: Any, palette: Colours) -> np.ndarray:
    """(H, W) values below 256 of a mask; its colours' numbers in the palette. Raises ValueError for other masks."""
    if image.format == "JPEG":
        raise ValueError("it is a JPEG, which mixes the classes of neighbouring pixels: save masks as PNG")
    if palette:
        return _by_colour(np.asarray(image.convert("RGB")), palette)
    array = np.asarray(image)
    if image.mode in ("LA", "PA"):
        array = array[..., 0]
    if array.ndim == 3:
        if (array[..., :3] != array[..., :1]).any():
            raise ValueError("it is in colours: say which is which class by options.palette")
        array = array[..., 0]
    if array.dtype.kind not in "bui" or int(array.min()) < 0 or int(array.max()) >= _MOST:
        raise ValueError(f"it has other values than whole numbers below {_MOST}")
    return array.astype(np.uint8)


def _by_colour(pixels: np.ndarray, palette: Colours) -> np.ndarray:
    weights = np.array([1 << 16, 1 << 8, 1])
    codes = pixels.astype(np.int64) @ weights  # (H, W)
    known = np.array(palette) @ weights
    order = np.argsort(known)
    at = np.clip(np.searchsorted(known[order], codes), 0, len(known) - 1)
    numbers: np.ndarray = order[at]
    wrong = known[numbers] != codes
    if wrong.any():
        raise ValueError(f"it has the colour {pixels[wrong][0].tolist()}, which is not in options.palette")
    return numbers.astype(np.uint8)
