from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from engine.tasks.base import Outcome
from engine.tasks.classification import Classification
from engine.tasks.regression import Regression
from engine.training.meter import Meter, StepValues


def outcome(loss: float, outputs: Tensor, targets: Tensor) -> Outcome:
    return Outcome(torch.tensor(loss, requires_grad=True), outputs, targets)


def scores(*classes: int) -> Tensor:
    return nn.functional.one_hot(torch.tensor(classes), 3).float()


def classification() -> Meter:
    return Meter(Classification(nn.CrossEntropyLoss()))


class TestRead:
    def test_each_step_has_its_own_loss_and_metrics(self) -> None:
        meter = classification()
        meter.begin_step()
        meter.add(outcome(2.0, scores(0, 1), torch.tensor([0, 2])))
        meter.begin_step()
        meter.add(outcome(1.0, scores(2, 2, 2), torch.tensor([2, 2, 2])))

        values = meter.read(7)

        assert values is not None
        assert values.first == 6
        assert values.values["loss"].tolist() == [2.0, 1.0]
        assert values.values["accuracy"].tolist() == [0.5, 1.0]

    def test_nothing_new_is_none(self) -> None:
        meter = classification()
        meter.begin_step()
        meter.add(outcome(2.0, scores(0), torch.tensor([0])))
        assert meter.read(1) is not None

        assert meter.read(1) is None

    def test_micro_batches_count_by_their_weight(self) -> None:
        meter = classification()
        meter.begin_step()
        meter.add(outcome(1.0, scores(0, 0, 0), torch.tensor([0, 0, 1])), weight=0.75)
        meter.add(outcome(5.0, scores(0), torch.tensor([0])), weight=0.25)

        values = meter.read(1)

        assert values is not None
        assert values.values["loss"].tolist() == [2.0]
        assert values.values["accuracy"].tolist() == [0.75]

    def test_a_metric_that_means_nothing_on_one_batch_is_left_to_the_epoch(self) -> None:
        meter = Meter(Regression(nn.MSELoss()))
        meter.begin_step()
        meter.add(outcome(1.0, torch.tensor([[1.0], [2.0]]), torch.tensor([[1.0], [3.0]])))

        values = meter.read(1)

        assert values is not None
        assert set(values.values) == {"loss", "mae", "rmse"}
        assert meter.epoch_summary()["r2"] == pytest.approx(0.5)

    def test_what_is_held_keeps_no_graph_alive(self) -> None:
        meter = classification()
        layer = nn.Linear(3, 3)
        meter.begin_step()
        outputs = layer(scores(0, 1))
        meter.add(Outcome(outputs.sum(), outputs, torch.tensor([0, 1])))

        assert not any(tensor.requires_grad for tensor in meter._outputs)

    def test_it_asks_to_be_read_before_it_holds_too_much(self) -> None:
        meter = classification()
        for _ in range(4096):
            assert not meter.full
            meter.begin_step()
            meter.add(outcome(1.0, scores(0), torch.tensor([0])))

        assert meter.full
        meter.read(4096)
        assert not meter.full


class TestEpoch:
    def steps(self) -> list[Outcome]:
        generator = np.random.default_rng(0)
        return [
            outcome(
                float(generator.random()),
                torch.from_numpy(generator.random((size, 1))).float(),
                torch.from_numpy(generator.random((size, 1))).float(),
            )
            for size in generator.integers(1, 9, 40)
        ]

    def summary(self, reads: set[int]) -> dict[str, float]:
        meter = Meter(Regression(nn.MSELoss()))
        for number, step in enumerate(self.steps(), start=1):
            meter.begin_step()
            meter.add(step)
            if number in reads:
                assert isinstance(meter.read(number), StepValues)
        meter.read(40)
        return meter.epoch_summary()

    def test_sums_are_the_same_bits_whenever_they_are_read(self) -> None:
        assert self.summary(set()) == self.summary({1, 2, 17}) == self.summary(set(range(1, 41)))

    def test_losses_are_weighed_by_their_samples(self) -> None:
        steps = self.steps()
        expected = sum(float(s.loss.detach()) * len(s.outputs) for s in steps) / sum(len(s.outputs) for s in steps)

        assert self.summary(set())["loss"] == pytest.approx(expected)

    def test_a_new_epoch_forgets_the_last(self) -> None:
        meter = classification()
        meter.begin_step()
        meter.add(outcome(2.0, scores(0), torch.tensor([0])))
        meter.read(1)

        meter.begin_epoch()

        assert math.isnan(meter.epoch_summary()["loss"])
