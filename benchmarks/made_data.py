"""Datasets in torchvision's real file formats and sizes, made of the bundled digits, so that nothing is downloaded.

The test files are made of every fifth of the digits, the training files of the others: no test digit is ever
trained on.
"""

from __future__ import annotations

import pickle
import struct
from pathlib import Path

import numpy as np

from engine.paths import bundled


def digits(count: int, *, test: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """(count, 28, 28) bytes and (count,) labels: the bundled digits, over again with a little noise."""
    with np.load(bundled("mnist5k.npz")) as file:
        images, labels = file["images"].reshape(-1, 28, 28), file["labels"]
    # The digits are sorted by class: every fifth takes its share of each.
    part = (np.arange(len(images)) % 5 == 4) == test
    images, labels = images[part], labels[part]
    draw = np.random.default_rng(int(test))
    index = draw.permutation(np.arange(count) % len(images))
    noise = draw.integers(0, 24, (count, 28, 28))
    return np.clip(images[index].astype(np.int64) + noise, 0, 255).astype(np.uint8), labels[index].astype(np.uint8)


def write_mnist(root: Path, train: int = 60_000, test: int = 10_000) -> None:
    """What torchvision.datasets.MNIST reads."""
    folder = root / "MNIST" / "raw"
    folder.mkdir(parents=True, exist_ok=True)
    for part, (pictures, classes) in (("train", digits(train)), ("t10k", digits(test, test=True))):
        head = struct.pack(">IIII", 0x803, len(pictures), 28, 28)
        (folder / f"{part}-images-idx3-ubyte").write_bytes(head + pictures.tobytes())
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(struct.pack(">II", 0x801, len(classes)) + classes.tobytes())


def write_cifar(root: Path, batch: int = 2_000) -> None:
    """What torchvision.datasets.CIFAR10 reads, with a fifth of the pictures: the digits, enlarged and coloured."""
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True, exist_ok=True)
    images, labels = digits(5 * batch)
    for number in range(5):
        of = slice(number * batch, (number + 1) * batch)
        _write_cifar_batch(folder / f"data_batch_{number + 1}", images[of], labels[of])
    _write_cifar_batch(folder / "test_batch", *digits(batch, test=True))
    names = {"label_names": [str(number) for number in range(10)]}
    (folder / "batches.meta").write_bytes(pickle.dumps(names))


def _write_cifar_batch(path: Path, images: np.ndarray, labels: np.ndarray) -> None:
    padded = np.pad(images, ((0, 0), (2, 2), (2, 2)))
    colour = np.stack([padded, np.roll(padded, 1, 2), 255 - padded], 1).reshape(len(images), -1)
    path.write_bytes(pickle.dumps({"data": colour, "labels": labels.tolist()}))
