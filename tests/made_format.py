"""A format of tests: every kind of data that the studio shows, made on the spot, in no file but pictures."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from engine.data.formats import catalog
from engine.data.samples import BadSample, Loaded, Progress, Samples
from engine.data.sources import Source
from engine.recipe import Recipe, TaskName

WORDS = ("", "<unk>", "the", "cat", "sat", "on", "mat")


class Pictures:
    """PNG files, red ones of class 0 and blue ones of class 1; `slow` seconds to read each."""

    def __init__(self, files: list[Path], slow: float = 0.0) -> None:
        self.files, self.slow = files, slow
        self.targets = torch.tensor([int(file.stem.startswith("blue")) for file in files])
        self.places = [file.name for file in files]
        self.columns = {"folder": np.array([file.parent.name for file in files])}
        self.sample_bytes = 3 * 8 * 8

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        time.sleep(self.slow)
        try:
            with Image.open(self.files[index]) as image:
                array = np.asarray(image.convert("RGB"))
        except OSError as error:
            raise BadSample(self.places[index], "is no picture") from error
        return torch.from_numpy(array.copy()).permute(2, 0, 1), self.targets[index]


class Boxed(Pictures):
    """The same, with a box in each."""

    def annotated(self, index: int) -> tuple[Tensor, Tensor, Tensor]:
        return self[index][0], torch.tensor([[1.0, 1.0, 6.0, 6.0]]), self.targets[index : index + 1]


class Masked(Pictures):
    """The same, with the class of each pixel: the right half is of class 1."""

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        mask = torch.zeros(8, 8, dtype=torch.long)
        mask[:, 4:] = 1
        return super().__getitem__(index)[0], mask


def pictures(folder: Path, count: int = 12) -> Path:
    """`count` PNG files of 8 × 8 pixels in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        colour, name = ((250, 10, 10), "red") if number % 2 == 0 else ((10, 10, 250), "blue")
        Image.new("RGB", (8, 8), colour).save(folder / f"{name}-{number:04}.png")
    return folder


def open_made(
    path: Path, task: TaskName, progress: Progress, *, kind: str = "pictures", slow: float = 0.0, steps: int = 3
) -> Loaded:
    """Samples of some kind.

    Args:
        kind (str): pictures, boxes, masks, table, text or sound.
        slow (float): seconds that every sample, or step of the opening, takes.
        steps (int): how often progress is told.
    """
    for step in range(steps):
        progress("made", step, steps)
        time.sleep(slow)
    about: dict[str, Any] = {"name": path.name, "about": "Made.", "task": task, "origin": "yours", "path": str(path)}
    files = sorted(path.glob("*.png"))
    if kind in ("pictures", "boxes", "masks"):
        made = {"pictures": Pictures, "boxes": Boxed, "masks": Masked}[kind](files, slow)
        source = Source(shape=(3, 8, 8), outputs=2, sizes={"all": len(files)}, classes=("red", "blue"), **about)
        return Loaded(source, {"all": made}, [BadSample("torn.png", "is cut off")])
    generator = torch.Generator().manual_seed(0)
    targets = torch.arange(24) % 2
    places = [f"line {number + 1}" for number in range(24)]
    if kind == "table":
        inputs = torch.randn(24, 3, generator=generator) * torch.tensor([1.0, 100.0, 0.01]) + targets[:, None] * 5
        raw = [{"age": f"{a:.1f}", "pay": f"{b:.0f}", "rate": f"{c:.3f}"} for a, b, c in inputs.tolist()]
        columns = ("age", "pay", "rate")
        source = Source(shape=(3,), outputs=2, sizes={"all": 24}, classes=("no", "yes"), columns=columns, **about)
        made_of = {"city": np.array(["Oslo", "Rome"] * 12)}
        return Loaded(source, {"all": Samples(inputs, targets, places, made_of, raw)})
    if kind == "text":
        tokens = torch.tensor([[2, 3, 4, 5, 2, 6], [2, 3, 4, 0, 0, 0]]).repeat(12, 1)
        raw_text = ["the cat sat on the mat", "the cat sat"] * 12
        source = Source(
            shape=(6,), outputs=2, sizes={"all": 24}, classes=("long", "short"), vocabulary=7, tokens=WORDS, **about
        )
        return Loaded(source, {"all": Samples(tokens, targets, places, raw=raw_text)})
    assert kind == "sound"
    moments = torch.arange(800) / 8000
    tones = torch.stack([torch.sin(2 * torch.pi * (400 if t else 2000) * moments) for t in targets.tolist()])
    source = Source(shape=(1, 800), outputs=2, sizes={"all": 24}, classes=("high", "low"), rate=8000, **about)
    return Loaded(source, {"all": Samples(tones[:, None], targets, places)})


def recipe_of(path: Path, kind: str = "pictures", task: str = "classification", **more: Any) -> Recipe:
    """A recipe on data of that kind; `more` are keys of [data]."""
    options = {"kind": kind, **more.pop("options", {})}
    more.setdefault("on_bad_sample", "skip")  # there is a bad one among the pictures
    path.mkdir(parents=True, exist_ok=True)
    layers: list[dict[str, Any]] = [{"name": "Flatten"}, {"name": "Linear", "out_features": "classes"}]
    if kind == "text":
        layers = [
            {"name": "Embedding", "embedding_dim": 4},
            {"name": "Flatten"},
            {"name": "Linear", "out_features": "classes"},
        ]
    return Recipe.from_values(
        {
            "task": task,
            "data": {"path": str(path), "format": "made", "options": options, **more},
            "model": {"layers": layers},
        }
    )


@contextmanager
def made_format() -> Iterator[None]:
    """The format of tests as the only one."""
    with patch.dict(catalog._WHERE, {"made": "made_format"}, clear=True):
        yield
