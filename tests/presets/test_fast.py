"""The preset after airbench, on made pictures in CIFAR-10's own files: the real ones are a download."""

from __future__ import annotations

import hashlib
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from small_runs import train

import presets
from engine.job import Job
from engine.recipe import Recipe

SMALLER = {
    "training.device": "cpu",
    "training.epochs": 1,
    "training.limit_batches": 16,  # a step of the real 512 takes a core many seconds
    "data.batch_size": 32,
    "optimizer.lr": 0.05,
}


def pictures(seed: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """(count, 3072) bytes as the files have them, and (count,) labels: noisy stripes, as dense as the label says."""
    draw = np.random.default_rng(seed)
    labels = draw.integers(0, 10, count)
    phase = draw.uniform(0, 2 * np.pi, (count, 1))
    stripes = np.sin(np.arange(32) * (labels[:, None] + 1) * 0.3 + phase)  # (count, 32): along a row
    values = 128 + 60 * stripes[:, None, None, :] + draw.normal(0, 20, (count, 3, 32, 32))
    return np.clip(values, 0, 255).astype(np.uint8).reshape(count, -1), labels


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """CIFAR10 where the engine looks for it, with the hashes that torchvision compares."""
    folder = tmp_path / "data" / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    monkeypatch.setenv("TORCH_TUI_DATA", str(tmp_path / "data"))

    def written(name: str, value: dict[str, object]) -> list[str]:
        content = pickle.dumps(value)
        (folder / name).write_bytes(content)
        return [name, hashlib.md5(content).hexdigest()]

    parts = {"data_batch_1": pictures(0, 900), "test_batch": pictures(1, 300)}
    train_list, test_list = (
        [written(name, {"data": data, "labels": labels.tolist()})] for name, (data, labels) in parts.items()
    )
    _, md5 = written("batches.meta", {"label_names": [str(number) for number in range(10)]})
    monkeypatch.setattr(torchvision.datasets.CIFAR10, "train_list", train_list)
    monkeypatch.setattr(torchvision.datasets.CIFAR10, "test_list", test_list)
    meta = {"filename": "batches.meta", "key": "label_names", "md5": md5}
    monkeypatch.setattr(torchvision.datasets.CIFAR10, "meta", meta)


def recipe(**changes: object) -> Recipe:
    return presets.load("cifar10-fast").recipe.override({**SMALLER, **changes})


def accuracy(job: Job) -> float:
    assert job.history.error is None
    assert job.history.summary is not None
    return job.history.summary.test["accuracy"]


@pytest.mark.usefixtures("made")
def test_it_learns(root: Path) -> None:
    assert accuracy(train(recipe(), root)) > 0.5


@pytest.mark.usefixtures("made")
def test_what_does_not_learn_is_seen(root: Path) -> None:
    assert accuracy(train(recipe(**{"optimizer.lr": 1e-30, "training.limit_batches": 2}), root)) < 0.3


def test_every_batch_is_of_one_size_and_the_layout_is_left_to_the_device() -> None:
    preset = presets.load("cifar10-fast").recipe
    assert preset.data.drop_last
    assert preset.training.channels_last == "auto"
    assert preset.training.precision == "fp32", "it is to train on any machine"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
@pytest.mark.usefixtures("made")
def test_on_a_gpu_it_learns_in_bf16_channels_last(root: Path) -> None:
    job = train(recipe(**{"training.device": "cuda", "training.precision": "bf16", "training.epochs": 3}), root)
    assert accuracy(job) > 0.5
    assert any("pictures lie channels last in memory" in said for said in job.history.log)
