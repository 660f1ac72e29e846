"""Classification: one class a sample, scored by accuracy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from engine.data.batches import Batch
from engine.tasks.base import Metric, Outcome


class Classification:
    """Outputs are (B, classes) scores, targets (B,) class numbers."""

    metrics: Sequence[Metric] = (Metric("accuracy", "max"),)

    def __init__(self, loss: nn.Module) -> None:
        self._loss = loss

    def step(self, model: nn.Module, batch: Batch) -> Outcome:
        outputs = model(batch.inputs)
        return Outcome(self._loss(outputs, batch.targets), outputs, batch.targets)

    def contributions(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """(B, 1): 1 where the highest score is the target's."""
        return (outputs.argmax(1) == targets).float().unsqueeze(1)

    def summarize(self, sums: Sequence[float], samples: int) -> Mapping[str, float]:
        return {"accuracy": sums[0] / samples}
