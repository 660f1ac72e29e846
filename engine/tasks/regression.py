"""Regression: numbers to predict, scored by mean absolute error, root mean squared error and R²."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from engine.data.serving.batches import Batch
from engine.models.auxiliary import SHARE, main_and_auxiliary
from engine.tasks.base import Metric, Outcome, in_full


class Regression:
    """Outputs and targets are (B, outputs) floats.

    `std` undoes the standardisation of the targets, so that errors are in the data's own unit. Several outputs are
    scored together: R² = 1 - Σ(y - ŷ)² / Σ(y - ȳ)² over all of them, ȳ the mean of each (for one output this is
    scikit-learn's r2_score). Otherwise outputs that lie far apart would make any model look good.
    """

    metrics: Sequence[Metric] = (Metric("r2", "max", per_step=False), Metric("mae", "min"), Metric("rmse", "min"))

    def __init__(self, loss: nn.Module, std: Tensor | None = None) -> None:
        self._loss, self._std = loss, std

    def step(self, model: nn.Module, batch: Batch) -> Outcome:
        outputs, auxiliary = main_and_auxiliary(model(batch.inputs))
        loss = in_full(self._loss, outputs, batch.targets)
        for each in auxiliary:
            loss = loss + SHARE * in_full(self._loss, each, batch.targets)
        return Outcome(loss, outputs, batch.targets)

    def weight(self, targets: Tensor) -> float | Tensor:
        return len(targets)

    def contributions(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """(B, 3 + outputs): |e| and e² of each sample, its targets t, and t²; all but t as means over its outputs.

        In double precision where the device has it: Σt² - (Σt)²/n loses a small spread on a large mean.
        """
        wide = torch.float32 if outputs.device.type == "mps" else torch.float64
        scale = 1.0 if self._std is None else self._std.to(outputs.device, wide)
        error = (outputs.to(wide) - targets) * scale
        target = targets.to(wide) * scale
        means = [part.mean(1, keepdim=True) for part in (error.abs(), error.square(), target.square())]
        return torch.cat([*means[:2], target / math.sqrt(target.shape[1]), means[2]], 1)

    def summarize(self, sums: Sequence[float], samples: int) -> Mapping[str, float]:
        absolute, squared, *totals, total_squared = sums
        spread = total_squared - sum(total * total for total in totals) / samples
        if spread <= 1e-13 * total_squared:  # rounding: all targets are the same number
            spread = 0.0
        return {
            "r2": 1 - squared / spread if spread > 0 else math.nan,
            "mae": absolute / samples,
            "rmse": math.sqrt(squared / samples),
        }
