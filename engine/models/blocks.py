"""Layers made of layers: in a row, around a shortcut, side by side."""

# B batch · T time

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

import torch
from torch import Tensor, nn

from engine.models.sequences import Permute

Join = Literal["concat", "add"]


class Chain(nn.Sequential):
    """Layers in a row. Of a layer that returns several tensors the first goes on.

    An Embedding with a `padding_idx` tells how long each sequence is: the layers below that can use it are given it for
    as long as the sequences keep their steps in their place, which a convolution and a Permute end.
    """

    takes_lengths = True

    def forward(self, inputs: Tensor, lengths: Tensor | None = None) -> Tensor:
        """(B, …) → the last layer's output. `lengths` (B,) counts the steps of each sequence that are no padding."""
        return in_a_row(self, inputs, lengths)[0]


def in_a_row(layers: Iterable[nn.Module], inputs: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """The last layer's output, and the lengths that still hold of it."""
    for layer in layers:
        padding = _padding(layer)
        if padding is not None and inputs.ndim == 2:
            lengths = _lengths(inputs, padding)
        steps = inputs.shape[1:2]
        inputs = run(layer, inputs, lengths)
        if lengths is not None and not (inputs.ndim == 3 and inputs.shape[1:2] == steps and _keeps_steps(layer)):
            lengths = None  # pooled, or no sequence any more
    return inputs, lengths


def _padding(layer: nn.Module) -> int | None:
    """Which token is padding, where tokens enter an Embedding in `layer`."""
    if isinstance(layer, nn.Embedding):
        return layer.padding_idx
    entered: Iterable[nn.Module] = ()
    if isinstance(layer, Chain):
        entered = list(layer)[:1]
    elif isinstance(layer, Parallel):
        entered = layer.branches
    return next((found for each in entered if (found := _padding(each)) is not None), None)


def _keeps_steps(layer: nn.Module) -> bool:
    """Whether dimension 1 of what it gives, as long as before, is still the steps."""
    if isinstance(layer, (Chain, Residual, Parallel)):
        return all(map(_keeps_steps, layer.children()))
    if isinstance(layer, nn.ModuleList):
        return all(map(_keeps_steps, layer))
    return not isinstance(layer, _MOVING)


def run(layer: nn.Module, inputs: Tensor, lengths: Tensor | None = None) -> Tensor:
    """One layer's output, the first where there are several."""
    takes = lengths is not None and getattr(layer, "takes_lengths", False)
    outputs: Any = layer(inputs, lengths) if takes else layer(inputs)
    return outputs[0] if isinstance(outputs, tuple) else outputs  # type: ignore[no-any-return]


def _lengths(tokens: Tensor, padding: int) -> Tensor:
    """(B, T) → (B,): steps up to the last that is no padding, at least one, which recurrent layers need."""
    steps = torch.arange(1, tokens.shape[1] + 1, device=tokens.device)
    return torch.where(tokens != padding, steps, 1).amax(1)


_MOVING = (nn.modules.conv._ConvNd, nn.Flatten, nn.Unflatten, nn.ChannelShuffle, Permute)


class Sequential(Chain):
    """Layers in a row, as one block."""


class Repeat(Chain):
    """The same layers `times` times in a row, each time with weights of their own.

    Args:
        times: how often the layers follow each other
    """

    def __init__(self, *layers: nn.Module, times: int) -> None:
        super().__init__(*layers)


class Residual(nn.Module):
    """Adds its input to what its layers make of it (He et al., Deep Residual Learning, 2015).

    Args:
        projection: `auto` lets the shortcut through a 1×1 convolution with batch norm (a Linear layer, where there is
            no image) when the shapes differ, as in the paper's option B; `none` leaves it as it is
    """

    takes_lengths = True

    def __init__(self, *layers: nn.Module, projection: Literal["auto", "none"] = "auto") -> None:
        super().__init__()
        self.body = Chain(*layers)
        self.shortcut: nn.Module = nn.Identity()

    def forward(self, inputs: Tensor, lengths: Tensor | None = None) -> Tensor:
        """(B, …) → the layers' output plus the input."""
        return self.body(inputs, lengths) + self.shortcut(inputs)  # type: ignore[no-any-return]


class Parallel(nn.Module):
    """Gives its input to each of its layers and joins what they make of it (Szegedy et al., Going Deeper, 2014).

    Args:
        join: `concat` puts the outputs beside each other, `add` adds them
        dim: the dimension along which `concat` joins; without one the channels of images, else the last
    """

    takes_lengths = True

    def __init__(self, *layers: nn.Module, join: Join = "concat", dim: int | None = None) -> None:
        super().__init__()
        self.branches = nn.ModuleList(layers)
        self.join, self.dim = join, dim

    def forward(self, inputs: Tensor, lengths: Tensor | None = None) -> Tensor:
        """(B, …) → the branches' outputs, joined."""
        return joined([run(branch, inputs, lengths) for branch in self.branches], self.join, self.dim)


CONTAINERS: tuple[type[nn.Module], ...] = (Sequential, Residual, Parallel, Repeat)


def joined(outputs: list[Tensor], join: Join, dim: int | None) -> Tensor:
    """Beside each other or added. Raises RuntimeError where the shapes do not allow it, as torch does."""
    if join == "concat":
        return torch.cat(outputs, (1 if outputs[0].ndim > 3 else -1) if dim is None else dim)
    if any(output.shape != outputs[0].shape for output in outputs):  # torch would stretch them
        raise RuntimeError("the branches' shapes differ")
    total = outputs[0]
    for output in outputs[1:]:
        total = total + output
    return total
