"""Whatever a picture's file holds, it becomes bytes of one shape, or is named as bad; nothing huge is decoded."""

from __future__ import annotations

import os
import struct
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from engine.data.pictures.decoding import Fit, Frame, decoded, header, turned
from engine.data.samples import BadSample

LIMIT = 1_000_000


def read(file: Path, channels: int = 3, size: tuple[int, int] = (4, 4), fit: Fit = "stretch") -> np.ndarray:
    frame = Frame(channels, *size, fit, LIMIT)
    array = decoded(os.fsencode(file), file.name, frame).pixels
    assert (array.dtype, array.shape) == (np.uint8, (channels, *size))
    return array


def refused(file: Path) -> str:
    with pytest.raises(BadSample) as caught:
        read(file)
    assert caught.value.place == file.name
    return caught.value.what


def saved(folder: Path, array: Any, name: str = "x.png", mode: str | None = None, **options: Any) -> Path:
    image = Image.fromarray(np.asarray(array))
    (image if mode is None else image.convert(mode)).save(folder / name, **options)
    return folder / name


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


RED = np.full((4, 4, 3), (200, 0, 0), np.uint8)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "CMYK"])
def test_colours_are_the_same_in_every_kind_of_file(tmp_path: Path, mode: str) -> None:
    file = saved(tmp_path, RED, "x.tif", mode)
    assert np.abs(read(file).astype(int) - RED.transpose(2, 0, 1)).max() <= 4  # a palette has 204 for 200
    assert abs(int(read(file, channels=1)[0, 0, 0]) - 60) <= 1  # 0.299 · 200


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_grey_has_its_brightness_in_eight_and_sixteen_bits(tmp_path: Path, kind: type[np.generic]) -> None:
    grey = np.full((4, 4), 100 << (8 if kind is np.uint16 else 0), kind)
    file = saved(tmp_path, grey)
    assert (read(file, channels=1) == 100).all()
    assert (read(file) == 100).all()
    assert header(os.fsencode(file), "x", LIMIT).grey


def test_black_ink_on_a_transparent_ground_is_black_on_white(tmp_path: Path) -> None:
    ink = np.zeros((4, 4, 4), np.uint8)
    ink[0, 0, 3] = 255
    array = read(saved(tmp_path, ink))
    assert (array[:, 0, 0].tolist(), array[:, 3, 3].tolist()) == ([0, 0, 0], [255, 255, 255])


def test_floats_are_named_since_their_range_is_not_known(tmp_path: Path) -> None:
    assert "floats" in refused(saved(tmp_path, np.zeros((4, 4), np.float32), "x.tif"))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_photograph_is_seen_upright(tmp_path: Path, orientation: int) -> None:
    upright = np.zeros((2, 4), np.uint8)
    upright[0] = (10, 80, 160, 240)
    upright[1] = 255
    back = {2: 2, 3: 3, 4: 4, 5: 5, 6: 8, 7: 7, 8: 6}.get(orientation)  # what undoes a turn
    lying = Image.fromarray(upright)
    lying = turned(lying, back or 1)
    exif = Image.Exif()
    exif[0x0112] = orientation
    for name in ("x.png", "x.tif"):  # Pillow turns the second itself
        lying.save(tmp_path / name, exif=exif)
        assert (read(tmp_path / name, 1, (2, 4))[0] == upright).all()
        seen = header(os.fsencode(tmp_path / name), "x", LIMIT)
        assert (seen.height, seen.width) == (2, 4)


def test_of_an_animation_the_first_picture_is_taken(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("white", "black")]
    frames[0].save(tmp_path / "x.gif", save_all=True, append_images=frames[1:])
    assert (read(tmp_path / "x.gif") == 255).all()


def test_fits_differ_as_they_say(tmp_path: Path) -> None:
    wide = np.zeros((4, 12), np.uint8)
    wide[:, 4:8] = 200
    file = saved(tmp_path, wide)
    assert (read(file, 1, fit="crop") == 200).all()
    padded = read(file, 1, (12, 12), fit="pad")[0]
    assert (padded[4:8] == wide).all()
    assert not padded[:4].any()
    assert not padded[8:].any()
    stretched = read(file, 1, (4, 3), fit="stretch")[0, 0]
    assert stretched[1] > 140 > 60 > stretched[0]


@pytest.mark.parametrize(("width", "height"), [(1, 1), (1, 500), (500, 1), (7, 3)])
@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
def test_every_size_and_aspect_fits(tmp_path: Path, width: int, height: int, fit: Fit) -> None:
    assert read(saved(tmp_path, np.full((height, width), 9, np.uint8), "x.jpg"), 1, (6, 5), fit).max() > 5


def test_a_large_jpeg_looks_as_a_png_of_it(tmp_path: Path) -> None:
    ramp = np.tile(np.linspace(0, 255, 900).astype(np.uint8), (600, 1))
    by_jpeg = read(saved(tmp_path, ramp, "x.jpg", quality=95), 1, (16, 16), "crop").astype(int)
    by_png = read(saved(tmp_path, ramp), 1, (16, 16), "crop")
    assert np.abs(by_jpeg - by_png).max() <= 4


def test_what_is_no_picture_is_named(tmp_path: Path) -> None:
    saved(tmp_path, np.random.default_rng(0).integers(0, 255, (60, 60, 3)).astype(np.uint8), "whole.jpg")
    whole = (tmp_path / "whole.jpg").read_bytes()
    for name, content, what in (
        ("empty.png", b"", "is empty: the file has 0 bytes"),
        ("text.png", b"not a picture at all", "is no picture in a format that is known"),
        ("cut.jpg", whole[: len(whole) // 2], "truncated"),
        ("head.jpg", whole[:20], "or is damaged"),
        ("script.jpg", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 4 4\n", "is no picture"),
    ):
        (tmp_path / name).write_bytes(content)
        assert what in refused(tmp_path / name)
    assert "No such file" in refused(tmp_path / "gone.png")


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_picture_of_too_many_pixels_is_never_decoded(tmp_path: Path) -> None:
    # 100 megapixels that are 100 kB on disk; and a header that says so with nothing behind it.
    rows = zlib.compress(b"\0" * (20_000 * 3 + 1) * 50, 9)
    start = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 20_000, 5_000, 8, 2, 0, 0, 0))
    (tmp_path / "bomb.png").write_bytes(start + chunk(b"IDAT", rows) + chunk(b"IEND", b""))
    huge = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 2**30, 2**30, 8, 2, 0, 0, 0))
    (tmp_path / "huge.png").write_bytes(huge + chunk(b"IDAT", rows))
    refused(tmp_path / "bomb.png")  # Pillow is loaded
    tracemalloc.start()
    assert "20000×5000 = 100,000,000 pixels, more than max_pixels = 1,000,000" in refused(tmp_path / "bomb.png")
    assert "pixels" in refused(tmp_path / "huge.png")
    assert tracemalloc.get_traced_memory()[1] < 2_000_000
    tracemalloc.stop()


def test_text_that_unpacks_to_a_thousand_times_its_size_is_not_unpacked(tmp_path: Path) -> None:
    start = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 4, 4, 8, 0, 0, 0, 0))
    text = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(b"\0" * 100_000_000, 9))
    rows = chunk(b"IDAT", zlib.compress(b"\0" * 20))
    (tmp_path / "x.png").write_bytes(start + text + rows + chunk(b"IEND", b""))
    assert "too large" in refused(tmp_path / "x.png").lower()
