"""Finding things by typing: what has the words comes first, what merely has the letters in order after it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from textual.fuzzy import Matcher

T = TypeVar("T")


def find(query: str, things: Sequence[T], name: Callable[[T], str], about: Callable[[T], str]) -> list[T]:
    """The things that match `query`, the best first; all of them, in their order, for an empty query.

    In this order: the name begins with it, the name has it, name or `about` has all its words. Only if none does, those
    whose name has its letters in order.
    """
    wanted = query.casefold().strip()
    if not wanted:
        return list(things)

    def rank(thing: T) -> int:
        title = name(thing).casefold()
        text = f"{title} {about(thing)}".casefold()
        if title.startswith(wanted):
            return 0
        if wanted in title:
            return 1
        return 2 if all(word in text for word in wanted.split()) else 3

    ranked = sorted(((rank(thing), position) for position, thing in enumerate(things)))
    found = [things[position] for order, position in ranked if order < 3]
    if found:
        return found
    matcher = Matcher(query)
    scored = sorted(((-matcher.match(name(thing)), position) for position, thing in enumerate(things)))
    return [things[position] for score, position in scored if score < 0]
