"""What is the same in two recipes' values, and which item of a list has become which."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from difflib import SequenceMatcher
from typing import Any


def same(one: Any, other: Any) -> bool:
    """Whether two values are written alike: 1, 1.0 and true differ, a NaN is like another."""
    return _print(one) == _print(other)


def matches(before: Sequence[Any], after: Sequence[Any]) -> list[int | None]:
    """For each item of `after` the place in `before` of the item that it was; None for a new one.

    Equal items are the same wherever they have gone; one that was changed has kept its place and its name.
    """
    ours, theirs = [_print(item) for item in before], [_print(item) for item in after]
    found: list[int | None] = [None] * len(after)
    free = set(range(len(before)))
    codes = SequenceMatcher(None, ours, theirs, autojunk=False).get_opcodes()

    def match(place: int, was: int) -> None:
        found[place] = was
        free.discard(was)

    for kind, low, _, first, end in codes:
        if kind == "equal":
            for place in range(first, end):
                match(place, low + place - first)
    for place in (place for place, was in enumerate(found) if was is None):
        moved = next((was for was in sorted(free) if ours[was] == theirs[place]), None)
        if moved is not None:
            match(place, moved)
    for kind, low, high, first, end in codes:
        for place in range(first, end) if kind == "replace" else ():
            alike = (was for was in range(low, high) if was in free and _name(before[was]) == _name(after[place]))
            changed = next(alike, None) if found[place] is None else None
            if changed is not None:
                match(place, changed)
    return found


def _name(item: Any) -> Any:
    return item.get("name") if isinstance(item, dict) else None


def _print(value: Any) -> Hashable:
    if isinstance(value, dict):
        return "{", tuple(sorted((key, _print(item)) for key, item in value.items()))
    if isinstance(value, (list, tuple)):
        return "[", tuple(_print(item) for item in value)
    return type(value).__name__, repr(value)
