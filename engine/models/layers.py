"""A recipe's layers → a module, with the sizes that follow from the layer above filled in and every shape known.

Shapes are found by running each layer on the meta device: torch computes them without memory or arithmetic.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from engine import catalog
from engine.catalog import FROM_SHAPE, Entry
from engine.errors import ModelError, StudioError, first_line
from engine.recipe import Part

Shape = tuple[int, ...]
_META = torch.device("meta")
# More than one, which batch norm refuses to learn from, and no likely number of channels: torch's layers take a batch
# for one unbatched sample where the numbers happen to agree.
_SAMPLES = 101


@dataclass(frozen=True)
class LayerRow:
    """One layer as a person sees it. Shapes are without the batch dimension; `error` says why there is no output."""

    name: str
    settings: str
    input: Shape | None
    output: Shape | None
    parameters: int
    error: StudioError | None = None


class Chain(nn.Sequential):
    """Layers in a row. Of a layer that returns several tensors (LSTM, GRU) the first goes on: the output sequence."""

    def forward(self, inputs: Tensor) -> Tensor:
        """(B, …) → the last layer's output."""
        for layer in self:
            outputs = layer(inputs)
            inputs = outputs[0] if isinstance(outputs, tuple) else outputs
        return inputs


def trace(parts: Sequence[Part], shape: Shape, sizes: Mapping[str, int]) -> list[LayerRow]:
    """A row for each layer. After the first layer at fault the rest have no shapes.

    `shape` is one sample's input shape; `sizes` gives symbolic values such as `classes`.
    """
    rows: list[LayerRow] = []
    walk = _walk(parts, shape, sizes, _META)
    for part in parts:
        step = next(walk, None)
        if step is None:
            rows.append(LayerRow(part.name, settings_text(part.name, part.parameters), None, None, 0))
        else:
            rows.append(step[0])
    return rows


def build_chain(parts: Sequence[Part], shape: Shape, sizes: Mapping[str, int]) -> Chain:
    """The layers as a module with real, freshly initialised weights on the CPU. Raises RecipeError or ModelError."""
    modules: list[nn.Module] = []
    for row, entry, values in _walk(parts, shape, sizes, _META):
        if row.error is not None:
            raise row.error
        assert entry is not None
        modules.append(entry.make(values, f"model.layers.{len(modules)}"))
    return Chain(*modules)


def count_parameters(module: nn.Module) -> int:
    """Elements of all parameters, shared ones counted once."""
    return sum(parameter.numel() for parameter in module.parameters())


def settings_text(name: str, values: Mapping[str, Any]) -> str:
    """`20, 5, padding=2`: a layer's parameters as one writes them, what must be given without its name."""
    entry = catalog.layers().get(name)
    needed = {parameter.name for parameter in entry.parameters if parameter.required} if entry else set()
    bare = [_short(value) for key, value in values.items() if key in needed]
    return ", ".join([*bare, *(f"{key}={_short(value)}" for key, value in values.items() if key not in needed)])


def shape_text(shape: Shape | None) -> str:
    """`20×24×24`; a dash where the shape is unknown."""
    return "–" if shape is None else "×".join(map(str, shape)) or "scalar"


def _walk(
    parts: Sequence[Part], shape: Shape, sizes: Mapping[str, int], device: torch.device
) -> Iterator[tuple[LayerRow, Entry | None, dict[str, Any]]]:
    """Each layer with its parameters completed from the shape that reaches it; ends after the first one at fault."""
    incoming = torch.empty(_SAMPLES, *shape, device=device)
    for index, part in enumerate(parts):
        where = f"model.layers.{index}"
        shown = settings_text(part.name, part.parameters)
        reached = tuple(incoming.shape[1:])
        try:
            entry = catalog.find("layer", catalog.layers(), part.name, where)
            values = _complete(entry, part.parameters, incoming.shape, sizes, where)
            with device:
                module: nn.Module = entry.make(values, where)
            outgoing = _run(module, incoming, part, reached, where)
        except StudioError as error:
            yield LayerRow(part.name, shown, reached, None, 0, error), None, {}
            return
        yield LayerRow(part.name, shown, reached, tuple(outgoing.shape[1:]), count_parameters(module)), entry, values
        incoming = outgoing


