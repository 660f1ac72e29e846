"""The works that are timed: each a model in plain torch, its data, and the same as a recipe."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torchvision
from torch import Tensor, nn

DEVICES, PRECISIONS = ("cpu", "cuda"), ("fp32", "bf16")


class Recurrent(nn.Module):
    """Two layers of GRU over the 28 rows of a digit; the last step decides."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(28, 128, 2, batch_first=True)
        self.head = nn.Linear(128, 10)

    def forward(self, pictures: Tensor) -> Tensor:
        """(B, 1, 28, 28) → (B, 10)."""
        return self.head(self.gru(pictures.squeeze(1))[0][:, -1])  # type: ignore[no-any-return]


def perceptron() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 10))


def convolutional() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 20, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(20, 50, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(800, 500), nn.ReLU(), nn.Linear(500, 10),
    )  # fmt: skip


def residual() -> nn.Module:
    return torchvision.models.resnet18(num_classes=10)  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Work:
    """`steps` are those of a timed run: a whole epoch where it is short, fewer where that would take minutes."""

    name: str
    data: str
    make: Callable[[], nn.Module]
    batch: int
    steps: int
    augment: bool = False

    def recipe(
        self,
        epochs: int = 1,
        steps: int | None = None,
        seed: int = 0,
        device: str = "cpu",
        precision: str = "fp32",
        *,
        channels_last: bool = False,
    ) -> dict[str, Any]:
        """The same work for torch-tui, whose model is this very one; `steps` of each epoch."""
        mean, std = self.normal
        augment = [{"name": "RandomCrop", "size": 32, "padding": 4}, {"name": "RandomHorizontalFlip"}]
        return {
            "title": self.name,
            "data": {
                "name": self.data,
                "batch_size": self.batch,
                "split": {"train": 1.0, "val": 0.0, "test": 0.0},
                "transforms": [{"name": "Normalize", "mean": mean, "std": std}],
                "augment": augment if self.augment else [],
            },
            "model": {"python": f"{__file__}:{self.make.__name__}"},
            "optimizer": {"name": "SGD", "lr": 0.01, "momentum": 0.9},
            "training": {
                "epochs": epochs,
                "seed": seed,
                "device": device,
                "precision": precision,
                # A model from a file is one's own to torch-tui, which then has to be told what the loop by hand does.
                "channels_last": channels_last,
                "limit_batches": steps or self.steps,
            },
        }

    @property
    def normal(self) -> tuple[list[float], list[float]]:
        """Mean and deviation of each channel."""
        return ([0.13], [0.31]) if self.data == "MNIST" else ([0.49, 0.48, 0.45], [0.25, 0.24, 0.26])

    def optimizer(self, model: nn.Module, *, fused: bool | None = None) -> torch.optim.Optimizer:
        return torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, fused=fused)


WORKS = {
    "W1": Work("W1 perceptron", "MNIST", perceptron, 64, 937),
    "W2": Work("W2 convolutions", "MNIST", convolutional, 64, 200),
    "W3": Work("W3 resnet18, crop and flip", "CIFAR10", residual, 128, 60, augment=True),
    "W4": Work("W4 two-layer GRU", "MNIST", Recurrent, 64, 200),
}
