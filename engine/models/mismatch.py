"""Shape errors of torch in words: what a layer wants and what reaches it."""

from __future__ import annotations

from torch import nn

from engine.catalog import FROM_SHAPE
from engine.errors import ModelError, first_line
from engine.models.rows import Shape, shape_text
from engine.recipe import Layer


def explained(module: nn.Module, part: Layer, reached: Shape, floats: bool, where: str, error: Exception) -> ModelError:
    """Why `part` refuses samples of shape `reached`; `floats`: they are numbers, not tokens."""
    name = part.name
    if not floats:
        return ModelError(where, f"{name} needs numbers, tokens reach it", "Add an Embedding above it.")
    if isinstance(module, nn.Embedding):
        return ModelError(where, f"{name} needs tokens, numbers reach it", "It goes first, on text. Remove it.")
    for key, dimension in FROM_SHAPE.items():
        wanted = part.parameters.get(key)
        position = dimension if dimension < 0 else dimension - 1
        if isinstance(wanted, int) and -len(reached) <= position < len(reached) and reached[position] != wanted:
            return _of_another_size(part, key, wanted, reached, reached[position], where)
    text = first_line(error)
    size = getattr(module, "kernel_size", None)
    sides = size if isinstance(size, tuple) else (size,) * 2
    too_large = isinstance(size, (int, tuple)) and any(k > n for k, n in zip(sides, reached[1:], strict=False))
    if too_large and len(reached) > 2:
        what = f"a kernel of {'×'.join(map(str, sides))} does not fit into {shape_text(reached)}"
        return ModelError(where, what, "Use a smaller kernel, padding, or less pooling above.")
    if "input size" in text or "xpected" in text:
        what = f"{name} can't take {shape_text(reached)}: {text}"
        return ModelError(where, what, "Change it or the layer above.")
    return ModelError(where, f"{name} fails on {shape_text(reached)}: {text}", "Change it or the layer above.")


def _of_another_size(part: Layer, key: str, wanted: int, reached: Shape, gets: int, where: str) -> ModelError:
    noun = {"in_features": "features", "num_features": "features"}.get(key, key.removeprefix("in_"))
    count = 1
    for size in reached:
        count *= size
    if key == "in_features" and len(reached) > 1 and (count == wanted or len(reached) > 2):
        what = f"{part.name} expects {wanted} {noun}, the layer above gives {shape_text(reached)} = {count}"
        more = "" if count == wanted else f" and remove {key}"
        return ModelError(where, what, f"Add a Flatten above it{more}.")
    has = f"{shape_text(reached)}, which has {gets}" if len(reached) > 1 else shape_text(reached)
    what = f"{part.name} expects {wanted} {noun}, the layer above gives {has}"
    return ModelError(where, what, f"Remove {key}: it is inferred.")
