"""Long work in pieces: what C does in one go, be it sorting or copying, no other thread runs beside."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, TypeVar

import numpy as np

Item = TypeVar("Item")
Kind = TypeVar("Kind", bound=Hashable)
_PIECE = 20_000  # of texts or numbers: some 2 ms


def pieces(items: Iterable[Item]) -> Iterator[list[Item]]:
    """All of them in their order, some at a time."""
    left = iter(items)
    while piece := list(islice(left, _PIECE)):
        yield piece


def filled(values: Sequence[Any], dtype: Any) -> np.ndarray:
    """`np.array(values, dtype)` of one dimension."""
    made = np.empty(len(values), dtype)
    for start in range(0, len(values), _PIECE):
        made[start : start + _PIECE] = values[start : start + _PIECE]
    return made


def different(values: Iterable[Kind]) -> set[Kind]:
    """`set(values)`."""
    found: set[Kind] = set()
    for piece in pieces(values):
        found.update(piece)
    return found
