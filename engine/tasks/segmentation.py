"""Segmentation: a class for every pixel, scored by the mean over classes of intersection by union."""

# B batch · K classes · H height · W width

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from engine.data.samples import IGNORED
from engine.data.serving.batches import Batch
from engine.tasks.base import Metric, Outcome
from engine.tasks.classification import Classification, class_numbers


class Segmentation(Classification):
    """Outputs are (B, K, H, W) scores, targets (B, H, W) class numbers, IGNORED where a pixel counts nowhere.

    The loss is the mean over pixels, each of which counts by the `class_shares` (K,) of its class.
    """

    metrics: Sequence[Metric] = (Metric("mean_iou", "max"), Metric("pixel_accuracy", "max"))

    def __init__(self, loss: nn.Module, class_shares: Tensor) -> None:
        super().__init__(loss, class_numbers, class_shares, IGNORED)

    def step(self, model: nn.Module, batch: Batch) -> Outcome:
        whole = super().step(model, batch)
        # Scores of all pixels of many steps would fill the memory before they are looked at.
        return Outcome(
            whole.loss, counted(whole.outputs.detach(), whole.targets), whole.targets.new_empty(len(batch), 0)
        )

    def _mean(self, outputs: Tensor, targets: Tensor) -> Tensor:
        if torch.are_deterministic_algorithms_enabled():
            # On CUDA torch's loss of pictures adds up in any order, and refuses to; its loss of samples does not.
            outputs, targets = outputs.movedim(1, -1).flatten(0, -2), targets.flatten()
        return super()._mean(outputs, targets)

    def contributions(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """What was counted in the step, as it is."""
        return outputs

    def summarize(self, sums: Sequence[float], samples: int) -> Mapping[str, float]:
        """A class that neither is nor is predicted in any pixel has no part in the mean."""
        classes = len(sums) // 3
        both, predicted, wanted = sums[:classes], sums[classes : 2 * classes], sums[2 * classes :]
        unions = [p + w - b for b, p, w in zip(both, predicted, wanted, strict=True)]
        overlaps = [b / union for b, union in zip(both, unions, strict=True) if union]
        pixels = sum(wanted)
        return {
            "mean_iou": sum(overlaps) / len(overlaps) if overlaps else math.nan,
            "pixel_accuracy": sum(both) / pixels if pixels else math.nan,
        }


def counted(outputs: Tensor, targets: Tensor) -> Tensor:
    """(B, 3 K) from scores (B, K, H, W): for each class the pixels of it predicted right, predicted, and there to be.

    Pixels whose target is IGNORED count in none of them.
    """
    classes = outputs.shape[1]
    wanted = targets.flatten(1)  # (B, H · W)
    predicted = outputs.argmax(1).flatten(1)
    known = wanted != IGNORED
    # An extra class takes what does not count: to leave it out would need to wait for the device.
    nowhere = torch.full_like(wanted, classes)
    chosen = (
        torch.where(known & (predicted == wanted), wanted, nowhere),
        torch.where(known, predicted, nowhere),
        torch.where(known, wanted, nowhere),
    )
    one = torch.ones((), device=outputs.device).expand(wanted.shape)  # floats are exact to 16 million pixels a picture
    empty = torch.zeros(len(wanted), classes + 1, device=outputs.device)
    wide = torch.float32 if outputs.device.type == "mps" else torch.float64  # a dataset has more than 16 million pixels
    return torch.cat([empty.scatter_add(1, each, one)[:, :classes] for each in chosen], 1).to(wide)
