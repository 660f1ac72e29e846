"""A model's layers as a tree that is edited by paths: every function gives new layers and leaves the old as they were.

A path is the positions from the outermost list inwards: (2, 0) is the first layer inside the third. A path that leads
nowhere is our own mistake: IndexError.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator

import tomlkit
from pydantic import ValidationError

from engine.errors import RecipeError
from engine.recipe.problems import explain
from engine.recipe.sections import Layer, Model

Path = tuple[int, ...]
Tree = tuple[Layer, ...]
CONTAINERS = frozenset({"Sequential", "Residual", "Parallel", "Repeat"})
"""The layers that hold layers, known before torch is loaded; engine.models.blocks has them."""


def walk(layers: Tree, above: Path = ()) -> Iterator[tuple[Path, Layer]]:
    """Every layer with its path, a container before what is in it."""
    for position, layer in enumerate(layers):
        path = (*above, position)
        yield path, layer
        yield from walk(layer.layers, path)


def at(layers: Tree, path: Path) -> Layer:
    """The layer at `path`."""
    layer = layers[path[0]]
    return at(layer.layers, path[1:]) if len(path) > 1 else layer


def inside(layers: Tree, path: Path) -> Tree:
    """What the container at `path` holds; all layers for the empty path."""
    return at(layers, path).layers if path else layers


def inserted(layers: Tree, path: Path, *new: Layer) -> Tree:
    """With `new` before what is at `path`, or at the end of its list."""
    return _spliced(layers, path, 0, new)


def removed(layers: Tree, path: Path) -> Tree:
    """Without the layer at `path` and all that is in it."""
    return _spliced(layers, path, 1, ())


def replaced(layers: Tree, path: Path, *new: Layer) -> Tree:
    """With `new` in the place of the layer at `path`."""
    return _spliced(layers, path, 1, new)


def wrapped(layers: Tree, path: Path, container: Layer) -> Tree:
    """With the layer at `path` inside `container`, whose own layers give way."""
    return replaced(layers, path, _holding(container, (at(layers, path),)))


def unwrapped(layers: Tree, path: Path) -> Tree:
    """With what the container at `path` holds in its place."""
    return replaced(layers, path, *at(layers, path).layers)


def moved(layers: Tree, path: Path, by: int) -> tuple[Tree, Path]:
    """The layer at `path` one row up (-1) or down (1), and where it is then.

    It goes into a container that it meets, and leaves the one at whose end it stands, so that every place can be
    reached. At the top and at the bottom it stays.
    """
    layer, (*above, position) = at(layers, path), path
    siblings = inside(layers, tuple(above))
    target = position + by
    if not 0 <= target < len(siblings):
        if not above:
            return layers, path
        out = (*above[:-1], above[-1] + (1 if by > 0 else 0))
        return inserted(removed(layers, path), out, layer), out
    neighbour = siblings[target]
    rest = removed(layers, path)
    if neighbour.name not in CONTAINERS:
        there = (*above, target)
        return inserted(rest, there, layer), there
    there = (*above, position if by > 0 else target, 0 if by > 0 else len(neighbour.layers))
    return inserted(rest, there, layer), there


def to_text(layers: Tree) -> str:
    """The layers as they stand in a recipe: TOML."""
    return tomlkit.dumps({"model": {"layers": _lists([layer.model_dump() for layer in layers])}})


def from_text(text: str) -> Tree:
    """Layers from a recipe or a part of one. Raises RecipeError."""
    try:
        values = tomllib.loads(text)
    except ValueError as error:
        raise RecipeError("pasted text", f"is not TOML: {error}", "Copy layers from a recipe.") from error
    found = (values.get("model") or {}).get("layers") if isinstance(values.get("model"), dict) else None
    found = found or values.get("layers") or ([values] if "name" in values else None)
    if not found:
        raise RecipeError("pasted text", "has no layers", "Copy [[model.layers]] from a recipe.")
    try:
        return Model.model_validate({"layers": found}).layers
    except ValidationError as error:
        raise explain(error, "pasted text", Model) from error


def _lists(value: object) -> object:
    """TOML knows no tuples."""
    if isinstance(value, dict):
        return {key: _lists(item) for key, item in value.items()}
    return [_lists(item) for item in value] if isinstance(value, (list, tuple)) else value


def _spliced(layers: Tree, path: Path, taken: int, new: Tree) -> Tree:
    first, *rest = path
    if rest:
        container = layers[first]
        changed = _holding(container, _spliced(container.layers, tuple(rest), taken, new))
        return (*layers[:first], changed, *layers[first + 1 :])
    if not 0 <= first < len(layers) + (not taken):
        raise IndexError(f"there is no layer {first}")
    return (*layers[:first], *new, *layers[first + taken :])


def _holding(container: Layer, layers: Tree) -> Layer:
    return container.model_copy(update={"layers": layers})
