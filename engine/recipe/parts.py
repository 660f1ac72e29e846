"""Transforms and what they hold as a list that is edited by paths: every function gives new ones.

A path is the positions from the outermost list inwards: (2, 0) is the first that the third holds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from engine.recipe.sections import Part

Path = tuple[int, ...]
HELD = "transforms"
"""The key under which a part lists those that it holds."""
HOLDERS = frozenset({"Compose", "RandomApply", "RandomChoice", "RandomOrder"})
"""Those that hold others, known before torch is loaded."""
LAST = frozenset({"MixUp", "CutMix"})
"""Those that no other may follow, known before torch is loaded."""


def holds(part: Part) -> bool:
    """Whether it holds others, or could."""
    return part.name in HOLDERS or HELD in part.parameters


def inside(part: Part) -> tuple[Part, ...]:
    """What it holds; nothing where that is no list of parts."""
    tables = part.parameters.get(HELD)
    right = isinstance(tables, (list, tuple)) and all(
        isinstance(each, dict) and isinstance(each.get("name"), str) and each["name"] for each in tables
    )
    return tuple(map(Part.model_validate, tables)) if right and tables else ()


def holding(part: Part, others: Sequence[Part]) -> Part:
    """The same that holds these."""
    return Part.model_validate({**part.model_dump(), HELD: [each.model_dump() for each in others]})


def rows(parts: Sequence[Part], above: Path = ()) -> Iterator[tuple[Path, Part | None]]:
    """Every part with its path, one that holds others before them; behind the last of those None, for one more."""
    for position, part in enumerate(parts):
        path = (*above, position)
        yield path, part
        if holds(part):
            yield from rows(inside(part), path)
            yield (*path, len(inside(part))), None


def place(parts: Sequence[Part], path: Path, part: Part) -> Path:
    """Where `part` goes that was to be put before what is at `path`: at the end if it is last, else before the last."""
    end = next((position for position, each in enumerate(parts) if each.name in LAST), len(parts))
    if part.name in LAST:
        return (len(parts),)
    return path if len(path) > 1 else (min(path[0], end),)


def at(parts: Sequence[Part], path: Path) -> Part:
    """The part at `path`."""
    part = parts[path[0]]
    return at(inside(part), path[1:]) if len(path) > 1 else part


def inserted(parts: Sequence[Part], path: Path, part: Part) -> list[Part]:
    """With `part` before what is at `path`, or at the end of its list."""
    return _spliced(parts, path, 0, [part])


def removed(parts: Sequence[Part], path: Path) -> list[Part]:
    """Without the part at `path` and all that it holds."""
    return _spliced(parts, path, 1, [])


def replaced(parts: Sequence[Part], path: Path, part: Part) -> list[Part]:
    """With `part` in the place of what is at `path`."""
    return _spliced(parts, path, 1, [part])


def moved(parts: Sequence[Part], path: Path, by: int) -> tuple[Sequence[Part], Path]:
    """The part at `path` one row up (-1) or down (1), and where it is then.

    It goes into one that holds others where it meets that, and leaves the one at whose end it stands. What is last
    passes those that hold others: it stands in none.
    """
    part, (*above, position) = at(parts, path), path
    siblings = inside(at(parts, tuple(above))) if above else parts
    target = position + by
    if 0 <= target < len(siblings):
        there: Path = (*above, target)
        if holds(siblings[target]) and part.name not in LAST:
            there = (*above, position if by > 0 else target, 0 if by > 0 else len(inside(siblings[target])))
    elif above:
        there = (*above[:-1], above[-1] + (1 if by > 0 else 0))
    else:
        return parts, path
    return inserted(removed(parts, path), there, part), there


def _spliced(parts: Sequence[Part], path: Path, taken: int, new: Sequence[Part]) -> list[Part]:
    first, *rest = path
    if rest:
        holder = parts[first]
        new, taken = [holding(holder, _spliced(inside(holder), tuple(rest), taken, new))], 1
    return [*parts[:first], *new, *parts[first + taken :]]
