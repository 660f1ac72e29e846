"""RandomAffine and RandomRotation: each sample turned, moved, scaled and sheared by a matrix of its own."""

# B batch · C channels · H height · W width

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from engine.data.augmentation.draws import on_device, uniform
from engine.data.augmentation.steps import Transform, Vectorised, fill_of, filling

# As text, or by Pillow's numbers, which torchvision takes too.
_MODES = {"nearest": "nearest", 0: "nearest", "bilinear": "bilinear", 2: "bilinear"}


class Affine(Vectorised):
    """Draws angle, translation x and y, scale, shear x and y: degrees and whole pixels.

    `degrees` and `shear` are ranges, two numbers a direction; `center` is x, y in pixels, None for the middle.
    """

    def __init__(
        self,
        degrees: Sequence[float],
        translate: Sequence[float] | None,
        scale: Sequence[float] | None,
        shear: Sequence[float] | None,
        mode: str,
        fill: tuple[float, ...] | None,
        center: Sequence[float] | None,
    ) -> None:
        self._degrees, self._translate, self._scale = degrees, translate, scale
        self._shear = (*(shear or ()), 0.0, 0.0, 0.0, 0.0)[:4]
        self._mode, self._fill, self._center = mode, fill, center

    def draw(self, count: int, shape: torch.Size, generator: Generator) -> Tensor:
        furthest = (0.0, 0.0) if self._translate is None else self._translate
        across, down = furthest[0] * shape[2], furthest[1] * shape[1]
        ranges = (self._degrees, (-across, across), (-down, down), self._scale or (1.0, 1.0))
        drawn = [uniform(count, low, high, generator) for low, high in (*ranges, self._shear[:2], self._shear[2:])]
        return torch.stack((drawn[0], drawn[1].round(), drawn[2].round(), *drawn[3:]), 1)

    def apply(self, inputs: Tensor, drawn: Tensor) -> Tensor:
        height, width = inputs.shape[2:]
        center = (0.0, 0.0) if self._center is None else (self._center[0] - width / 2, self._center[1] - height / 2)
        return sampled(inputs, _inverse(drawn, center), self._mode, self._fill)


class Rotation(Affine):
    """Draws one angle; unlike RandomAffine's it turns against the clock."""

    def __init__(
        self, degrees: Sequence[float], mode: str, fill: tuple[float, ...] | None, center: Sequence[float] | None
    ) -> None:
        super().__init__(degrees, None, None, None, mode, fill, center)

    def draw(self, count: int, shape: torch.Size, generator: Generator) -> Tensor:
        low, high = self._degrees
        return uniform(count, low, high, generator).unsqueeze(1)

    def apply(self, inputs: Tensor, drawn: Tensor) -> Tensor:
        still = torch.tensor([0.0, 0.0, 1.0, 0.0, 0.0], dtype=drawn.dtype).expand(len(drawn), 5)
        return super().apply(inputs, torch.cat((-drawn, still), 1))


def _inverse(drawn: Tensor, center: tuple[float, float]) -> Tensor:
    """(B, 6) matrices from a place in the result to its place in the source, as torchvision computes them."""
    angle, shear_x, shear_y = drawn[:, [0, 4, 5]].deg2rad().unbind(1)
    right, down, scale = drawn[:, 1:4].unbind(1)
    a = (angle - shear_y).cos() / shear_y.cos()
    b = -(a * shear_x.tan() + angle.sin())
    c = (angle - shear_y).sin() / shear_y.cos()
    d = angle.cos() - c * shear_x.tan()
    across, along = torch.stack((d, -b)) / scale, torch.stack((-c, a)) / scale  # (2, B): the rows of the inverse
    moved = torch.stack((center[0] + right, center[1] + down))
    return torch.stack((*across, center[0] - (across * moved).sum(0), *along, center[1] - (along * moved).sum(0)), 1)


def sampled(inputs: Tensor, matrices: Tensor, mode: str, fill: tuple[float, ...] | None) -> Tensor:
    """`inputs` (B, C, H, W) read where `matrices` (B, 6) say, in pixels from the middle, with `fill` outside."""
    height, width = inputs.shape[2:]
    halves = torch.tensor([width, width, width, height, height, height], dtype=matrices.dtype) / 2
    scaled = on_device((matrices / halves).to(inputs.dtype), inputs.device)  # grid_sample's sides are from -1 to 1
    a, b, c, d, e, f = scaled.T.unsqueeze(-1).unbind(0)  # (B, 1) each
    x, y = (_from_middle(length, inputs) for length in (width, height))
    grid = torch.stack(
        ((a * x).unsqueeze(1) + (b * y + c).unsqueeze(2), (d * x).unsqueeze(1) + (e * y + f).unsqueeze(2)), -1
    )  # (B, H, W, 2)
    if fill is None or (mode == "nearest" and not any(fill)):
        return _read(inputs, grid, mode)
    filled = filling(fill, inputs)
    read = _read(torch.cat((inputs, torch.ones_like(inputs[:, :1])), 1), grid, mode)
    pixels, inside = read[:, :-1], read[:, -1:]
    if mode == "nearest":
        return torch.where(inside < 0.5, filled, pixels)
    return (pixels - filled).mul_(inside).add_(filled)


def _read(inputs: Tensor, grid: Tensor, mode: str) -> Tensor:
    return F.grid_sample(inputs, grid, mode=mode, padding_mode="zeros", align_corners=False)


def _from_middle(length: int, like: Tensor) -> Tensor:
    return torch.linspace((1 - length) / 2, (length - 1) / 2, length, device=like.device, dtype=like.dtype)


def affine(transform: Transform) -> Affine | None:
    """RandomAffine; None for an interpolation that it does not know or a filling by the kind of input."""
    mode = _MODES.get(transform.interpolation)
    if mode is None or isinstance(transform.fill, dict):
        return None
    parameters = transform.degrees, transform.translate, transform.scale, transform.shear
    return Affine(*parameters, mode, fill_of(transform), transform.center)


def rotation(transform: Transform) -> Rotation | None:
    """RandomRotation; None as for RandomAffine, and for `expand`, where every sample may get a size of its own."""
    mode = _MODES.get(transform.interpolation)
    if mode is None or transform.expand or isinstance(transform.fill, dict):
        return None
    return Rotation(transform.degrees, mode, fill_of(transform), transform.center)
