"""Pixels are scored as a plain computation over all of them, however they come in, and some count nowhere."""

# B batch · K classes

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from engine.data.prepare import Facts
from engine.data.samples import IGNORED
from engine.data.serving.batches import Batch
from engine.recipe import Recipe
from engine.tasks.base import Task
from engine.tasks.losses import make_task
from engine.tasks.segmentation import counted

CPU = torch.device("cpu")


def made(count: int = 7, classes: int = 4) -> tuple[Tensor, Tensor]:
    """Scores (B, K, 5, 6), and targets (B, 5, 6) of which a fifth count nowhere."""
    generator = torch.Generator().manual_seed(0)
    targets = torch.randint(0, classes - 1, (count, 5, 6), generator=generator)  # of the last class there is none
    scores = torch.randn(count, classes, 5, 6, generator=generator)
    scores.scatter_add_(1, targets.unsqueeze(1), torch.full((count, 1, 5, 6), 1.0))
    targets[torch.rand(targets.shape, generator=generator) < 0.2] = IGNORED
    return scores, targets


def task(**loss: object) -> Task:
    values = {
        "task": "segmentation",
        "data": {"path": "x"},
        "model": {"layers": [{"name": "Identity"}]},
        "loss": {"name": "CrossEntropyLoss", **loss},
    }
    return make_task(Recipe.from_values(values), Facts((1, 5, 6), 4), CPU)


def test_scores_are_those_of_a_plain_computation() -> None:
    scores, targets = made()
    sums = torch.cat([counted(scores[:3], targets[:3]), counted(scores[3:], targets[3:])]).sum(0)
    found = task().summarize(sums.tolist(), 7)
    predicted, wanted = scores.argmax(1).numpy(), targets.numpy()
    known = wanted != IGNORED
    overlaps = [
        ((predicted == k) & (wanted == k) & known).sum() / (((predicted == k) | (wanted == k)) & known).sum()
        for k in range(4)
    ]
    assert found["mean_iou"] == pytest.approx(np.mean(overlaps))
    assert found["pixel_accuracy"] == pytest.approx((predicted == wanted)[known].mean())


def test_a_class_that_nowhere_is_has_no_part_in_the_mean_and_nothing_is_no_number() -> None:
    targets = torch.zeros(1, 2, 2, dtype=torch.long)
    right = nn.functional.one_hot(targets, 4).permute(0, 3, 1, 2).float()
    assert task().summarize(counted(right, targets).sum(0).tolist(), 1)["mean_iou"] == 1.0
    nothing = counted(right, torch.full_like(targets, IGNORED)).sum(0).tolist()
    assert all(math.isnan(value) for value in task().summarize(nothing, 1).values())


@pytest.mark.parametrize("weight", [None, [1.0, 2.0, 0.5, 3.0]])
def test_the_loss_of_a_batch_is_that_of_its_parts_by_their_pixels(weight: list[float] | None) -> None:
    scores, targets = made()
    targets[2] = IGNORED  # a part of which no pixel counts
    ours = task() if weight is None else task(weight=weight)
    parts = [Batch(scores[i : i + 1], targets[i : i + 1]) for i in range(len(scores))]
    losses = [ours.step(nn.Identity(), part) for part in parts]
    weights = [ours.weight(part.targets) for part in parts]
    assert all(isinstance(each, Tensor) and each > 0 for each in weights)
    total = sum(outcome.loss * each for outcome, each in zip(losses, weights, strict=True)) / sum(weights)
    whole = ours.step(nn.Identity(), Batch(scores, targets)).loss
    plain = nn.CrossEntropyLoss(torch.tensor(weight) if weight else None)(scores, targets)
    assert float(whole) == pytest.approx(float(plain), rel=1e-6)
    assert float(total) == pytest.approx(float(plain), rel=1e-6)


def test_the_loss_is_the_same_where_only_deterministic_operators_may_be_used() -> None:
    batch = Batch(*made())
    usual = task(label_smoothing=0.1, weight=[1.0, 2.0, 0.5, 3.0]).step(nn.Identity(), batch)
    torch.use_deterministic_algorithms(True)
    try:
        other = task(label_smoothing=0.1, weight=[1.0, 2.0, 0.5, 3.0]).step(nn.Identity(), batch)
    finally:
        torch.use_deterministic_algorithms(False)
    assert float(other.loss) == pytest.approx(float(usual.loss), rel=1e-6)
    assert (other.outputs == usual.outputs).all()


def test_what_a_step_leaves_behind_is_small() -> None:
    scores, targets = made()
    outcome = task().step(nn.Identity(), Batch(scores, targets))
    assert (outcome.outputs.shape, outcome.targets.shape) == ((7, 12), (7, 0))
    assert (task().contributions(outcome.outputs, outcome.targets) == counted(scores, targets)).all()
    assert outcome.targets.untyped_storage().nbytes() == 0
