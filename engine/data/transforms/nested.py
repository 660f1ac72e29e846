"""Transforms made of transforms, which a recipe lists under `transforms`: Compose, RandomApply and the like."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from engine.errors import RecipeError
from engine.recipe import Part

LISTED = "transforms"
"""The key under which they are listed."""
COMPOSE = "Compose"
_EXAMPLE = 'Write [{ name = "ColorJitter", brightness = 0.2 }].'


def held(part: Part, where: str) -> list[tuple[str, Part]]:
    """What `part` holds, each with its place in the recipe. Raises RecipeError."""
    tables = part.parameters.get(LISTED, [])
    if not isinstance(tables, (list, tuple)):
        raise RecipeError(f"{where}.{LISTED}", "is not a list", _EXAMPLE)
    found = []
    for number, table in enumerate(tables):
        at = f"{where}.{LISTED}.{number}"
        if not isinstance(table, dict) or not isinstance(table.get("name"), str) or not table["name"]:
            raise RecipeError(at, "has no name", _EXAMPLE)
        found.append((at, Part.model_validate(table)))
    return found


def flattened(parts: Sequence[Part], where: str = "data.transforms") -> Iterator[tuple[str, Part]]:
    """`parts` with what a Compose holds in its place, each with its place in the recipe. Raises RecipeError."""
    return _flat([(f"{where}.{index}", part) for index, part in enumerate(parts)])


def _flat(parts: Sequence[tuple[str, Part]]) -> Iterator[tuple[str, Part]]:
    for at, part in parts:
        if part.name != COMPOSE:
            yield at, part
            continue
        inside = held(part, at)
        if not inside:
            raise empty(part, at)
        yield from _flat(inside)


def empty(part: Part, where: str) -> RecipeError:
    """What is said of one that holds nothing."""
    return RecipeError(f"{where}.{LISTED}", f"{part.name} needs transforms", f"Add at least one. {_EXAMPLE}")
