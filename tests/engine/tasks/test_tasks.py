"""What is measured equals a plain computation over all samples, however they come in."""

# B batch

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from engine.data.serving.batches import Batch
from engine.tasks.base import Task
from engine.tasks.classification import Classification, Form, one_hot, signs
from engine.tasks.regression import Regression

CUTS = st.lists(st.integers(0, 40), max_size=6)


def measured(task: Task, outputs: Tensor, targets: Tensor, cuts: list[int] | None = None) -> Mapping[str, float]:
    """Metrics over all samples, measured in the parts between `cuts` as the trainer does."""
    count = len(outputs)
    edges = [0, *sorted(cut for cut in cuts or [] if cut < count), count]
    sums: np.ndarray | float = 0.0
    for first, last in itertools.pairwise(edges):
        if last > first:
            part = task.contributions(outputs[first:last], targets[first:last])
            assert len(part) == last - first
            sums = sums + part.double().sum(0).numpy()
    assert isinstance(sums, np.ndarray)
    return task.summarize(sums.tolist(), count)


def plain_regression(predicted: np.ndarray, wanted: np.ndarray) -> dict[str, float]:
    error = predicted - wanted
    spread = ((wanted - wanted.mean()) ** 2).sum()
    return {
        "r2": 1 - (error**2).sum() / spread,
        "mae": np.abs(error).mean(),
        "rmse": np.sqrt((error**2).mean()),
    }


def regression_data(seed: int, count: int, mean: float, spread: float, noise: float = 0.5) -> tuple[Tensor, Tensor]:
    """(outputs, targets), (B, 1) each."""
    generator = torch.Generator().manual_seed(seed)
    targets = mean + spread * torch.randn(count, 1, generator=generator)
    return targets + noise * spread * torch.randn(count, 1, generator=generator), targets


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 40), CUTS)
def test_accuracy_is_the_share_of_right_answers(seed: int, count: int, cuts: list[int]) -> None:
    generator = torch.Generator().manual_seed(seed)
    outputs, targets = torch.randn(count, 4, generator=generator), torch.randint(0, 4, (count,), generator=generator)
    right = sum(int(row.argmax()) == int(target) for row, target in zip(outputs, targets, strict=True))
    assert measured(Classification(nn.CrossEntropyLoss()), outputs, targets, cuts) == {"accuracy": right / count}


def test_perfect_and_useless_classifiers_score_1_and_0() -> None:
    targets = torch.tensor([0, 1, 2])
    task = Classification(nn.CrossEntropyLoss())
    assert measured(task, torch.eye(3), targets) == {"accuracy": 1.0}
    assert measured(task, torch.eye(3).roll(1, 0), targets) == {"accuracy": 0.0}


def test_accuracy_of_half_precision_scores_is_exact() -> None:
    outputs = torch.zeros(5000, 2, dtype=torch.bfloat16)
    outputs[:4999, 1] = 1
    targets = torch.ones(5000, dtype=torch.long)
    # A sum in bfloat16 would stop at 256.
    assert measured(Classification(nn.CrossEntropyLoss()), outputs, targets) == {"accuracy": 4999 / 5000}


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 1000), st.integers(2, 40), CUTS)
def test_regression_metrics_are_those_of_the_formulas(seed: int, count: int, cuts: list[int]) -> None:
    outputs, targets = regression_data(seed, count, mean=3, spread=2)
    wanted = plain_regression(outputs.double().numpy(), targets.double().numpy())
    assert measured(Regression(nn.MSELoss()), outputs, targets, cuts) == pytest.approx(wanted, rel=1e-6)


@pytest.mark.parametrize("mean", [1e3, 1e4])
def test_a_small_spread_on_a_large_mean_is_seen(mean: float) -> None:
    outputs, targets = regression_data(0, 2000, mean=mean, spread=0.1)
    wanted = plain_regression(outputs.double().numpy(), targets.double().numpy())
    assert wanted["r2"] == pytest.approx(0.75, abs=0.03)
    assert measured(Regression(nn.MSELoss()), outputs, targets, [7, 20]) == pytest.approx(wanted, rel=1e-4)
    # The twin: sums in single precision lose it.
    sums = Regression(nn.MSELoss()).contributions(outputs, targets).float().sum(0)
    assert Regression(nn.MSELoss()).summarize(sums.tolist(), 2000)["r2"] != pytest.approx(wanted["r2"], rel=1e-2)


def test_standardized_targets_are_scored_in_their_own_unit() -> None:
    outputs, targets = regression_data(1, 300, mean=150, spread=77)
    wanted = plain_regression(outputs.double().numpy(), targets.double().numpy())
    mean, std = targets.mean(0), targets.std(0)
    task = Regression(nn.MSELoss(), std)
    found = measured(task, (outputs - mean) / std, (targets - mean) / std, [5, 9])
    assert found == pytest.approx(wanted, rel=1e-4)
    without = measured(Regression(nn.MSELoss()), (outputs - mean) / std, (targets - mean) / std)
    assert without["r2"] == pytest.approx(wanted["r2"], rel=1e-4)  # has no unit
    assert without["mae"] != pytest.approx(wanted["mae"], rel=0.5)


