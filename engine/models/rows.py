"""A model as a person sees it: a row for each layer, and the words for its settings and shapes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from engine import catalog
from engine.errors import StudioError

Shape = tuple[int, ...]


@dataclass(frozen=True)
class LayerRow:
    """One layer. Shapes are without the batch dimension; `error` says why there is no output.

    `flops` and `kept` are for one sample: floating point operations of the forward pass, and bytes that it keeps for
    the backward pass, in fp32. Those of a container are the sums of what it holds, for Repeat over all its rounds.
    """

    name: str
    settings: str
    input: Shape | None
    output: Shape | None
    parameters: int
    error: StudioError | None = None
    path: tuple[int, ...] = ()
    flops: float = 0
    kept: float = 0
    container: bool = False

    @property
    def outermost(self) -> bool:
        """Whether it is in no other row, so that sums over the model count it."""
        return len(self.path) < 2


def count_parameters(module: nn.Module) -> int:
    """Elements of all parameters, shared ones counted once."""
    return sum(parameter.numel() for parameter in module.parameters())


def settings_text(name: str, values: Mapping[str, Any]) -> str:
    """`20, 5, padding=2`: a layer's parameters as one writes them, what must be given without its name."""
    entry = catalog.layers().get(name)
    needed = {parameter.name for parameter in entry.parameters if parameter.required} if entry else set()
    bare = [_short(value) for key, value in values.items() if key in needed]
    return ", ".join([*bare, *(f"{key}={_short(value)}" for key, value in values.items() if key not in needed)])


def shape_text(shape: Sequence[int] | None) -> str:
    """`20×24×24`; a dash where the shape is unknown."""
    return "–" if shape is None else "×".join(map(str, shape)) or "scalar"


def _short(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return "×".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
