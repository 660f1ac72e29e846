"""Classification: one class a sample, scored by accuracy."""

# B batch · K classes

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from engine.data.serving.batches import Batch
from engine.models.auxiliary import SHARE, main_and_auxiliary
from engine.tasks.base import Metric, Outcome, in_full

Form = Callable[[Tensor, Tensor], Tensor]
"""How a loss takes its targets: class numbers (B,) and outputs (B, K) → what the loss is given."""

# What samples weigh that weigh nothing: torch's own mean of them is 0/0, and one such micro-batch would spoil its step.
_NOTHING = 1e-30


def class_numbers(targets: Tensor, outputs: Tensor) -> Tensor:
    """(B,) as they are."""
    return targets


def one_hot(targets: Tensor, outputs: Tensor) -> Tensor:
    """(B, K): 1 for the right class, 0 for the others."""
    dtype = torch.promote_types(outputs.dtype, torch.float32)  # a half would round the loss
    return torch.zeros_like(outputs, dtype=dtype).scatter_(1, targets.unsqueeze(1), 1.0)


def signs(targets: Tensor, outputs: Tensor) -> Tensor:
    """(B, K): 1 for the right class, -1 for the others."""
    return one_hot(targets, outputs) * 2 - 1


def summed(loss: nn.Module) -> nn.Module:
    """The same loss, weights shared, that adds its samples up in place of taking their mean."""
    twin = copy.copy(loss)
    twin.reduction = "sum"  # type: ignore[assignment]  # torch types every attribute of a module as a tensor
    return twin


class Classification:
    """Outputs are (B, K) scores, targets (B,) class numbers, given to the loss in its `form`.

    Of samples that are mixed from others the targets are the shares (B, K) of the classes in them: a loss that takes
    one number a class gets these, and so does one that takes either. The larger share is the right answer.

    `class_shares` (K,) says by how much a sample of each class counts in the loss's mean, where that is not the same;
    samples of the class `ignored`, which may be no class at all, count nowhere, accuracy included.
    """

    metrics: Sequence[Metric] = (Metric("accuracy", "max"),)

    def __init__(
        self,
        loss: nn.Module,
        form: Form = class_numbers,
        class_shares: Tensor | None = None,
        ignored: int | None = None,
    ) -> None:
        self._loss, self._form, self._shares, self._ignored = loss, form, class_shares, ignored
        self._sum = summed(loss)

    def step(self, model: nn.Module, batch: Batch) -> Outcome:
        outputs, auxiliary = main_and_auxiliary(model(batch.inputs))
        loss = self._mean(outputs, batch.targets)
        for each in auxiliary:
            loss = loss + SHARE * self._mean(each, batch.targets)
        return Outcome(loss, outputs, batch.targets)

    def weight(self, targets: Tensor) -> float | Tensor:
        if self._shares is None:
            return len(targets)
        if targets.is_floating_point():
            shares = targets @ self._shares
        elif self._ignored is None:
            shares = self._shares[targets]
        else:
            known = targets != self._ignored
            shares = self._shares[torch.where(known, targets, 0)] * known
        return shares.sum().clamp_min(_NOTHING)

    def contributions(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """(B, 1): 1 where the highest score is the target's; beside it, where a class is ignored, 1 where it is not."""
        targets = targets.argmax(1) if targets.is_floating_point() else targets
        right = (outputs.argmax(1) == targets).float().unsqueeze(1)
        if self._ignored is None:
            return right
        counts = (targets != self._ignored).float().unsqueeze(1)
        return torch.cat([right * counts, counts], 1)

    def summarize(self, sums: Sequence[float], samples: int) -> Mapping[str, float]:
        counted = samples if self._ignored is None else sums[1]
        return {"accuracy": sums[0] / counted if counted else math.nan}

    def _mean(self, outputs: Tensor, targets: Tensor) -> Tensor:
        given = targets if targets.is_floating_point() else self._form(targets, outputs)
        if self._shares is None:
            return in_full(self._loss, outputs, given)
        return in_full(self._sum, outputs, given) / self.weight(targets)
