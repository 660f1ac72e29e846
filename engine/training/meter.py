"""Losses and metrics of training steps, kept on the device until somebody wants to see them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from engine.tasks.base import Outcome, Task

_HELD_BYTES = 16 << 20
_HELD_STEPS = 4096


@dataclass(frozen=True)
class StepValues:
    """Values of consecutive steps: `first` is the number of the first, each array has one value a step."""

    first: int
    values: Mapping[str, np.ndarray]


class Meter:
    """Collects each step's outcome as device tensors, and reads them back in one transfer per `read`.

    Sums of the epoch are added step by step in double precision, so they don't depend on when they were read.
    """

    def __init__(self, task: Task) -> None:
        self._task = task
        self._names = [metric.name for metric in task.metrics if metric.per_step]
        self._losses: list[list[tuple[Tensor, float]]] = []
        self._outputs: list[Tensor] = []
        self._targets: list[Tensor] = []
        self._counts: list[int] = []
        self._bytes = 0
        self.loss_sum = 0.0
        self.sums: list[float] = []
        self.samples = 0

    def begin_step(self) -> None:
        """What is added from here on belongs to one optimizer step."""
        self._losses.append([])
        self._counts.append(0)

    def add(self, outcome: Outcome, weight: float = 1.0) -> None:
        """One micro-batch, whose loss has `weight` in its step's loss."""
        outputs = outcome.outputs.detach()
        self._losses[-1].append((outcome.loss.detach(), weight))
        self._outputs.append(outputs)
        self._targets.append(outcome.targets)
        self._counts[-1] += len(outputs)
        self._bytes += outputs.nbytes

    @property
    def full(self) -> bool:
        """Whether what is held on the device should be read now, whatever the clock says."""
        return self._bytes > _HELD_BYTES or len(self._losses) >= _HELD_STEPS

    def read(self, last_step: int) -> StepValues | None:
        """The values of the steps since the last read, the newest being `last_step`. The one place that syncs."""
        if not self._losses:
            return None
        count, counts = len(self._losses), np.array(self._counts)
        flat = torch.stack([loss for step in self._losses for loss, _ in step])
        contributions = self._task.contributions(torch.cat(self._outputs), torch.cat(self._targets))
        # The loop syncs here and in no other place, ten times a second (Trainer._read); MPS has no doubles.
        micro = flat.double().cpu().numpy() if flat.device.type != "mps" else flat.cpu().double().numpy()
        weights = np.array([weight for step in self._losses for _, weight in step])
        starts = np.cumsum([0, *(len(step) for step in self._losses[:-1])])
        losses = np.add.reduceat(micro * weights, starts)
        shares = contributions.cpu().double().numpy()
        sums = np.add.reduceat(shares, np.cumsum([0, *counts[:-1]]), axis=0)  # (steps, k)
        self._losses, self._outputs, self._targets, self._counts, self._bytes = [], [], [], [], 0
        values: dict[str, np.ndarray] = {"loss": losses, **{name: np.empty(count) for name in self._names}}
        for index in range(count):
            samples = int(counts[index])
            self._add_to_epoch(float(losses[index]), sums[index].tolist(), samples)
            summary = self._task.summarize(sums[index].tolist(), samples)
            for name in self._names:
                values[name][index] = summary[name]
        return StepValues(last_step - count + 1, values)

    def epoch_summary(self) -> dict[str, float]:
        """Loss and metrics over the epoch's samples so far. Call `read` before."""
        if not self.samples:
            return {"loss": math.nan}
        return {"loss": self.loss_sum / self.samples, **self._task.summarize(self.sums, self.samples)}

    def begin_epoch(self) -> None:
        """Forget the sums of the last epoch."""
        self.loss_sum, self.sums, self.samples = 0.0, [], 0

    def _add_to_epoch(self, loss: float, sums: list[float], samples: int) -> None:
        self.loss_sum += loss * samples
        self.sums = [a + b for a, b in zip(self.sums or [0.0] * len(sums), sums, strict=True)]
        self.samples += samples
