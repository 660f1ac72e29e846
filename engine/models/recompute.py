"""Gradient checkpointing: parts of a model forget their activations and compute them again in the backward pass.

Chen et al., Training Deep Nets with Sublinear Memory Cost (2016).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from itertools import groupby, pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from engine.errors import RecipeError
from engine.models.blocks import Chain, in_a_row

Bounds = tuple[tuple[int, int], ...]


def recompute(model: nn.Module) -> int:
    """Make the outermost nn.Sequential containers of `model` recompute their children; how many pieces there are.

    A child made of layers is a piece of its own; of single layers in a row about √n make one. Loss, gradients, running
    statistics and random numbers stay the same to the bit. A forward hook on a layer inside is called twice a step.
    Buffers that a layer both reads and changes in training (spectral_norm) are read as the first pass left them.

    Raises RecipeError when there is no such container.
    """
    pieces = 0
    for container in _outermost(model):
        bounds = _bounds(list(container))
        if not bounds:
            continue
        # An attribute, not a class: state_dict, pickle and deepcopy see the same module, and take `forward` with them.
        container.forward = partial(_forward, container, bounds)  # type: ignore[method-assign]
        pieces += len(bounds)
    if not pieces:
        what = "the model has no Sequential with several layers that could be computed again"
        raise RecipeError("training.gradient_checkpointing", what, "Set it to false.")
    return pieces


def _outermost(module: nn.Module) -> Iterator[nn.Sequential]:
    plain = type(module).forward in (nn.Sequential.forward, Chain.forward)
    if isinstance(module, nn.Sequential) and plain and (len(module) > 1 or any(_made_of_layers(m) for m in module)):
        yield module
        return
    for child in module.children():
        yield from _outermost(child)


def _made_of_layers(module: nn.Module) -> bool:
    return next(module.children(), None) is not None


def _starts_in_place(module: nn.Module) -> bool:
    """Whether it overwrites its input, which a piece must still have in the backward pass."""
    first = next(module.children(), None)
    return bool(getattr(module, "inplace", False)) if first is None else _starts_in_place(first)


def _bounds(layers: Sequence[nn.Module]) -> Bounds:
    """Where pieces begin and end. A layer that works in place stays with the one before it, or outside."""
    starts: list[int] = []
    for made_of_layers, group in groupby(range(len(layers)), lambda position: _made_of_layers(layers[position])):
        run = list(group)
        starts += run if made_of_layers else run[:: math.ceil(math.sqrt(len(run)))]
    starts = [start for start in starts if not _starts_in_place(layers[start])]
    return tuple(pairwise([*starts, len(layers)]))


def _forward(container: nn.Sequential, bounds: Bounds, inputs: Any, lengths: Tensor | None = None) -> Any:
    """What the container's own forward does, in pieces."""
    layers = list(container)
    run = in_a_row if isinstance(container, Chain) else _plainly
    inputs, lengths = run(layers[: bounds[0][0]], inputs, lengths)
    for first, end in bounds:
        piece = layers[first:end]
        if torch.is_grad_enabled():
            contexts = partial(_contexts, piece)
            again = partial(run, piece)
            inputs, lengths = checkpoint(again, inputs, lengths, use_reentrant=False, context_fn=contexts)
        else:
            inputs, lengths = run(piece, inputs, lengths)
    return inputs


def _plainly(layers: Iterable[nn.Module], inputs: Any, lengths: Tensor | None) -> tuple[Any, Tensor | None]:
    """As nn.Sequential does it."""
    for layer in layers:
        inputs = layer(inputs)
    return inputs, lengths


def _contexts(layers: Sequence[nn.Module]) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """For the first pass and for the one in the backward pass."""
    return nullcontext(), _aside(layers)


@contextmanager
def _aside(layers: Sequence[nn.Module]) -> Iterator[None]:
    """Let the second pass write into copies of the buffers: BatchNorm would count every batch twice."""
    holders = [module for layer in layers for module in layer.modules() if layer.training and module._buffers]
    kept = [dict(module._buffers) for module in holders]
    try:
        for module, buffers in zip(holders, kept, strict=True):
            module._buffers.update({name: None if b is None else b.clone() for name, b in buffers.items()})
        yield
    finally:
        for module, buffers in zip(holders, kept, strict=True):
            module._buffers.update(buffers)
