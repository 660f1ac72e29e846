"""RandomResizedCrop: a crop of random area and aspect for each sample, resized by two products of matrices."""

# B batch · C channels · H height · W width of the source · h, w of the result

from __future__ import annotations

import torch
from torch import Generator, Tensor

from engine.data.augmentation.draws import first, on_device, sides, whole
from engine.data.augmentation.steps import Transform, Vectorised

# As text, or by Pillow's number, which torchvision takes too.
_BILINEAR = ("bilinear", 2)


class ResizedCrop(Vectorised):
    """Draws top, left, height, width in pixels."""

    def __init__(
        self, size: tuple[int, int], scale: tuple[float, float], ratio: tuple[float, float], *, antialias: bool
    ) -> None:
        self._size, self._scale, self._ratio, self._antialias = size, scale, ratio, antialias

    def draw(self, count: int, shape: torch.Size, generator: Generator) -> Tensor:
        _, high, wide = shape
        widths, heights = sides(count, high * wide, self._scale, self._ratio, generator)
        chosen, found = first((widths > 0) & (widths <= wide) & (heights > 0) & (heights <= high))
        width, height = widths.gather(1, chosen).squeeze(1), heights.gather(1, chosen).squeeze(1)
        top, left = whole(high - height + 1, generator), whole(wide - width + 1, generator)
        middle = torch.tensor(self._middle(high, wide), dtype=torch.float64)
        return torch.where(found.unsqueeze(1), torch.stack((top, left, height, width), 1), middle)

    def _middle(self, high: int, wide: int) -> tuple[int, int, int, int]:
        """What torchvision takes where no attempt fits: as much of the middle as the limits of the aspect allow."""
        height, width = high, wide
        if wide / high < min(self._ratio):
            height = round(wide / min(self._ratio))
        elif wide / high > max(self._ratio):
            width = round(high * max(self._ratio))
        return (high - height) // 2, (wide - width) // 2, height, width

    def apply(self, inputs: Tensor, drawn: Tensor) -> Tensor:
        count, channels, high, wide = inputs.shape
        top, left, height, width = on_device(drawn.to(inputs.dtype), inputs.device).unbind(1)
        rows = _weights(top, height, high, self._size[0], antialias=self._antialias)  # (B, h, H)
        columns = _weights(left, width, wide, self._size[1], antialias=self._antialias)  # (B, w, W)
        narrowed = columns @ inputs.reshape(count, channels * high, wide).mT  # (B, w, C·H)
        resized = narrowed.view(count, self._size[1] * channels, high) @ rows.mT  # (B, w·C, h)
        return resized.view(count, self._size[1], channels, self._size[0]).permute(0, 2, 3, 1).contiguous()


def _weights(start: Tensor, length: Tensor, source: int, size: int, *, antialias: bool) -> Tensor:
    """(B, size, source): how much each pixel of a source line counts for each of the result, bilinear.

    The line is cut to `length` (B,) pixels from `start` (B,), as torch's interpolate sees it.
    """
    start, length = start.view(-1, 1, 1), length.view(-1, 1, 1)
    pixels = torch.arange(source, device=start.device, dtype=start.dtype) - start  # (B, 1, source), within the crop
    places = torch.arange(size, device=start.device, dtype=start.dtype).unsqueeze(1)  # (size, 1)
    scale = length / size
    centers = scale * (places + 0.5) - 0.5  # (B, size, 1)
    if not antialias:
        centers = torch.minimum(centers.clamp_min(0), length - 1)
        return (1 - (pixels - centers).abs()).clamp_min_(0)
    within = (pixels >= 0) & (pixels < length)
    weights = (1 - (pixels - centers).abs() / scale.clamp_min(1)).clamp_min_(0) * within
    return weights / weights.sum(-1, keepdim=True)


def resized_crop(transform: Transform) -> ResizedCrop | None:
    """RandomResizedCrop; None for an interpolation other than bilinear."""
    if transform.interpolation not in _BILINEAR:
        return None
    height, width = transform.size
    return ResizedCrop((height, width), transform.scale, transform.ratio, antialias=bool(transform.antialias))
