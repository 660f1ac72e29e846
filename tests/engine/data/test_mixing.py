"""MixUp and CutMix: torchvision's, drawn from (seed, epoch, batch), with targets that become shares of classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_runs import digits, resume, same, stop_at, train, weights
from torch import Tensor, nn
from torchvision.transforms import v2

from engine.check import check
from engine.data.prepare import prepare
from engine.data.serving.batches import Batch
from engine.data.serving.loader import LoaderBatches
from engine.data.serving.mixing import Mixing, cut_and_mixed, mixed_up
from engine.errors import RecipeError
from engine.recipe import Part, Recipe
from engine.seeds import derive
from engine.tasks.classification import Classification
from engine.tasks.losses import fit_loss, make_task

CPU = torch.device("cpu")
MIXUP, CUTMIX = {"name": "MixUp", "alpha": 0.4}, {"name": "CutMix"}


def pictures(count: int = 6) -> tuple[Tensor, Tensor, Tensor]:
    """Inputs, class numbers of five, and their shares."""
    generator = torch.Generator().manual_seed(0)
    classes = torch.randint(0, 5, (count,), generator=generator)
    return torch.rand(count, 3, 10, 12, generator=generator), classes, nn.functional.one_hot(classes, 5).float()


def parts(*each: dict[str, Any]) -> list[Part]:
    return [Part(**values) for values in each]


@pytest.mark.parametrize("kept", [0.0, 0.3, 0.75, 1.0])
def test_mixup_is_torchvisions_for_the_same_share(kept: float) -> None:
    inputs, classes, shares = pictures()
    theirs = v2.MixUp(num_classes=5)
    theirs.make_params = lambda flat: {"lam": kept}  # type: ignore[method-assign]
    wanted, targets = theirs(inputs, classes)
    ours, mixed = mixed_up(inputs, shares, kept)
    assert torch.equal(ours, wanted)
    assert torch.equal(mixed, targets)


@pytest.mark.parametrize(("kept", "x", "y"), [(0.3, 5, 5), (0.75, 0, 9), (0.01, 11, 0), (1.0, 3, 3)])
def test_cutmix_is_torchvisions_for_the_same_share_and_place(
    kept: float, x: int, y: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs, classes, shares = pictures()
    theirs = v2.CutMix(num_classes=5)
    theirs._dist = type("Fixed", (), {"sample": lambda self, size: torch.tensor(kept, dtype=torch.float64)})()
    drawn = iter([torch.tensor([x]), torch.tensor([y])])
    monkeypatch.setattr(torch, "randint", lambda *given, **more: next(drawn))
    wanted, targets = theirs(inputs, classes)
    ours, mixed = cut_and_mixed(inputs, shares, kept, x, y)
    assert torch.equal(ours, wanted)
    assert torch.equal(mixed, targets)


@pytest.mark.parametrize("part", [MIXUP, CUTMIX])
def test_what_is_kept_of_a_sample_is_distributed_as_in_torchvision(part: dict[str, Any]) -> None:
    inputs = torch.zeros(2, 1, 32, 32)
    classes = torch.tensor([0, 1])
    mixing = Mixing(parts(part), 2)
    ours = np.sort([float(mixing(inputs, classes, seed)[1][0, 0]) for seed in range(800)])
    theirs = getattr(v2, part["name"])(alpha=part.get("alpha", 1.0), num_classes=2)
    torch.manual_seed(0)
    wanted = np.sort([float(theirs(inputs, classes)[1][0, 0]) for _ in range(800)])

    def apart(one: np.ndarray, two: np.ndarray) -> float:
        """Kolmogorov and Smirnov's distance."""
        at = np.concatenate([one, two])
        below = [np.searchsorted(each, at, side="right") / len(each) for each in (one, two)]
        return float(np.abs(below[0] - below[1]).max())

    assert apart(ours, wanted) < 0.11  # one in 10,000 is farther apart
    other = Mixing(parts({**part, "alpha": 8.0}), 2)
    assert apart(np.sort([float(other(inputs, classes, seed)[1][0, 0]) for seed in range(800)]), wanted) > 0.11


def served(recipe: Recipe) -> list[Batch]:
    data = prepare(recipe, CPU, lambda what, done, total: None)
    assert data.val is not None
    assert all(batch.targets.ndim == 1 for batch in data.val.epoch(0)), "only what is trained on is mixed"
    return list(data.train.epoch(1))


def test_batches_are_mixed_alike_however_they_are_served_and_resumed_from_the_middle() -> None:
    recipe = digits({"data.augment": [{"name": "RandomCrop", "size": 28, "padding": 2}, MIXUP, CUTMIX]})
    batches = served(recipe)
    for one, two in zip(batches, served(recipe.override({"data.in_memory": False})), strict=True):
        assert torch.equal(one.inputs, two.inputs)
        assert torch.equal(one.targets, two.targets)
    first = batches[0]
    assert first.targets.shape == (64, 10)
    assert torch.allclose(first.targets.sum(1), torch.ones(64))
    assert ((first.targets > 0).sum(1) > 1).any()
    train_batches = prepare(recipe, CPU, lambda what, done, total: None).train
    assert torch.equal(next(iter(train_batches.epoch(1, 128))).inputs, batches[2].inputs)
    assert not torch.equal(next(iter(train_batches.epoch(2))).targets, first.targets)


