"""Classes and functions that exported files hold, as they stand here. They know nothing of torch-tui."""

# B batch · C channels or width · H height · W width of the source · h, w of the result · T time · D directions

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.transforms import v2


class Residual(nn.Module):
    """Adds its input to what its layers make of it (He et al., Deep Residual Learning, 2015)."""

    def __init__(self, *layers: nn.Module, shortcut: nn.Module | None = None) -> None:
        super().__init__()
        self.body = nn.Sequential(*layers)
        self.shortcut = shortcut or nn.Identity()

    def forward(self, inputs: Tensor) -> Tensor:
        return self.body(inputs) + self.shortcut(inputs)  # type: ignore[no-any-return]


class Parallel(nn.Module):
    """Gives its input to each branch and joins what they make of it (Szegedy et al., Going Deeper, 2014)."""

    def __init__(self, *branches: nn.Module, join: str = "concat", dim: int = -1) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)
        self.join, self.dim = join, dim

    def forward(self, inputs: Tensor) -> Tensor:
        outputs = [branch(inputs) for branch in self.branches]
        return torch.cat(outputs, self.dim) if self.join == "concat" else sum(outputs[1:], outputs[0])


class RNN(nn.RNN):
    """Gives the `sequence` of its outputs (B, T, D·C), or the `last` one or their `mean` (B, D·C)."""

    def __init__(self, *args: Any, returns: str = "sequence", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.returns = returns

    def forward(self, inputs: Tensor) -> Tensor:  # type: ignore[override]
        sequence, hidden = super().forward(inputs)  # (B, T, D·C), (layers·D, B, C)
        if self.returns == "last":
            return hidden[-2 if self.bidirectional else -1 :].transpose(0, 1).flatten(1)
        return sequence.mean(1) if self.returns == "mean" else sequence


class GRU(nn.GRU):
    """Gives the `sequence` of its outputs (B, T, D·C), or the `last` one or their `mean` (B, D·C)."""

    def __init__(self, *args: Any, returns: str = "sequence", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.returns = returns

    def forward(self, inputs: Tensor) -> Tensor:  # type: ignore[override]
        sequence, hidden = super().forward(inputs)  # (B, T, D·C), (layers·D, B, C)
        if self.returns == "last":
            return hidden[-2 if self.bidirectional else -1 :].transpose(0, 1).flatten(1)
        return sequence.mean(1) if self.returns == "mean" else sequence


class LSTM(nn.LSTM):
    """Gives the `sequence` of its outputs (B, T, D·C), or the `last` one or their `mean` (B, D·C)."""

    def __init__(self, *args: Any, returns: str = "sequence", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.returns = returns

    def forward(self, inputs: Tensor) -> Tensor:  # type: ignore[override]
        sequence, (hidden, _) = super().forward(inputs)  # (B, T, D·C), (layers·D, B, C)
        if self.returns == "last":
            return hidden[-2 if self.bidirectional else -1 :].transpose(0, 1).flatten(1)
        return sequence.mean(1) if self.returns == "mean" else sequence


class LSTMCell(nn.LSTMCell):
    """One step, (B, C) → (B, C): its output without the state of the cell."""

    def forward(self, inputs: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(inputs)[0]


class MultiheadAttention(nn.MultiheadAttention):
    """Self-attention: (B, T, C) → (B, T, C)."""

    def forward(self, inputs: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(inputs, inputs, inputs, need_weights=False)[0]


class SequencePool(nn.Module):
    """One vector for a whole sequence, (B, T, C) → (B, C): the mean or maximum of its steps, the first or the last."""

    def __init__(self, keep: str = "mean") -> None:
        super().__init__()
        self.keep = keep

    def forward(self, inputs: Tensor) -> Tensor:
        if self.keep == "mean":
            return inputs.mean(1)
        if self.keep == "max":
            return inputs.amax(1)
        return inputs[:, 0 if self.keep == "first" else -1]


def derive(*numbers: int) -> int:
    """A seed that depends on nothing but these numbers."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))


def flip(images: Tensor, p: float, dim: int, seed: int) -> Tensor:
    """Each image (C, H, W) mirrored along `dim` with probability `p`."""
    chosen = torch.rand(len(images), generator=torch.Generator().manual_seed(seed)) < p
    return torch.where(chosen.view(-1, 1, 1, 1), images.flip(dim), images)


def crop(images: Tensor, size: tuple[int, int], seed: int) -> Tensor:
    """A window of `size` (h, w) of each image (C, H, W), at a random place of its own."""
    generator = torch.Generator().manual_seed(seed)
    count, channels, height, width = images.shape
    top = torch.randint(height - size[0] + 1, (count, 1), generator=generator)
    left = torch.randint(width - size[1] + 1, (count, 1), generator=generator)
    rows, columns = top + torch.arange(size[0]), left + torch.arange(size[1])  # (B, h), (B, w)
    sample, channel = torch.arange(count).view(-1, 1, 1, 1), torch.arange(channels).view(1, -1, 1, 1)
    return images[sample, channel, rows[:, None, :, None], columns[:, None, None, :]]  # (B, C, h, w)


def one_by_one(images: Tensor, transform: Callable[[Tensor], Tensor], seed: int) -> Tensor:
    """Each image (C, H, W) changed by draws of its own; the random numbers of dropout are not disturbed."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return torch.stack([transform(image) for image in images])


class Standardize:
    """Brings every column to mean 0 and standard deviation 1, as measured on the training samples alone."""

    def fit(self, inputs: Tensor) -> None:
        self.mean, std = inputs.mean(0), inputs.std(0, correction=0)
        self.std = torch.where(std > 0, std, 1.0)  # a constant column keeps its scale

    def __call__(self, inputs: Tensor) -> Tensor:
        return (inputs - self.mean) / self.std


def balanced(targets: Tensor, classes: int, ignored: int | None = None) -> Tensor:
    """n / (classes · n of the class) for each class; one without samples weighs 1."""
    targets = targets[(targets >= 0) & (targets < classes)]
    counts = torch.bincount(targets, minlength=classes)
    if ignored is not None and 0 <= ignored < classes:
        counts[ignored] = 0
    return torch.where(counts > 0, counts.sum() / ((counts > 0).sum() * counts), 1.0)


def imported(path: str, name: str) -> Any:
    """What is called `name` in your own file."""
    return getattr(own_file(path), name)


@cache
def own_file(path: str) -> Any:
    """Your own file, run once; it imports what lies beside it."""
    sys.path.insert(0, str(Path(path).parent))
    spec = importlib.util.spec_from_file_location("your_own_file", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def read(dataset: Any, index: Tensor) -> tuple[Tensor, Tensor]:
    """Samples of a dataset that is read one by one: inputs (B, …) and targets (B, …)."""
    pairs = [dataset[position] for position in index.tolist()]
    inputs = torch.stack([value if isinstance(value, Tensor) else as_tensor(value) for value, _ in pairs])
    targets = torch.stack([torch.as_tensor(np.asarray(target)) for _, target in pairs])
    return inputs.float() if inputs.is_floating_point() else inputs, targets


def as_tensor(value: Any) -> Tensor:
    """A picture of Pillow's as bytes (C, H, W), the rest as it is."""
    if hasattr(value, "getbands"):
        return v2.functional.pil_to_tensor(value)  # type: ignore[no-any-return]
    return torch.as_tensor(np.asarray(value))


def told(values: dict[str, float]) -> str:
    """`loss 0.1 · accuracy 0.97`."""
    return " · ".join(f"{name} {value:.4g}" for name, value in values.items())


def pick_device(name: str) -> torch.device:
    """The device of that name; `auto` is the fastest that is here."""
    if name != "auto":
        return torch.device(name)
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
