"""Datasets in torchvision's real file formats and sizes, made of the bundled digits, so that nothing is downloaded."""

from __future__ import annotations

import pickle
import struct
from pathlib import Path

import numpy as np

from engine.paths import bundled


def digits(count: int) -> tuple[np.ndarray, np.ndarray]:
    """(count, 28, 28) bytes and (count,) labels: the bundled digits, over again with a little noise."""
    with np.load(bundled("mnist5k.npz")) as file:
        images, labels = file["images"].reshape(-1, 28, 28), file["labels"]
    draw = np.random.default_rng(0)
    index = draw.permutation(np.arange(count) % len(images))
    noise = draw.integers(0, 24, (count, 28, 28))
    return np.clip(images[index].astype(np.int64) + noise, 0, 255).astype(np.uint8), labels[index].astype(np.uint8)


def write_mnist(root: Path, train: int = 60_000, test: int = 10_000) -> None:
    """What torchvision.datasets.MNIST reads."""
    folder = root / "MNIST" / "raw"
    folder.mkdir(parents=True, exist_ok=True)
    images, labels = digits(train + test)
    for part, of in (("train", slice(0, train)), ("t10k", slice(train, None))):
        pictures, classes = images[of], labels[of]
        head = struct.pack(">IIII", 0x803, len(pictures), 28, 28)
        (folder / f"{part}-images-idx3-ubyte").write_bytes(head + pictures.tobytes())
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(struct.pack(">II", 0x801, len(classes)) + classes.tobytes())


def write_cifar(root: Path, batch: int = 2_000) -> None:
    """What torchvision.datasets.CIFAR10 reads, with a fifth of the pictures: the digits, enlarged and coloured."""
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True, exist_ok=True)
    images, labels = digits(6 * batch)
    padded = np.pad(images, ((0, 0), (2, 2), (2, 2)))
    colour = np.stack([padded, np.roll(padded, 1, 2), 255 - padded], 1).reshape(len(images), -1)
    for number, name in enumerate([*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]):
        of = slice(number * batch, (number + 1) * batch)
        (folder / name).write_bytes(pickle.dumps({"data": colour[of], "labels": labels[of].tolist()}))
    names = {"label_names": [str(number) for number in range(10)]}
    (folder / "batches.meta").write_bytes(pickle.dumps(names))
