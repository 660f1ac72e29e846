"""How long a folder of 200,000 tiny pictures takes to be listed: read anew, from the cache, and by torchvision.

    python benchmarks/scan.py [--pictures 200000] [--classes 100] [--rounds 3]

Then how long a photograph takes to be decoded to 224 pixels, in CPU time. Rounds are interleaved and medians printed.
The files' names are in the system's memory after they were made: a disk that has to be asked for them is slower for
everybody alike.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path


def make(folder: Path, pictures: int, classes: int) -> None:
    """`pictures` PNGs of one pixel, in folders for `classes`, as old as if they had lain there for a while."""
    from PIL import Image

    Image.new("L", (1, 1)).save(folder / "one.png")
    picture = (folder / "one.png").read_bytes()
    (folder / "one.png").unlink()
    for number in range(classes):
        (folder / f"class{number:03}").mkdir()
    for number in range(pictures):
        (folder / f"class{number % classes:03}" / f"{number:06}.png").write_bytes(picture)
    long_ago = time.time() - 3600
    for each in (*folder.iterdir(), folder):
        os.utime(each, (long_ago, long_ago))


def photographs(folder: Path, count: int, width: int, height: int) -> None:
    """JPEGs in two class folders, blurred noise."""
    import numpy as np
    from PIL import Image

    noise = np.random.default_rng(0).integers(0, 255, (height // 16, width // 16, 3)).astype(np.uint8)
    picture = Image.fromarray(noise).resize((width, height))
    for number in range(count):
        (folder / f"{number % 2}").mkdir(parents=True, exist_ok=True)
        picture.save(folder / f"{number % 2}" / f"{number}.jpg", quality=90)


def decode(folder: Path, rounds: int) -> None:
    """Print milliseconds a photograph, ours beside torchvision's."""
    from torchvision.datasets import ImageFolder
    from torchvision.transforms import v2

    from engine.data.formats.images import open_images

    shown = v2.Compose([v2.Resize(224), v2.CenterCrop(224), v2.PILToTensor()])
    for width, height, count in ((500, 375, 60), (4000, 3000, 4)):
        where = folder / str(width)
        photographs(where, count, width, height)
        ours = open_images(where, "classification", lambda what, done, total: None, size=224).parts["all"]
        took: dict[str, list[float]] = {"open_images": [], "ImageFolder, Resize and CenterCrop": []}
        for _ in range(rounds):
            for times, samples in zip(took.values(), (ours, ImageFolder(str(where), shown)), strict=True):
                began = time.thread_time()
                for number in range(count):
                    samples[number]  # type: ignore[index]
                times.append((time.thread_time() - began) / count * 1000)
        for name, times in took.items():
            print(f"{width}×{height}, {name:34} {statistics.median(times):6.1f} ms")


def seconds(act: Callable[[], object]) -> float:
    began = time.perf_counter()
    act()
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=200_000)
    parser.add_argument("--classes", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder, cache = Path(place) / "pictures", Path(place) / "cache"
        folder.mkdir()
        os.environ["TORCH_TUI_CACHE"] = str(cache)
        took = seconds(lambda: make(folder, chosen.pictures, chosen.classes))
        print(f"{chosen.pictures:,} pictures in {chosen.classes} folders made in {took:.0f} s")
        from torchvision.datasets import ImageFolder

        from engine.data.formats.images import open_images
        from engine.data.pictures.scanning import scan

        told: list[int] = []

        def open_them() -> None:
            loaded = open_images(folder, "classification", lambda what, done, total: told.append(done))
            assert loaded.source.sizes == {"all": chosen.pictures}

        def anew(act: Callable[[], object]) -> float:
            shutil.rmtree(cache, ignore_errors=True)
            return seconds(act)

        def scanned() -> object:
            return scan(folder, lambda what, done, total: None)

        timed: dict[str, list[float]] = {}
        for _ in range(chosen.rounds):
            for name, took in (
                ("torchvision.datasets.ImageFolder", seconds(lambda: ImageFolder(str(folder)))),
                ("scan, nothing known", anew(scanned)),
                ("scan, nothing changed", seconds(scanned)),
                ("open_images, nothing known", anew(open_them)),
                ("open_images, nothing changed", seconds(open_them)),
            ):
                timed.setdefault(name, []).append(took)
        for name, each in timed.items():
            print(f"{name:34} {statistics.median(each):6.2f} s")
        print(f"progress was told {len(told) // chosen.rounds // 2} times each")
        decode(Path(place) / "photographs", chosen.rounds)


if __name__ == "__main__":
    main()
