"""Finding things by typing: what has the words comes first, what merely has the letters in order after it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from textual.fuzzy import Matcher

T = TypeVar("T")
_WORD = 4  # letters; fewer are somewhere in any long text


def find(
    query: str,
    things: Sequence[T],
    name: Callable[[T], str],
    about: Callable[[T], str],
    more: Callable[[T], str] = lambda thing: "",
) -> list[T]:
    """The things that match `query`, the best first; all of them, in their order, for an empty query.

    In this order: the name begins with it, the name has it, name or `about` has all its words. Only if none does, those
    whose `more`, a longer text, has all its words, and only then those whose name has its letters in order.
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
    words = wanted.split()
    told = [thing for thing in things if all(word in more(thing).casefold() for word in words)]
    if told and min(map(len, words)) >= _WORD:
        return told
    matcher = Matcher(query)
    scored = sorted(((-matcher.match(name(thing)), position) for position, thing in enumerate(things)))
    return [things[position] for score, position in scored if score < 0]
