"""What a task is: it says what a step computes and what is measured; the Trainer knows the rest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor, nn

from engine.data.serving.batches import Batch


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a forward pass gave. `loss` is a scalar on the device, the mean over the batch.

    `outputs` and `targets` are what `contributions` is given, a row a sample. They are held for many steps: a task
    whose outputs are as large as pictures gives what it counted in them.
    """

    loss: Tensor
    outputs: Tensor
    targets: Tensor


@dataclass(frozen=True)
class Metric:
    """Something measured beside the loss. `per_step` metrics mean something on a single batch."""

    name: str
    goal: Literal["max", "min"]
    per_step: bool = True

    def score(self, value: float) -> float:
        """`value` so that greater is better."""
        return value if self.goal == "max" else -value


class Task(Protocol):
    """One kind of training.

    Measuring goes in two parts, so that nothing leaves the device early: `contributions` gives each sample's share
    on the device, (B, k) floats that may be added up over any set of samples; `summarize` makes metrics of their sums.
    """

    metrics: Sequence[Metric]

    def step(self, model: nn.Module, batch: Batch) -> Outcome:
        """Forward pass and loss."""

    def weight(self, targets: Tensor) -> float | Tensor:
        """By how much the mean loss over these samples counts against that over others.

        Their number as a plain int where every sample counts the same, else a scalar on the device, never 0: no call
        syncs. Σ weight · loss / Σ weight over the parts of a set is the loss of the set.
        """

    def contributions(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """(B, k): what each sample adds to the sums behind the metrics."""

    def summarize(self, sums: Sequence[float], samples: int) -> Mapping[str, float]:
        """Metrics from the k sums over `samples` samples."""


def in_full(loss: nn.Module, outputs: Tensor, targets: Tensor) -> Tensor:
    """The loss in single precision inside autocast too, which forbids BCELoss and leaves some losses in half."""
    device = outputs.device.type
    if not torch.is_autocast_enabled(device):
        return loss(outputs, targets)  # type: ignore[no-any-return]
    with torch.autocast(device, enabled=False):
        return loss(outputs.float(), targets)  # type: ignore[no-any-return]
