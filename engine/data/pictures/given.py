"""A picture that a library has opened → bytes of a given size, and a mask of classes → numbers at the same places."""

# C channels · H height · W width

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from engine.data.pictures.decoding import GREY, Channels, Fit, Frame, Picture, in_bytes, laid_out, placed
from engine.data.pictures.framing import MAX_PIXELS
from engine.data.samples import IGNORED

Size = int | tuple[int, int]
"""A side in pixels, (height, width), or 0 for a picture's own."""


def as_picture(image: Picture, size: Size = 0, fit: Fit = "crop", channels: Channels = "auto") -> Tensor:
    """A Pillow picture as uint8 (C, H, W), brought to `size` as pictures in files are."""
    grey = image.mode in GREY if channels == "auto" else channels == "grey"
    frame = _frame(image, size, fit, 1 if grey else 3)
    return torch.from_numpy(laid_out(placed(in_bytes(image, frame.channels), frame)))


def as_mask(image: Picture, size: Size = 0, fit: Fit = "crop") -> Tensor:
    """A Pillow picture whose pixels are classes as int64 (H, W), brought to `size` as its picture is."""
    from PIL import Image  # a twentieth of a second

    image = image if image.mode in ("L", "P", "I", "I;16") else image.convert("L")
    numbers = Image.fromarray(np.asarray(image).astype(np.int32))  # bytes have no room for what is no class
    frame = _frame(numbers, size, fit, 1)
    to = frame.place(*numbers.size)
    mask = torch.full((frame.height, frame.width), IGNORED)
    inner = numbers.resize((to.width, to.height), Image.Resampling.NEAREST, box=to.box)
    mask[to.top : to.top + to.height, to.left : to.left + to.width] = torch.from_numpy(np.array(inner)).long()
    return mask


def _frame(image: Picture, size: Size, fit: Fit, channels: int) -> Frame:
    height, width = (size, size) if isinstance(size, int) else size
    return Frame(channels, height or image.height, width or image.width, fit, MAX_PIXELS)
