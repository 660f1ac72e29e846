"""RandomErasing: a rectangle of its own in each sample, filled with a value or with noise."""

# B batch · C channels · H height · W width

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Generator, Tensor

from engine.data.augmentation.draws import first, normal, on_device, sides, whole
from engine.data.augmentation.steps import Transform, Vectorised, filling
from engine.seeds import derive


class Erasing(Vectorised):
    """Draws top, left, height, width in pixels; a sample that stays as it is has height and width 0.

    `value` is one number or one a channel; None for noise, which is drawn on the device of the samples.
    """

    def __init__(
        self, p: float, scale: tuple[float, float], ratio: tuple[float, float], value: Sequence[float] | None
    ) -> None:
        self._p, self._scale, self._ratio = p, scale, ratio
        self._value = None if value is None else tuple(value)

    def draw(self, count: int, shape: torch.Size, generator: Generator) -> Tensor:
        _, high, wide = shape
        chosen = torch.rand(count, generator=generator) < self._p
        heights, widths = sides(count, high * wide, self._scale, self._ratio, generator)
        attempt, found = first((heights < high) & (widths < wide))
        height, width = heights.gather(1, attempt).squeeze(1), widths.gather(1, attempt).squeeze(1)
        top, left = whole(high - height + 1, generator), whole(wide - width + 1, generator)
        return torch.stack((top, left, height, width), 1) * (chosen & found).unsqueeze(1)

    def __call__(self, inputs: Tensor, seed: int) -> Tensor:
        drawn = self.draw(len(inputs), inputs.shape[1:], torch.Generator().manual_seed(seed))
        if self._value is not None:
            return self.apply(inputs, drawn)
        return erased(inputs, drawn, normal(inputs, derive(seed, 1)))

    def apply(self, inputs: Tensor, drawn: Tensor) -> Tensor:
        assert self._value is not None
        return erased(inputs, drawn, filling(self._value, inputs))


def erased(inputs: Tensor, drawn: Tensor, value: Tensor) -> Tensor:
    """`inputs` (B, C, H, W) with `value` in the rectangles `drawn` (B, 4): top, left, height, width."""
    limits = torch.cat((drawn[:, :2], drawn[:, :2] + drawn[:, 2:]), 1).long()
    top, left, bottom, right = on_device(limits, inputs.device).unsqueeze(2).unbind(1)  # (B, 1) each
    rows, columns = (torch.arange(length, device=inputs.device) for length in inputs.shape[2:])
    high, wide = (rows >= top) & (rows < bottom), (columns >= left) & (columns < right)  # (B, H), (B, W)
    return torch.where((high.unsqueeze(2) & wide.unsqueeze(1)).unsqueeze(1), value, inputs)


def erasing(transform: Transform) -> Erasing:
    """RandomErasing with any of its options; `inplace` has no meaning here."""
    return Erasing(transform.p, transform.scale, transform.ratio, transform.value)
