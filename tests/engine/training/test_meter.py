from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from engine.data.serving.batches import Batch
from engine.tasks.base import Outcome
from engine.tasks.classification import Classification
from engine.tasks.regression import Regression
from engine.training.meter import Meter


def outcome(loss: float, outputs: Tensor, targets: Tensor) -> Outcome:
    return Outcome(torch.tensor(loss, requires_grad=True), outputs, targets)


def scores(*classes: int) -> Tensor:
    return nn.functional.one_hot(torch.tensor(classes), 3).float()


def classification() -> Meter:
    return Meter(Classification(nn.CrossEntropyLoss()))


def ended(meter: Meter, number: int, *parts: Outcome, weight: float | Tensor | None = None) -> None:
    """One step whose micro-batches are `parts`, its loss the sum of theirs."""
    meter.begin_step()
    for part in parts:
        meter.add(part)
    samples = sum(len(part.outputs) for part in parts)
    loss = torch.stack([part.loss for part in parts]).sum()
    meter.end_step(loss, samples if weight is None else weight, number)


class TestRead:
    def test_each_step_has_its_own_number_loss_and_metrics(self) -> None:
        meter = classification()
        ended(meter, 6, outcome(2.0, scores(0, 1), torch.tensor([0, 2])))
        ended(meter, 7, outcome(1.0, scores(2, 2, 2), torch.tensor([2, 2, 2])))

        values = meter.read()

        assert values is not None
        assert values.steps.dtype == np.int64
        assert values.steps.tolist() == [6, 7]
        assert values.values["loss"].tolist() == [2.0, 1.0]
        assert values.values["accuracy"].tolist() == [0.5, 1.0]

    def test_nothing_new_is_none(self) -> None:
        meter = classification()
        ended(meter, 1, outcome(2.0, scores(0), torch.tensor([0])))
        assert meter.read() is not None

        assert meter.read() is None

    def test_micro_batches_are_one_step(self) -> None:
        meter = classification()
        three = outcome(0.75, scores(0, 0, 0), torch.tensor([0, 0, 1]))
        ended(meter, 1, three, outcome(1.25, scores(0), torch.tensor([0])))

        values = meter.read()

        assert values is not None
        assert values.steps.tolist() == [1]
        assert values.values["loss"].tolist() == [2.0]
        assert values.values["accuracy"].tolist() == [0.75]

    @pytest.mark.parametrize("told", [True, False], ids=["discarded", "begun anew"])
    def test_a_step_that_is_skipped_or_redone_leaves_no_trace(self, told: bool) -> None:
        meter = classification()
        ended(meter, 1, outcome(1.0, scores(0), torch.tensor([0])))
        meter.begin_step()
        meter.add(outcome(math.nan, scores(1, 1), torch.tensor([0, 0])))
        if told:
            meter.discard_step()
        ended(meter, 3, outcome(3.0, scores(0), torch.tensor([0])))

        values = meter.read()

        assert values is not None
        assert values.steps.tolist() == [1, 3]
        assert values.values["loss"].tolist() == [1.0, 3.0]
        assert meter.epoch_summary() == {"loss": 2.0, "accuracy": 1.0}

    def test_a_step_that_has_not_ended_is_not_read(self) -> None:
        meter = classification()
        meter.begin_step()
        meter.add(outcome(1.0, scores(0), torch.tensor([0])))
        assert meter.read() is None

        meter.end_step(torch.tensor(1.0), 1, 5)
        values = meter.read()
        assert values is not None
        assert values.steps.tolist() == [5]

    @pytest.mark.parametrize("weight", [1, torch.tensor(2.0)], ids=["number", "tensor"])
    def test_a_read_is_one_transfer(self, weight: float | Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
        meter = classification()
        for number in range(5):
            ended(meter, number, outcome(1.0, scores(0, 1), torch.tensor([0, 2])), weight=weight)
        transfers = []
        cpu = Tensor.cpu
        monkeypatch.setattr(Tensor, "cpu", lambda tensor: transfers.append(tensor.shape) or cpu(tensor))
        for name in ("item", "tolist", "__float__", "__bool__"):
            monkeypatch.setattr(Tensor, name, lambda tensor: pytest.fail("a transfer of its own"))

        assert meter.read() is not None

        assert len(transfers) == 1

    def test_a_metric_that_means_nothing_on_one_batch_is_left_to_the_epoch(self) -> None:
        meter = Meter(Regression(nn.MSELoss()))
        ended(meter, 1, outcome(1.0, torch.tensor([[1.0], [2.0]]), torch.tensor([[1.0], [3.0]])))

        values = meter.read()

        assert values is not None
        assert set(values.values) == {"loss", "mae", "rmse"}
        assert meter.epoch_summary()["r2"] == pytest.approx(0.5)

    def test_what_is_held_keeps_no_graph_alive(self) -> None:
        meter = classification()
        outputs = nn.Linear(3, 3)(scores(0, 1))
        ended(meter, 1, Outcome(outputs.sum(), outputs, torch.tensor([0, 1])), weight=outputs.sum())

        assert not any(tensor.requires_grad for tensor in meter._outputs)
        assert not any(tensor.requires_grad for tensor in (meter._steps[0].loss, meter._steps[0].weight))

    def test_it_asks_to_be_read_before_it_holds_too_much(self) -> None:
        meter = classification()
        for number in range(4096):
            assert not meter.full
            ended(meter, number, outcome(1.0, scores(0), torch.tensor([0])))

        assert meter.full
        meter.read()
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

    def summary(self, reads: set[int], resumed_at: int = 0) -> dict[str, float]:
        meter = Meter(Regression(nn.MSELoss()))
        for number, step in enumerate(self.steps(), start=1):
            ended(meter, number, step)
            if number in reads:
                assert meter.read() is not None
            if number == resumed_at:
                state = json.loads(json.dumps(meter.state()))  # plain numbers
                meter = Meter(Regression(nn.MSELoss()))
                meter.load_state(state)
        meter.read()
        return meter.epoch_summary()

    def test_sums_are_the_same_bits_whenever_they_are_read(self) -> None:
        assert self.summary(set()) == self.summary({1, 2, 17}) == self.summary(set(range(1, 41)))

    def test_sums_are_the_same_bits_in_a_resumed_run(self) -> None:
        assert self.summary({17}, resumed_at=17) == self.summary(set())
        assert self.summary({16}, resumed_at=17) != self.summary(set())  # what was not read is lost

    def test_losses_are_weighed_by_their_samples(self) -> None:
        steps = self.steps()
        expected = sum(float(s.loss.detach()) * len(s.outputs) for s in steps) / sum(len(s.outputs) for s in steps)

        assert self.summary(set())["loss"] == pytest.approx(expected)

    @pytest.mark.parametrize("read_each", [True, False])
    def test_a_weighted_loss_is_the_loss_over_the_whole_epoch(self, read_each: bool) -> None:
        shares = torch.tensor([0.2, 1.0, 9.0])
        task = Classification(nn.CrossEntropyLoss(weight=shares), class_shares=shares)
        meter = Meter(task)
        generator = torch.Generator().manual_seed(0)
        outputs, targets = torch.randn(90, 3, generator=generator), torch.arange(90) // 30  # sorted: unequal weights
        for number, (part, wanted) in enumerate(zip(outputs.split(20), targets.split(20), strict=True), start=1):
            step = task.step(nn.Identity(), Batch(part, wanted))
            ended(meter, number, step, weight=task.weight(wanted))
            if read_each:
                meter.read()
        meter.read()

        summary = meter.epoch_summary()

        whole = nn.functional.cross_entropy(outputs, targets, weight=shares)
        assert summary["loss"] == pytest.approx(float(whole), rel=1e-6)
        assert summary["accuracy"] == pytest.approx(float((outputs.argmax(1) == targets).double().mean()))
        assert summary["loss"] != pytest.approx(float(nn.functional.cross_entropy(outputs, targets)), rel=1e-3)

    def test_a_new_epoch_forgets_the_last(self) -> None:
        meter = classification()
        ended(meter, 1, outcome(2.0, scores(0), torch.tensor([0])))
        meter.read()

        meter.begin_epoch()

        assert math.isnan(meter.epoch_summary()["loss"])
