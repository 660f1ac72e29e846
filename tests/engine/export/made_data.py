"""Small datasets in the formats of torchvision's, so that nothing is downloaded."""

from __future__ import annotations

import hashlib
import io
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision import models

from engine.models.zoo.catalogue import _pictures_to_numbers

TRAIN, TEST = 400, 60


def make(root: Path) -> str:
    """MNIST, FashionMNIST and CIFAR10 below `root`; code that lets torchvision take the last for the real one."""
    for number, name in enumerate(("MNIST", "FashionMNIST")):
        _idx_files(root / name / "raw", np.random.default_rng(number))
    return _cifar(root, np.random.default_rng(9))


def make_weights(root: Path, name: str, patch: pytest.MonkeyPatch) -> str:
    """Weights of torchvision's model `name` below `root`, taken for its published ones, by the returned code too."""
    content = io.BytesIO()
    with torch.random.fork_rng():
        torch.manual_seed(7)
        torch.save(models.get_model(name).state_dict(), content)
    url = f"https://nowhere/made-{hashlib.sha256(content.getvalue()).hexdigest()[:8]}.pth"
    folder = root / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    (folder / url.rpartition("/")[2]).write_bytes(content.getvalue())
    patch.setenv("TORCH_HOME", str(root))
    patch.setattr(models.get_model_weights(name).DEFAULT.value, "url", url)
    _pictures_to_numbers.cache_clear()
    return f"from torchvision import models\nmodels.get_model_weights({name!r}).DEFAULT.value.url = {url!r}"


def _idx_files(folder: Path, draw: np.random.Generator) -> None:
    folder.mkdir(parents=True)
    for part, count in (("train", TRAIN), ("t10k", TEST)):
        images = draw.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        labels = draw.integers(0, 10, count, dtype=np.uint8)
        for kind, array in (("images-idx3", images), ("labels-idx1", labels)):
            header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
            (folder / f"{part}-{kind}-ubyte").write_bytes(header + array.tobytes())


def _cifar(root: Path, draw: np.random.Generator) -> str:
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    members = {
        "data_batch_1": _pictures(draw, TRAIN),
        "test_batch": _pictures(draw, TEST),
        "batches.meta": {"label_names": [f"thing {number}" for number in range(10)]},
    }
    hashes = {}
    for name, value in members.items():
        content = pickle.dumps(value)
        (folder / name).write_bytes(content)
        hashes[name] = hashlib.md5(content, usedforsecurity=False).hexdigest()
    attributes = {
        "train_list": [["data_batch_1", hashes["data_batch_1"]]],
        "test_list": [["test_batch", hashes["test_batch"]]],
        "meta": {"filename": "batches.meta", "key": "label_names", "md5": hashes["batches.meta"]},
    }
    lines = [f"torchvision.datasets.CIFAR10.{name} = {value!r}" for name, value in attributes.items()]
    return "\n".join(["import torchvision", *lines])


def _pictures(draw: np.random.Generator, count: int) -> dict[str, object]:
    return {
        "data": draw.integers(0, 256, (count, 3072), dtype=np.uint8),
        "labels": draw.integers(0, 10, count).tolist(),
    }