def test_several_outputs_are_scored_together() -> None:
    outputs, targets = torch.randn(50, 3), torch.randn(50, 3)
    error = (outputs - targets).double().numpy()
    found = measured(Regression(nn.MSELoss()), outputs, targets)
    assert found["mae"] == pytest.approx(np.abs(error).mean())
    assert found["rmse"] == pytest.approx(np.sqrt((error**2).mean()))


def test_several_outputs_share_one_r2() -> None:
    """R² = 1 - Σ(y - ŷ)² / Σ(y - ȳ)², ȳ each output's own mean: predicting the means is worth nothing."""
    targets = torch.tensor([[0.0, 100.0], [2.0, 102.0], [4.0, 104.0]])
    means = targets.mean(0).expand(3, 2)
    assert measured(Regression(nn.MSELoss()), means, targets)["r2"] == pytest.approx(0)


def test_a_perfect_regression_scores_1_and_the_mean_scores_0() -> None:
    _, targets = regression_data(2, 100, mean=5, spread=1)
    task = Regression(nn.MSELoss())
    assert measured(task, targets, targets) == {"r2": 1.0, "mae": 0.0, "rmse": 0.0}
    assert measured(task, targets.mean(0).expand(100, 1), targets)["r2"] == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("value", [0.0, 0.1, 3.3, 12345.678])
@pytest.mark.parametrize("count", [1, 37, 1000])
def test_targets_that_are_all_the_same_have_no_r2(value: float, count: int) -> None:
    targets = torch.full((count, 1), value)
    found = measured(Regression(nn.MSELoss()), targets + 1, targets, list(range(0, 40, 3)))
    assert math.isnan(found["r2"])
    assert found["mae"] == pytest.approx(1, rel=1e-3)


@pytest.mark.parametrize("task", [Classification(nn.CrossEntropyLoss()), Regression(nn.MSELoss())])
def test_a_step_gives_the_mean_loss_of_the_batch_with_its_graph(task: Task) -> None:
    model = nn.Linear(4, 3)
    inputs = torch.randn(6, 4)
    targets = torch.tensor([0, 1, 2, 0, 1, 2]) if isinstance(task, Classification) else torch.randn(6, 3)
    outcome = task.step(model, Batch(inputs, targets))
    loss = nn.CrossEntropyLoss() if isinstance(task, Classification) else nn.MSELoss()
    assert torch.equal(outcome.loss, loss(model(inputs), targets))
    assert outcome.outputs.shape == (6, 3)
    assert outcome.targets is targets
    outcome.loss.backward()  # type: ignore[no-untyped-call]
    assert model.weight.grad is not None


@pytest.mark.parametrize("form", [one_hot, signs])
def test_a_loss_gets_its_targets_in_its_form_and_the_metrics_get_class_numbers(form: Form) -> None:
    scores, targets = torch.randn(2, 3), torch.tensor([2, 0])
    rows = torch.tensor([[0.0, 0, 1], [1, 0, 0]])
    assert torch.equal(form(targets, scores), rows if form is one_hot else rows * 2 - 1)
    outcome = Classification(nn.MSELoss(), form).step(nn.Identity(), Batch(scores, targets))
    assert torch.equal(outcome.loss, nn.MSELoss()(scores, form(targets, scores)))
    assert outcome.targets is targets


@pytest.mark.parametrize("task", [Classification(nn.CrossEntropyLoss()), Regression(nn.MSELoss())])
def test_batches_weigh_by_their_samples_as_a_plain_number(task: Task) -> None:
    weight = task.weight(torch.zeros(7, dtype=torch.long))
    assert weight == 7
    assert isinstance(weight, int)  # no tensor, so no work for the device and nothing to wait for


def test_batches_weigh_by_the_shares_of_their_classes_where_those_differ() -> None:
    shares = torch.tensor([1.0, 4.0])
    task = Classification(nn.CrossEntropyLoss(weight=shares), class_shares=shares)
    scores, targets = torch.randn(5, 2), torch.tensor([0, 1, 1, 0, 0])
    weight = task.weight(targets)
    assert isinstance(weight, Tensor)
    assert (weight.ndim, float(weight)) == (0, 11)
    loss = task.step(nn.Identity(), Batch(scores, targets)).loss
    torch.testing.assert_close(loss, nn.functional.cross_entropy(scores, targets, weight=shares))


@pytest.mark.parametrize("task", [Classification(nn.CrossEntropyLoss()), Regression(nn.MSELoss())])
def test_a_task_summarizes_the_metrics_it_declares(task: Task) -> None:
    outputs = torch.randn(5, 3)
    targets = torch.tensor([0, 1, 2, 0, 1]) if isinstance(task, Classification) else torch.randn(5, 3)
    assert list(measured(task, outputs, targets)) == [metric.name for metric in task.metrics]
