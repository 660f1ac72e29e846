"""One picture's file → bytes (C, H, W) of a given size, whatever it holds; its header is looked at beforehand."""

# C channels · H height · W width

from __future__ import annotations

import contextlib
import math
import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, NamedTuple

import numpy as np

from engine.data.samples import BadSample

Fit = Literal["crop", "pad", "stretch"]
Channels = Literal["auto", "grey", "rgb"]
Picture = Any
"""A Pillow image. Pillow is imported where a picture is first looked at: it takes a twentieth of a second."""

# The raster formats of our suffixes. Pillow would go by content, and start Ghostscript for PostScript named x.jpg.
_FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "PPM")
GREY = frozenset({"1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "I;16N"})
_SIXTEEN_BITS = frozenset({"I", "I;16", "I;16B", "I;16L", "I;16N"})
_ORIENTATION = 0x0112  # the tag of EXIF
_GAP = 2.0  # a picture is first made smaller by whole factors, down to so many times its final size


@dataclass(frozen=True)
class Header:
    """What a picture says of itself before it is decoded: its size as it is seen, and whether it has no colours."""

    height: int
    width: int
    grey: bool


class Decoded(NamedTuple):
    """A picture as bytes (C, H, W), the upright size that it had before it was brought to this one, and how it lay."""

    pixels: np.ndarray
    height: int
    width: int
    orientation: int


@dataclass(frozen=True)
class Placing:
    """Which part of a picture (left, top, right, bottom, in its pixels) becomes which rectangle of the result."""

    box: tuple[float, float, float, float]
    left: int
    top: int
    width: int
    height: int


@dataclass(frozen=True)
class Frame:
    """What every picture is brought to: (channels, height, width), and in which way."""

    channels: int
    height: int
    width: int
    fit: Fit
    max_pixels: int

    def place(self, width: int, height: int) -> Placing:
        """Where a picture of this size goes."""
        if self.fit == "stretch":
            return Placing((0, 0, width, height), 0, 0, self.width, self.height)
        across, down = self.width / width, self.height / height
        if self.fit == "crop":
            scale = max(across, down)
            left, top = max(0.0, (width - self.width / scale) / 2), max(0.0, (height - self.height / scale) / 2)
            return Placing((left, top, width - left, height - top), 0, 0, self.width, self.height)
        scale = min(across, down)
        wide, high = (
            max(1, min(limit, round(side * scale))) for side, limit in ((width, self.width), (height, self.height))
        )
        return Placing((0, 0, width, height), (self.width - wide) // 2, (self.height - high) // 2, wide, high)


def header(path: bytes, place: str, max_pixels: int) -> Header:
    """The size and kind of the picture at `path`, undecoded. Raises BadSample, which names it by `place`."""
    with opened(path, place, max_pixels) as image:
        width, height = image.size
        if orientation_of(image) >= 5:
            width, height = height, width
        return Header(height, width, image.mode in GREY)


def decoded(path: bytes, place: str, frame: Frame, marked_as: tuple[int, int] | None = None) -> Decoded:
    """The picture at `path`, seen the right way up. Raises BadSample, which names it by `place`.

    `marked_as` is the (width, height) that it had for those who marked places in it: COCO's own tools and torchvision
    read a picture as it lies in the file, and it is turned only if that is how it was seen.
    """
    with opened(path, place, frame.max_pixels) as image:
        width, height = image.size
        _draft(image, frame)
        image.load()
        orientation = orientation_of(image)
        if marked_as is not None and (orientation < 5 or marked_as != (height, width) or width == height):
            orientation = 1
        if orientation >= 5:
            width, height = height, width
        upright = turned(image, orientation)
        return Decoded(laid_out(placed(in_bytes(upright, frame.channels), frame)), height, width, orientation)


@contextlib.contextmanager
def opened(path: bytes, place: str, max_pixels: int) -> Iterator[Picture]:
    """The picture at `path`, of which no more than the header is read. Whatever goes wrong with it is a BadSample."""
    pillow = _pillow()
    try:
        with open(path, "rb") as file:
            if not os.fstat(file.fileno()).st_size:
                raise BadSample(place, "is empty: the file has 0 bytes")
            image = pillow.open(file, formats=_FORMATS)
            width, height = image.size
            if width * height > max_pixels:
                what = f"has {width}×{height} = {width * height:,} pixels, more than max_pixels = {max_pixels:,}"
                raise BadSample(place, what)
            yield image
    except (BadSample, MemoryError):
        raise
    except (pillow.DecompressionBombError, pillow.DecompressionBombWarning) as error:
        raise BadSample(place, f"has more pixels than Pillow takes: {error}") from error
    except pillow.UnidentifiedImageError as error:
        raise BadSample(place, "is no picture in a format that is known, or is damaged") from error
    except OSError as error:
        # Pillow's own, of a file cut short, have no number.
        raise BadSample(
            place, f"can't be {'opened' if error.errno else 'decoded'}: {error.strerror or error}"
        ) from error
    except Exception as error:  # a damaged file makes Pillow raise SyntaxError, ValueError, struct.error and others
        raise BadSample(place, f"can't be decoded: {error or type(error).__name__}") from error


@cache
def _pillow() -> Any:
    from PIL import Image

    # We look at the size ourselves; printed into the studio the warning would only be a smear.
    warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
    return Image


def orientation_of(image: Picture) -> int:
    """EXIF's number from 1 (upright) to 8; from 5 on width and height change places."""
    if image.format == "TIFF":
        return 1  # Pillow turns these itself, size and pixels
    if image.format == "PNG" and "exif" not in image.info:
        return 1  # asking would decode the whole picture
    try:
        number = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # damaged EXIF raises anything; the picture itself may be whole
        return 1
    return number if isinstance(number, int) and 1 <= number <= 8 else 1


def image_of(values: np.ndarray) -> Picture:
    """(H, W) bytes as a picture."""
    return _pillow().fromarray(values)


def turned(image: Picture, orientation: int) -> Picture:
    """`image` upright."""
    way = _pillow().Transpose
    by = {
        2: way.FLIP_LEFT_RIGHT,
        3: way.ROTATE_180,
        4: way.FLIP_TOP_BOTTOM,
        5: way.TRANSPOSE,
        6: way.ROTATE_270,
        7: way.TRANSVERSE,
        8: way.ROTATE_90,
    }.get(orientation)
    return image if by is None else image.transpose(by)


def _draft(image: Picture, frame: Frame) -> None:
    """Let a JPEG be decoded at a half, quarter or eighth where that is still more than enough: many times faster."""
    width, height = image.size
    scale = _GAP * max(max(frame.width, frame.height) / min(width, height), 1e-9)
    if image.format in ("JPEG", "MPO") and scale < 1:
        image.draft(None, (math.ceil(width * scale), math.ceil(height * scale)))


def in_bytes(image: Picture, channels: int) -> Picture:
    """`image` in grey or in colours, 8 bits a channel. What is transparent is seen on white. Raises ValueError."""
    pillow = _pillow()
    if image.mode in _SIXTEEN_BITS:
        values = np.asarray(image)
        if image.mode == "I" and (values.min() < 0 or values.max() > 0xFFFF):
            raise ValueError("it holds 32-bit numbers: save it with 8 or 16 bits")
        image = image_of((values >> 8).astype(np.uint8))
    elif image.mode == "F":
        raise ValueError("it holds 32-bit floats, whose range is not known: save it with 8 or 16 bits")
    if image.mode in ("RGBA", "RGBa", "LA", "La", "PA") or "transparency" in image.info:
        clear = image.convert("RGBA")
        image = pillow.alpha_composite(pillow.new("RGBA", clear.size, "white"), clear)
    mode = "L" if channels == 1 else "RGB"
    return image if image.mode == mode else image.convert(mode)


def placed(image: Picture, frame: Frame) -> Picture:
    """`image` at the size of `frame`; where it does not reach is black."""
    pillow = _pillow()
    if image.size == (frame.width, frame.height):
        return image
    to = frame.place(*image.size)
    image = image.resize((to.width, to.height), pillow.Resampling.BILINEAR, box=to.box, reducing_gap=_GAP)
    if image.size == (frame.width, frame.height):
        return image
    whole = pillow.new(image.mode, (frame.width, frame.height))
    whole.paste(image, (to.left, to.top))
    return whole


def laid_out(image: Picture) -> np.ndarray:
    """(C, H, W) bytes of their own."""
    array = np.array(image, dtype=np.uint8)
    return array[np.newaxis] if array.ndim == 2 else np.ascontiguousarray(array.transpose(2, 0, 1))