def test_transforms_come_before_the_mixing() -> None:
    normalize = [{"name": "Normalize", "mean": [0.5], "std": [0.25]}]
    plain = served(digits({"data.augment": [], "data.transforms": normalize}))[0]
    mixed = served(digits({"data.augment": [CUTMIX], "data.transforms": normalize}))[0]
    ours, _ = Mixing(parts(CUTMIX), 10)(plain.inputs, plain.targets, derive(0, 1, 0, 1))
    assert torch.equal(mixed.inputs, ours)


def test_a_run_with_both_learns_and_is_resumed_bit_for_bit(tmp_path: Path) -> None:
    recipe = digits({"data.augment": [MIXUP, CUTMIX], "loss.label_smoothing": 0.1, "training.accumulate": 2})
    whole = train(recipe, tmp_path / "whole")
    assert whole.history.error is None
    assert whole.history.summary is not None
    assert whole.history.summary.test["accuracy"] > 0.5
    cut = train(recipe, tmp_path / "cut", stop_at(17))
    resume(cut.directory)
    assert same(weights(whole.directory), weights(cut.directory))


def test_accuracy_while_training_is_counted_against_the_larger_share() -> None:
    task = Classification(nn.CrossEntropyLoss())
    outputs = torch.tensor([[2.0, 1.0, 0.0], [0.0, 1.0, 2.0]])
    shares = torch.tensor([[0.6, 0.4, 0.0], [0.6, 0.0, 0.4]])
    assert task.contributions(outputs, shares).flatten().tolist() == [1.0, 0.0]


@pytest.mark.parametrize(
    "loss",
    [
        {"name": "CrossEntropyLoss"},
        {"name": "CrossEntropyLoss", "label_smoothing": 0.2},
        {"name": "CrossEntropyLoss", "class_weights": "balanced", "label_smoothing": 0.2},
        {"name": "BCEWithLogitsLoss"},
    ],
)
def test_losses_that_take_shares_mean_by_whole_ones_what_they_mean_by_classes(loss: dict[str, Any]) -> None:
    recipe = digits({"loss": loss})
    data = prepare(recipe, CPU, lambda what, done, total: None)
    task = make_task(recipe, data.facts, CPU)
    torch.manual_seed(0)
    model, batch = nn.Sequential(nn.Flatten(), nn.Linear(784, 10)), next(iter(data.train.epoch(0)))
    shares = nn.functional.one_hot(batch.targets, 10).float()
    by_class, by_share = (task.step(model, Batch(batch.inputs, targets)).loss for targets in (batch.targets, shares))
    assert torch.allclose(by_class, by_share)
    assert float(task.weight(batch.targets)) == pytest.approx(float(task.weight(shares)))
    mixed = (shares + shares.roll(1, 0)) / 2
    assert not torch.allclose(task.step(model, Batch(batch.inputs, mixed)).loss, by_class)
    fit_loss(recipe.override({"data.augment": [MIXUP]}), 10, data.facts.class_counts)


def said(changes: dict[str, Any]) -> list[str]:
    """What is said before a step is run; that starting says so too is for test_prepare."""
    return [str(problem) for problem in check(digits(changes)).problems]


@pytest.mark.parametrize("loss", ["MultiMarginLoss", "SoftMarginLoss"])
def test_losses_that_take_no_shares_are_refused(loss: str) -> None:
    problems = said({"loss": {"name": loss}, "data.augment": [CUTMIX]})
    assert f"data.augment.0: CutMix makes shares of classes, which {loss} does not take" in problems[0]
    assert said({"loss": {"name": loss}, "data.augment": []}) == []


def test_what_mixing_does_not_go_with_is_refused() -> None:
    flip = {"name": "RandomHorizontalFlip"}
    assert "data.augment.1: RandomHorizontalFlip changes single samples" in said({"data.augment": [MIXUP, flip]})[0]
    assert said({"data.augment": [flip, MIXUP]}) == []
    ignore = {"loss.ignore_index": 3, "data.augment": [MIXUP]}
    assert "data.augment.0: MixUp does not go with loss.ignore_index" in said(ignore)[0]
    assert (
        "data.augment.0.num_classes: follows from the data" in said({"data.augment": [{**MIXUP, "num_classes": 4}]})[0]
    )
    assert "alpha" in said({"data.augment": [{**MIXUP, "alpha": "much"}]})[0]
    assert said({"data.augment": [{**MIXUP, "alpha": -1.0}]}) != []
    table = {"data.name": "breast_cancer", "data.augment": [CUTMIX], "data.transforms": []}
    assert "CutMix cuts pictures" in said(table)[0]


def test_numbers_to_predict_are_not_mixed() -> None:
    from small_runs import line

    with pytest.raises(
        RecipeError, match=r"data\.augment\.0: MixUp mixes classes and pictures, not those of a regression"
    ):
        prepare(line({"data.augment": [MIXUP]}), CPU, lambda what, done, total: None)


def test_a_loader_mixes_too() -> None:
    data = prepare(digits({"data.augment": [MIXUP], "data.in_memory": False}), CPU, lambda what, done, total: None)
    assert isinstance(data.train, LoaderBatches)
    assert next(iter(data.train.epoch(0))).targets.shape == (64, 10)


def test_a_sample_of_no_class_has_no_share() -> None:
    mixing = Mixing([Part(name="MixUp")], 3)
    _, shares = mixing(torch.rand(2, 1, 4, 4), torch.tensor([1, -100]), 0)
    assert shares[:, [0, 2]].eq(0).all()
    assert float(shares.sum()) == pytest.approx(1.0)
