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
# How many dimensions a sample has for layers of that name, or whose name ends so, and what such samples are.
_KINDS = {
    "PositionalEncoding": (2, "sequences (steps × features)"),
    "SequencePool": (2, "sequences (steps × features)"),
    "1d": (2, "series (channels × steps)"),
    "2d": (3, "pictures (channels × height × width)"),
    "3d": (4, "volumes (channels × depth × height × width)"),
}


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
_modules: OrderedDict[object, nn.Module] = OrderedDict()
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


def _module(entry: Entry, values: dict[str, Any], where: str) -> nn.Module:
    """The layer on the meta device; the one that was made before, if it was: it holds no memory and learns nothing."""
    key = (entry.name, repr(values))
    with _memory_lock:
        if key in _modules:
            _modules.move_to_end(key)
            return _modules[key]
    with META:
        module: nn.Module = entry.make(values, where)
    with _memory_lock:
        _modules[key] = module
        if len(_modules) > _REMEMBERED:
            _modules.popitem(last=False)
    return module


def _trace(entry: Entry, values: dict[str, Any], flow: Flow, part: Layer, where: str) -> Traced:
    module = _module(entry, values, where)
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
        mixed = ModelError(where, f"{part.name} does not give one output a sample", "Remove it.")
        raise _of_another_kind(part.name, flow.shape, where) or mixed
    is_view = storage(outgoing) == storage(incoming)
    if not floats and not is_view and not isinstance(module, (nn.Embedding, nn.EmbeddingBag)):
        raise of_tokens(part.name, where)  # the meta device multiplies them by weights, other devices do not
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


def giver(where: str) -> str:
    """`the data` for the first layer of a model, else `the layer above`; `where` is its place in the recipe."""
    return "the data" if set(where.split(".")[2::2]) == {"0"} else "the layer above"


def of_tokens(name: str, where: str) -> ModelError:
    """The error of a layer that computes with numbers where tokens reach it."""
    return ModelError(where, f"{name} needs numbers, tokens reach it", "Add an Embedding above it.")


def _explained(
    module: nn.Module, part: Layer, reached: Shape, floats: bool, where: str, error: Exception
) -> ModelError:
    """Why `part` refuses samples of shape `reached`; `floats`: they are numbers, not tokens."""
    name = part.name
    if not floats:
        return of_tokens(name, where)
    if isinstance(module, nn.Embedding):
        return ModelError(where, f"{name} needs tokens, numbers reach it", "It goes first, on text. Remove it.")
    if (refused := _of_another_kind(name, reached, where)) is not None:
        return refused
    for key, dimension in FROM_SHAPE.items():
        wanted = part.parameters.get(key)
        position = dimension if dimension < 0 else dimension - 1
        if isinstance(wanted, int) and -len(reached) <= position < len(reached) and reached[position] != wanted:
            return _of_another_size(part, key, wanted, reached, reached[position], where)
    ends = part.parameters.get("normalized_shape")
    if isinstance(ends, (list, tuple)) and tuple(ends) != reached[-len(ends) :]:
        what = f"{name} expects samples that end with {shape_text(ends)}, {giver(where)} gives {shape_text(reached)}"
        return ModelError(where, what, "Remove normalized_shape: it is inferred.")
    window = _window(module, len(reached) - 1)
    if any(width > size for width, size in zip(window, reached[1:], strict=False)):
        what = f"a kernel of {shape_text(window)} does not fit into {shape_text(reached)}"
        return ModelError(where, what, "Use a smaller kernel, padding, or less pooling above.")
    text = first_line(error).replace(f"[{SAMPLES}, ", "[samples, ")
    if "input size" in text or "xpected" in text:
        what = f"{name} can't take {shape_text(reached)}: {text}"
        return ModelError(where, what, "Change it or the layer above.")
    return ModelError(where, f"{name} fails on {shape_text(reached)}: {text}", "Change it or the layer above.")


def _of_another_kind(name: str, reached: Shape, where: str) -> ModelError | None:
    """The error of a layer for pictures, say, where series reach it; None where it is for what does."""
    dimensions, noun = _KINDS.get(name, _KINDS.get(name[-2:], (len(reached), "")))
    if len(reached) == dimensions or (name == "BatchNorm1d" and len(reached) == 1):
        return None
    other, source = f"{name[:-2]}{len(reached) - 1}d", giver(where)
    if hasattr(nn, other):
        remedy = f"{other} takes them."
    elif len(reached) == 1 and source == "the layer above":
        remedy = "Remove the Flatten above it."
    else:
        remedy = "Change it or what is above it."
    return ModelError(where, f"{name} needs {noun}, {source} gives {shape_text(reached)}", remedy)


def _window(module: nn.Module, sides: int) -> tuple[int, ...]:
    """What a layer's kernel covers of each side of its input; empty for a layer without one."""
    kernel, dilation = (getattr(module, name, 1) for name in ("kernel_size", "dilation"))
    if not hasattr(module, "kernel_size") or sides < 1:
        return ()
    kernels, dilations = (each if isinstance(each, tuple) else (each,) * sides for each in (kernel, dilation))
    return tuple(spread * (size - 1) + 1 for size, spread in zip(kernels, dilations, strict=False))


def _of_another_size(part: Layer, key: str, wanted: int, reached: Shape, gets: int, where: str) -> ModelError:
    noun = "channels" if key in ("in_channels", "num_channels") else "steps" if key == "length" else "features"
    noun = noun.removesuffix("s") if wanted == 1 else noun
    count = math.prod(reached)
    if key == "in_features" and len(reached) > 1 and (count == wanted or len(reached) > 2):
        what = f"{part.name} expects {wanted} {noun}, {giver(where)} gives {shape_text(reached)} = {count}"
        more = "" if count == wanted else f" and remove {key}"
        return ModelError(where, what, f"Add a Flatten above it{more}.")
    has = f"{shape_text(reached)}, which has {gets}" if len(reached) > 1 else shape_text(reached)
    what = f"{part.name} expects {wanted} {noun}, {giver(where)} gives {has}"
    return ModelError(where, what, f"Remove {key}: it is inferred.")