def _complete(
    entry: Entry, given: Mapping[str, Any], incoming: torch.Size, sizes: Mapping[str, int], where: str
) -> dict[str, Any]:
    entry.check(given, where)
    values = dict(given)
    for parameter in entry.parameters:
        name = parameter.name
        if parameter.inferred and name not in values:
            dimension = FROM_SHAPE[name]
            if dimension >= len(incoming):
                raise ModelError(where, f"{entry.name} needs images or sequences", "Remove the Flatten above it.")
            values[name] = incoming[dimension]
        elif name == "batch_first":
            if len(incoming) < 3:  # torch would take the batch for one long sequence and mix the samples
                what = f"{entry.name} needs sequences, the layer above gives {shape_text(tuple(incoming[1:]))}"
                raise ModelError(where, what, "Remove the Flatten above it, or add an Unflatten.")
            values.setdefault(name, True)  # all our batches are
        elif name == "dim" and _mixes_samples(values.get(name, parameter.default), len(incoming)):
            raise ModelError(f"{where}.{name}", "would be the batch: samples would mix", "Write dim = -1.")
        elif isinstance(values.get(name), str) and values[name] in sizes:
            values[name] = sizes[values[name]]
        elif values.get(name) in ("classes", "targets"):
            there = ", ".join(sizes)
            raise ModelError(f"{where}.{name}", f"this data has no {values[name]}", f"Write {there} or a number.")
    return values


def _mixes_samples(dim: object, dimensions: int) -> bool:
    """Whether a layer's `dim` is the batch's. Without one, torch.nn's softmax layers take 0 for three dimensions."""
    return (dim is None and dimensions == 3) or (isinstance(dim, int) and dim in (0, -dimensions))


def _run(module: nn.Module, incoming: Tensor, part: Part, reached: Shape, where: str) -> Tensor:
    try:
        outgoing: Any = module(incoming)
    except Exception as error:  # a layer may raise anything for a shape that does not fit
        raise _mismatch(module, part, reached, where, error) from error
    outgoing = outgoing[0] if isinstance(outgoing, tuple) else outgoing
    if not isinstance(outgoing, Tensor) or outgoing.ndim < 1 or len(outgoing) != len(incoming):
        raise ModelError(where, f"{part.name} does not give one output a sample", "Remove it.")
    if not outgoing.numel():
        what = f"{part.name} makes {shape_text(tuple(outgoing.shape[1:]))} of {shape_text(reached)}: nothing is left"
        raise ModelError(where, what, "Change it or the layer above.")
    return outgoing


def _mismatch(module: nn.Module, part: Part, reached: Shape, where: str, error: Exception) -> ModelError:
    """A shape error in words: what the layer wants and what reaches it."""
    for name, dimension in FROM_SHAPE.items():
        wanted = part.parameters.get(name)
        position = dimension if dimension < 0 else dimension - 1
        if isinstance(wanted, int) and -len(reached) <= position < len(reached) and reached[position] != wanted:
            gets = shape_text(reached) + (f", which has {reached[position]}" if len(reached) > 1 else "")
            return ModelError(
                where,
                f"{part.name} expects {wanted} {name}, the layer above gives {gets}",
                f"Remove {name}: it is inferred.",
            )
    text = first_line(error)
    size = getattr(module, "kernel_size", None)
    sides = size if isinstance(size, tuple) else (size,) * 2
    if (
        isinstance(size, (int, tuple))
        and len(reached) > 2
        and any(k > n for k, n in zip(sides, reached[1:], strict=False))
    ):
        what = f"a kernel of {'×'.join(map(str, sides))} does not fit into {shape_text(reached)}"
        return ModelError(where, what, "Use a smaller kernel, padding, or less pooling above.")
    if "input size" in text or "Expected" in text or "expected" in text:
        return ModelError(
            where, f"{part.name} can't take {shape_text(reached)}: {text}", "Change it or the layer above."
        )
    return ModelError(where, f"{part.name} fails on {shape_text(reached)}: {text}", "Change it or the layer above.")


def _short(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return "×".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
