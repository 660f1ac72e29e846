"""A Pillow picture → bytes of a given size and kind, and a mask of classes → numbers at the same places."""

# C channels · H height · W width

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

Fit = Literal["crop", "pad", "stretch"]
Channels = Literal["auto", "grey", "rgb"]
FITS: tuple[Fit, ...] = ("crop", "pad", "stretch")
CHANNELS: tuple[Channels, ...] = ("auto", "grey", "rgb")
IGNORED = -100
"""The class of a pixel that has none, outside the picture or between two things: what torch's losses leave out."""
_GREY = ("1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "I;16N")
_REDUCED = 2.0  # a picture is first made smaller by whole factors, down to so many times its final size

Size = int | tuple[int, int]
"""A side in pixels, (height, width), or 0 for a picture's own."""


def as_picture(image: Any, size: Size = 0, fit: Fit = "crop", channels: Channels = "auto") -> Tensor:
    """A Pillow picture as uint8 (C, H, W).

    `fit` says how another shape is brought to `size`: crop (the shorter side fits, the middle is taken), pad (the
    longer side fits, the rest is black) or stretch. What is transparent is seen on white.
    """
    from PIL import Image  # a twentieth of a second

    image = _in_bytes(image, grey=image.mode in _GREY if channels == "auto" else channels == "grey")
    array = np.asarray(_sized(image, size, fit, 0, Image.Resampling.BILINEAR), dtype=np.uint8)
    laid = array[np.newaxis] if array.ndim == 2 else array.transpose(2, 0, 1)
    return torch.from_numpy(laid.copy())


def as_mask(image: Any, size: Size = 0, fit: Fit = "crop") -> Tensor:
    """A Pillow picture whose pixels are classes as int64 (H, W), brought to `size` as its picture is."""
    from PIL import Image  # a twentieth of a second

    image = image if image.mode in ("L", "P", "I", "I;16") else image.convert("L")
    numbers = Image.fromarray(np.asarray(image).astype(np.int32))  # bytes have no room for what is no class
    sized = _sized(numbers, size, fit, IGNORED, Image.Resampling.NEAREST)
    return torch.from_numpy(np.asarray(sized).astype(np.int64))


def _in_bytes(image: Any, *, grey: bool) -> Any:
    from PIL import Image

    if image.mode.startswith("I"):
        image = Image.fromarray((np.asarray(image) >> 8).clip(0, 255).astype(np.uint8))
    if image.mode in ("RGBA", "RGBa", "LA", "La", "PA") or "transparency" in image.info:
        clear = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", clear.size, "white"), clear)
    mode = "L" if grey else "RGB"
    return image if image.mode == mode else image.convert(mode)


def _sized(image: Any, size: Size, fit: Fit, fill: int, how: Any) -> Any:
    from PIL import Image

    height, width = (size, size) if isinstance(size, int) else size
    if not size or image.size == (width, height):
        return image
    wide, high = image.size
    box = (0.0, 0.0, float(wide), float(high))
    to = (width, height)
    if fit == "crop":
        scale = max(width / wide, height / high)
        left, top = max(0.0, (wide - width / scale) / 2), max(0.0, (high - height / scale) / 2)
        box = (left, top, wide - left, high - top)
    elif fit == "pad":
        scale = min(width / wide, height / high)
        to = (min(width, max(1, round(wide * scale))), min(height, max(1, round(high * scale))))
    gap = None if how == Image.Resampling.NEAREST else _REDUCED
    image = image.resize(to, how, box=box, reducing_gap=gap)
    if to == (width, height):
        return image
    whole = Image.new(image.mode, (width, height), (fill,) * 3 if image.mode == "RGB" else fill)
    whole.paste(image, ((width - to[0]) // 2, (height - to[1]) // 2))
    return whole
