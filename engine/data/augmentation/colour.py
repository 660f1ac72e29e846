"""ColorJitter and RandomChannelPermutation: factors, their order and the order of channels are each sample's own."""

# B batch · C channels · H height · W width · K operations

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Generator, Tensor

from engine.data.augmentation.draws import on_device, uniform
from engine.data.augmentation.steps import Transform, Vectorised, check_channels

Operation = Callable[[Tensor, Tensor], Tensor]
"""Changes pictures (B, C, H, W) by factors (B, 1, 1, 1)."""


class Jitter(Vectorised):
    """Draws a factor for each operation, then the operations' numbers in the order in which they are done: (B, 2·K)."""

    def __init__(self, ranges: Sequence[tuple[float, float]], operations: Sequence[Operation]) -> None:
        self._ranges, self._operations = ranges, operations

    def draw(self, count: int, shape: torch.Size, generator: Generator) -> Tensor:
        factors = [uniform(count, low, high, generator) for low, high in self._ranges]
        order = torch.rand(count, len(factors), generator=generator).argsort(1)
        return torch.cat((torch.stack(factors, 1), order), 1)

    def apply(self, inputs: Tensor, drawn: Tensor) -> Tensor:
        check_channels(inputs)
        factors, order = drawn.tensor_split(2, 1)
        order = order.long()
        # In each round the samples are sorted by the operation that is theirs, so that each operation finds its own
        # side by side. Which they are is known here, on the CPU: no round waits for a GPU.
        sorting = order.argsort(0)  # (B, K): which sample stands where in a round
        places = sorting.argsort(0)  # (B, K): where a sample stands in a round
        ways = [sorting[:, 0]]
        ways += [places[sorting[:, i], i - 1] for i in range(1, order.shape[1])]
        from_round_to_round = on_device(torch.stack((*ways, places[:, -1])), inputs.device)
        sorted_factors = factors.gather(1, order).gather(0, sorting).to(inputs.dtype)
        sorted_factors = on_device(sorted_factors, inputs.device)
        for place, way in enumerate(from_round_to_round[:-1]):
            counts = torch.bincount(order[:, place], minlength=len(self._operations)).tolist()
            parts = inputs.index_select(0, way).split_with_sizes(counts)
            theirs = sorted_factors[:, place].view(-1, 1, 1, 1).split_with_sizes(counts)
            inputs = torch.cat([apply(*given) for apply, *given in zip(self._operations, parts, theirs, strict=True)])
        return inputs.index_select(0, from_round_to_round[-1])


def grey(inputs: Tensor) -> Tensor:
    """(B, 3, H, W) → (B, 1, H, W), weighed as torchvision and Pillow do; grey pictures as they are."""
    if inputs.shape[1] == 1:
        return inputs
    red, green, blue = inputs.chunk(3, 1)
    return red.mul(0.2989).add_(green, alpha=0.587).add_(blue, alpha=0.114)


def brightness(inputs: Tensor, factors: Tensor) -> Tensor:
    """Every pixel times the factor."""
    return inputs.mul(factors).clamp_(0, 1)


def contrast(inputs: Tensor, factors: Tensor) -> Tensor:
    """Between the picture's mean grey (0) and itself (1), and beyond."""
    return _blended(inputs, grey(inputs).mean((1, 2, 3), keepdim=True), factors)


def saturation(inputs: Tensor, factors: Tensor) -> Tensor:
    """Between the grey picture (0) and itself (1), and beyond."""
    return inputs if inputs.shape[1] == 1 else _blended(inputs, grey(inputs), factors)


def hue(inputs: Tensor, factors: Tensor) -> Tensor:
    """The hue turned by the factor, of which 1 is the whole circle; as torchvision, in float32."""
    if inputs.shape[1] == 1:
        return inputs
    pixels = inputs.float()
    low, high = torch.aminmax(pixels, dim=1, keepdim=True)  # (B, 1, H, W)
    spread = high - low
    divisor = torch.where(spread == 0, 1, spread)
    red, green, blue = pixels.chunk(3, 1)
    turn = torch.where(
        high == red,
        (green - blue) / divisor,
        torch.where(high == green, 2 + (blue - red) / divisor, 4 + (red - green) / divisor),
    )
    # hsv → rgb in one formula for all channels: each is a trapezoid over the circle of hues, a third of it apart.
    starts = torch.arange(3, -2, -2, device=inputs.device).view(3, 1, 1) / 6
    place = (turn / 6 + factors) + starts  # (B, 3, H, W), of which 1 is the whole circle
    away = place.sub_(place.round()).abs_()
    share = away.mul_(-6).add_(2).clamp_(0, 1)
    return (high - share.mul_(spread)).clamp_(0, 1).to(inputs.dtype)


def _blended(inputs: Tensor, others: Tensor, factors: Tensor) -> Tensor:
    return inputs.mul(factors).add_(others * (1 - factors)).clamp_(0, 1)


class ChannelPermutation(Vectorised):
    """Draws the numbers of the channels in their new order."""

    def draw(self, count: int, shape: torch.Size, generator: Generator) -> Tensor:
        return torch.rand(count, shape[0], generator=generator).argsort(1)

    def apply(self, inputs: Tensor, drawn: Tensor) -> Tensor:
        order = on_device(drawn, inputs.device).view(*drawn.shape, 1, 1)
        return inputs.gather(1, order.expand(inputs.shape))


_OPERATIONS: dict[str, Operation] = {
    "brightness": brightness,
    "contrast": contrast,
    "saturation": saturation,
    "hue": hue,
}


def jitter(transform: Transform) -> Jitter | None:
    """ColorJitter; None where it changes nothing, as without a parameter."""
    ranges = {name: getattr(transform, name) for name in _OPERATIONS}
    used = [name for name, limits in ranges.items() if limits is not None]
    return Jitter([ranges[name] for name in used], [_OPERATIONS[name] for name in used]) if used else None


def channel_permutation(transform: Transform) -> ChannelPermutation:
    """RandomChannelPermutation, drawn for each sample."""
    return ChannelPermutation()
