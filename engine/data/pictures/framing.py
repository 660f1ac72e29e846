"""The one size and kind that all pictures of a dataset are brought to, found by a look at the headers of some."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from engine.data.pictures.decoding import Channels, Fit, Frame, Header, header
from engine.data.pictures.names import Names
from engine.data.samples import BadSample, Progress
from engine.errors import DataError, RecipeError

MAX_PIXELS = 50_000_000
"""Pictures with more are not decoded, unless the recipe says otherwise: their bytes alone take 150 MB."""
USUAL = 224
"""The side of a picture where the pictures' own sizes differ: what most models of the zoo were made for."""
_OWN = 1024  # pictures of one size keep it up to this side; a camera's twelve million pixels are not what one trains on
_SAMPLED = 64
_LARGEST = 16_384


def frame_of(
    names: Sequence[Names],
    *,
    size: int | tuple[int, int],
    fit: Fit,
    channels: Channels,
    max_pixels: int,
    verify: bool,
    progress: Progress,
    where: str,
) -> tuple[Frame, list[dict[int, BadSample]]]:
    """The frame for all of `names`, and by number in each of them those pictures that were found to be unreadable.

    The headers of some are read, those of all if the recipe wants to `verify`. Raises RecipeError for a size that makes
    no sense, DataError if no picture can be read.
    """
    _check(size, max_pixels)
    headers: list[Header] = []
    bad: list[dict[int, BadSample]] = []
    chosen = [_spread(len(each), len(each) if verify else _SAMPLED) for each in names]
    total, done = sum(map(len, chosen)), 0
    for each, numbers in zip(names, chosen, strict=True):
        found: dict[int, BadSample] = {}
        for number in numbers:
            try:
                headers.append(header(each.path(number), each[number], max_pixels))
            except BadSample as error:
                found[number] = error
            done += 1
            if done % 16 == 0 or done == total:
                progress("looking at pictures", done, total)
        bad.append(found)
    if not headers:
        first = next(error for found in bad for error in found.values())
        raise DataError(
            where, f"none of {total} pictures can be read, the first of them: {first}", "Look at the files."
        )
    return _frame(headers, size, fit, channels, max_pixels), bad


def _frame(
    headers: Sequence[Header], size: int | tuple[int, int], fit: Fit, channels: Channels, max_pixels: int
) -> Frame:
    grey = all(header.grey for header in headers) if channels == "auto" else channels == "grey"
    own = {(header.height, header.width) for header in headers}
    height, width = (size, size) if isinstance(size, int) else size
    if size == 0:
        alike = len(own) == 1 and max(max(own)) <= _OWN
        height, width = next(iter(own)) if alike else (USUAL, USUAL)
    return Frame(1 if grey else 3, height, width, fit, max_pixels)


def _check(size: int | tuple[int, int], max_pixels: int) -> None:
    sides = (size,) if isinstance(size, int) else size
    if size != 0 and not all(1 <= side <= _LARGEST for side in sides):
        remedy = f"Try {USUAL}, or 0 for their own."
        raise RecipeError("data.options.size", f"{size} is no side of a picture in pixels", remedy)
    if max_pixels < 1:
        raise RecipeError("data.options.max_pixels", f"{max_pixels} leaves no picture", f"Try {MAX_PIXELS}.")


def _spread(count: int, most: int) -> list[int]:
    """At most so many numbers from all over `count`."""
    chosen: list[int] = np.unique(np.linspace(0, count - 1, min(count, most)).astype(np.int64)).tolist()
    return chosen if count else []
