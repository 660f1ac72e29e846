"""Losses and metrics of training steps, kept on the device until somebody wants to see them."""

# S steps · N samples of all steps · k sums behind the metrics

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from engine.tasks.base import Outcome, Task

_HELD_BYTES = 16 << 20
_HELD_STEPS = 4096


@dataclass(frozen=True)
class StepValues:
    """Values of steps: `steps` (S,) are their numbers, rising; each array of `values` has one value a step."""

    steps: np.ndarray
    values: Mapping[str, np.ndarray]


@dataclass(frozen=True)
class _Step:
    """One step as it is held: `loss` 0-dim on the device, which counts by `weight`."""

    number: int
    loss: Tensor
    weight: float | Tensor
    samples: int


class Meter:
    """Collects each step's outcome as device tensors, and reads them back in one transfer per `read`.

    A step is `begin_step`, `add` for each micro-batch, and `end_step` or `discard_step`. Sums of the epoch are added
    step by step in double precision, so they don't depend on when they were read.
    """

    def __init__(self, task: Task) -> None:
        self._task = task
        self._names = [metric.name for metric in task.metrics if metric.per_step]
        self._begun: list[tuple[Tensor, Tensor]] = []  # outputs and targets of the micro-batches
        self._steps: list[_Step] = []
        self._outputs: list[Tensor] = []
        self._targets: list[Tensor] = []
        self._bytes = 0
        self._loss_sum = self._weight_sum = 0.0
        self._samples = 0
        self._sums: list[float] = []

    def begin_step(self) -> None:
        """What is added from here on belongs to one optimizer step."""
        self._begun = []

    def add(self, outcome: Outcome) -> None:
        """One micro-batch of the step."""
        self._begun.append((outcome.outputs.detach(), outcome.targets))

    def end_step(self, loss: Tensor, weight: float | Tensor, step: int) -> None:
        """The step is done: its number, its loss over the whole batch, and the batch's weight (`Task.weight`)."""
        assert self._begun, "a step ends to which no outcome was added"
        samples = 0
        for outputs, targets in self._begun:
            self._outputs.append(outputs)
            self._targets.append(targets)
            self._bytes += outputs.nbytes
            samples += len(outputs)
        self._begun = []
        weight = weight.detach() if isinstance(weight, Tensor) else weight
        self._steps.append(_Step(step, loss.detach(), weight, samples))

    def discard_step(self) -> None:
        """Drop what was added since the step began: it is redone or skipped."""
        self._begun = []

    @property
    def full(self) -> bool:
        """Whether what is held on the device should be read now, whatever the clock says."""
        return self._bytes > _HELD_BYTES or len(self._steps) >= _HELD_STEPS

    def read(self) -> StepValues | None:
        """The values of the steps that ended since the last read. The one place that syncs."""
        if not self._steps:
            return None
        steps = self._steps
        losses, weights, shares = self._transfer()
        counts = np.array([step.samples for step in steps])
        sums = np.add.reduceat(shares, np.cumsum([0, *counts[:-1]]), axis=0)  # (S, k)
        self._steps, self._outputs, self._targets, self._bytes = [], [], [], 0
        values: dict[str, np.ndarray] = {"loss": losses, **{name: np.empty(len(steps)) for name in self._names}}
        for index, step in enumerate(steps):
            self._add_to_epoch(float(losses[index]), float(weights[index]), sums[index].tolist(), step.samples)
            summary = self._task.summarize(sums[index].tolist(), step.samples)
            for name in self._names:
                values[name][index] = summary[name]
        return StepValues(np.array([step.number for step in steps], dtype=np.int64), values)

    def epoch_summary(self) -> dict[str, float]:
        """Loss and metrics over the epoch's samples so far. Call `read` before."""
        if not self._samples:
            return {"loss": math.nan}
        loss = self._loss_sum / self._weight_sum if self._weight_sum else math.nan
        return {"loss": loss, **self._task.summarize(self._sums, self._samples)}

    def begin_epoch(self) -> None:
        """Forget the sums of the last epoch."""
        self._loss_sum, self._weight_sum, self._samples, self._sums = 0.0, 0.0, 0, []

    def state(self) -> dict[str, Any]:
        """The epoch's sums as plain numbers, from which another meter goes on to the bit. Call `read` before."""
        return {
            "loss_sum": self._loss_sum,
            "weight_sum": self._weight_sum,
            "samples": self._samples,
            "sums": list(self._sums),
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from another meter's `state`; what is held or begun is dropped."""
        self._loss_sum, self._weight_sum = state["loss_sum"], state["weight_sum"]
        self._samples, self._sums = state["samples"], list(state["sums"])
        self._begun, self._steps, self._outputs, self._targets, self._bytes = [], [], [], [], 0

    def _transfer(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Losses (S,), weights (S,) and contributions (N, k) of what is held, in double precision."""
        losses = torch.stack([step.loss for step in self._steps])
        contributions = self._task.contributions(torch.cat(self._outputs), torch.cat(self._targets))
        on_device = [step.weight for step in self._steps if isinstance(step.weight, Tensor)]
        parts = [losses, contributions.flatten(), *([torch.stack(on_device)] if on_device else [])]
        wide = torch.float32 if losses.device.type == "mps" else torch.float64  # MPS has no doubles
        # The loop syncs here and in no other place, ten times a second (Trainer._read).
        flat = torch.cat([part.to(wide) for part in parts]).cpu().double().numpy()
        count, width = len(self._steps), contributions.shape[1]
        shares = flat[count : count + contributions.numel()].reshape(-1, width)
        if on_device:
            return flat[:count], flat[-count:], shares
        return flat[:count], np.array([float(step.weight) for step in self._steps]), shares

    def _add_to_epoch(self, loss: float, weight: float, sums: list[float], samples: int) -> None:
        self._loss_sum += loss * weight
        self._weight_sum += weight
        self._sums = [a + b for a, b in zip(self._sums or [0.0] * len(sums), sums, strict=True)]
        self._samples += samples
