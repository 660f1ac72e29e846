"""What one layer makes of what reaches it, or in words why it can't take it.

Found by running the layer on the meta device: torch computes shapes there without memory or arithmetic. What was found
is remembered, so that after an edit only what it changed is run again.
"""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from engine.catalog import FROM_SHAPE, Entry
from engine.errors import ModelError, first_line
from engine.models.columns import of_codes
from engine.models.costs import Tally, storage
from engine.models.rows import Shape, count_parameters, shape_text
from engine.recipe import Layer

META = torch.device("meta")
# More than one, which batch norm refuses to learn from, and no likely number of channels: torch's layers take a batch
# for one unbatched sample where the numbers happen to agree.
SAMPLES = 101
_STEPS = 2  # of a sequence that a recurrent layer is run on: all its steps are alike, and there may be thousands
_REMEMBERED = 4096


@dataclass(frozen=True)
class Flow:
    """What reaches a layer: one sample's shape and type.

    `learns`: the backward pass goes on above it, which it does not to the data.
    `memory` tells where it lies from where anything else in the model does, views share it; `held` is its size in bytes
    a sample, None where it is that of the shape. `codes` count those of each of the last columns, where they are codes
    of categories.
    """

    shape: Shape
    dtype: torch.dtype = torch.float32
    learns: bool = False
    memory: int = 0
    held: float | None = None
    codes: tuple[int, ...] = ()

    @property
    def bytes(self) -> float:
        """Of the memory that it lies in, a sample: a view keeps more alive than its shape says."""
        if self.held is not None:
            return self.held
        return math.prod(self.shape) * self.dtype.itemsize

    def like(self, other: Flow) -> bool:
        """Whether layers do the same with both."""
        ours, others = ((flow.shape, flow.dtype, flow.learns, flow.codes) for flow in (self, other))
        return ours == others


@dataclass(frozen=True)
class Traced:
    """What a layer makes of a flow, for one sample; `inner` is what it keeps beside its input and its output."""

    output: Flow
    parameters: int
    flops: float
    inner: float
    keeps_input: bool
    keeps_output: bool
    is_view: bool


_memory: OrderedDict[object, Traced] = OrderedDict()
_memory_lock = threading.Lock()  # recipes are checked in several threads


def made_of(entry: Entry, values: dict[str, Any], flow: Flow, part: Layer, where: str) -> Traced:
    """What the layer makes of `flow`: as it was found before, if it was. What is used least is forgotten first.

    Raises RecipeError or ModelError.
    """
    if any(parameter.takes_function for parameter in entry.parameters if parameter.name in values):
        return _trace(entry, values, flow, part, where)  # the file may have changed
    key = (entry.name, repr(values), flow.shape, flow.dtype, flow.learns, flow.codes)
    with _memory_lock:
        if key in _memory:
            _memory.move_to_end(key)
            return _memory[key]
    found = _trace(entry, values, flow, part, where)
    with _memory_lock:
        _memory[key] = found
        if len(_memory) > _REMEMBERED:
            _memory.popitem(last=False)
    return found


def _trace(entry: Entry, values: dict[str, Any], flow: Flow, part: Layer, where: str) -> Traced:
    with META:
        module: nn.Module = entry.make(values, where)
    steps = flow.shape[0] if isinstance(module, nn.RNNBase) and len(flow.shape) == 2 else 0
    shape = (min(steps, _STEPS), *flow.shape[1:]) if steps else flow.shape
    floats = flow.dtype.is_floating_point
    incoming = torch.empty(SAMPLES, *shape, device=META, dtype=flow.dtype, requires_grad=flow.learns)
    tally = Tally()
    try:
        with tally.of(module):
            outgoing: Any = module(incoming)
    except Exception as error:  # a layer may raise anything for a shape that does not fit
        raise _explained(module, part, flow.shape, floats, where, error) from error
    outgoing = outgoing[0] if isinstance(outgoing, tuple) else outgoing
    if not isinstance(outgoing, Tensor) or outgoing.ndim < 1 or len(outgoing) != len(incoming):
        raise ModelError(where, f"{part.name} does not give one output a sample", "Remove it.")
    is_view = storage(outgoing) == storage(incoming)
    if not floats and not is_view and not isinstance(module, (nn.Embedding, nn.EmbeddingBag)):
        raise _of_tokens(part, where)  # the meta device multiplies them by weights, other devices do not
    output = tuple(outgoing.shape[1:])
    if not outgoing.numel():
        what = f"{part.name} makes {shape_text(output)} of {shape_text(flow.shape)}: nothing is left"
        raise ModelError(where, what, "Change it or the layer above.")
    if flow.codes and not is_view and not getattr(module, "takes_codes", False):
        raise of_codes(part.name, where)
    ends = {storage(end): end.untyped_storage().nbytes() for end in (incoming, outgoing) if tally.keeps(end)}
    longer = steps / shape[0] if steps else 1
    held = outgoing.untyped_storage().nbytes() / SAMPLES
    if steps and len(output) == 2:
        output, held = (steps, *output[1:]), held * longer
    return Traced(
        output=Flow(output, outgoing.dtype, outgoing.requires_grad, held=held),
        parameters=count_parameters(module),
        flops=tally.flops / SAMPLES * longer,
        inner=(tally.kept - sum(ends.values())) / SAMPLES * longer,
        keeps_input=tally.keeps(incoming),
        keeps_output=tally.keeps(outgoing),
        is_view=is_view,
    )


def _explained(
    module: nn.Module, part: Layer, reached: Shape, floats: bool, where: str, error: Exception
) -> ModelError:
    """Why `part` refuses samples of shape `reached`; `floats`: they are numbers, not tokens."""
    name = part.name
    if not floats:
        return _of_tokens(part, where)
    if isinstance(module, nn.Embedding):
        return ModelError(where, f"{name} needs tokens, numbers reach it", "It goes first, on text. Remove it.")
    for key, dimension in FROM_SHAPE.items():
        wanted = part.parameters.get(key)
        position = dimension if dimension < 0 else dimension - 1
        if isinstance(wanted, int) and -len(reached) <= position < len(reached) and reached[position] != wanted:
            return _of_another_size(part, key, wanted, reached, reached[position], where)
    text = first_line(error).replace(f"[{SAMPLES}, ", "[samples, ")
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


def _of_tokens(part: Layer, where: str) -> ModelError:
    return ModelError(where, f"{part.name} needs numbers, tokens reach it", "Add an Embedding above it.")


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
