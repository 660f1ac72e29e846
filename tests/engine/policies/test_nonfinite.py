"""Numbers that are none: the step, the layer and the samples are named, and what the recipe says is done."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from small_runs import line, make_trainer, python_file, resume, rows, same, train, weights
from torch import Tensor, nn

from engine.checkpoints.checkpoint import Checkpoints, load
from engine.data.serving.batches import Batch
from engine.errors import TrainingError
from engine.job import Job
from engine.policies.nonfinite import all_finite, bad_samples, first_bad_layer
from engine.recipe import Recipe
from engine.tasks.base import Outcome
from engine.tasks.regression import Regression
from engine.training.trainer import Trainer

DATA = """
import torch
class Points:
    "Points of mine; the one with the number 7 is not whole."
    def __len__(self):
        return 40
    def __getitem__(self, index):
        target = torch.tensor([index / 20])
        return torch.tensor([float("nan") if index == 7 else index / 40]), target
def make():
    return Points()
"""


class Explodes(torch.autograd.Function):
    """The identity, whose gradient is infinite."""

    @staticmethod
    def forward(context: Any, inputs: Tensor) -> Tensor:
        return inputs.clone()

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:
        return gradient * math.inf


class Faulty(nn.Module):
    """Makes NaN (`loss`) or an infinite gradient in its second Linear, on the training batches `calls` alone."""

    def __init__(self, kind: str, *calls: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.norm, self.drop = nn.Linear(1, 8), nn.BatchNorm1d(8), nn.Dropout(0.2)
        self.second, self.third = nn.Linear(8, 8), nn.Linear(8, 1)
        self._kind, self._calls, self._count = kind, calls, 0
        self._batches: list[Tensor] = []
        self.second.register_forward_hook(self._spoil)

    def forward(self, inputs: Tensor) -> Tensor:
        if self.training and not (self._batches and torch.equal(self._batches[-1], inputs)):  # not looked at once more
            self._batches.append(inputs)
            self._count += 1
        outputs: Tensor = self.third(torch.relu(self.second(self.drop(self.norm(self.first(inputs))))))
        return outputs

    def _spoil(self, module: nn.Module, inputs: object, output: Tensor) -> Tensor:
        if not self.training or self._count not in self._calls:
            return output
        return output * math.nan if self._kind == "loss" else Explodes.apply(output)  # type: ignore[no-any-return]


def recipe(policy: str, **changes: Any) -> Recipe:
    dotted = {f"training.{key}": value for key, value in changes.items()}
    return line({"training.on_nan": policy, "training.health_every": 1, "optimizer.momentum": 0.9, **dotted})


def trainer_of(model: nn.Module, root: Path, policy: str, **changes: Any) -> Trainer:
    torch.manual_seed(1)
    return make_trainer(recipe(policy, **changes), model, root)


def failure(trainer: Trainer) -> str:
    with pytest.raises(TrainingError) as raised:
        trainer.run()
    trainer.close()
    return str(raised.value)


def events(trainer: Trainer, kind: str) -> list[tuple[int, str]]:
    return [(event.step, event.text) for event in trainer._recorder.history.events if event.kind == kind]


def folder_of(trainer: Trainer) -> Path:
    return trainer._recorder.directory.path


def checkpoints(trainer: Trainer) -> Checkpoints:
    return Checkpoints(trainer._recorder.directory.checkpoints)


class TestStop:
    def test_step_layer_and_samples_of_a_loss_are_named_and_kept(self, root: Path) -> None:
        trainer = trainer_of(Faulty("loss", 3), root, "stop")
        batch, samples = trainer._train.peek(0, 64), trainer._train.indices(0, 64)

        text = failure(trainer)

        assert "the loss is not finite at step 3; it first appeared in second (Linear); the batch was samples" in text
        assert ", ".join(map(str, samples[:8])) in text
        place = folder_of(trainer) / "nonfinite-step-000000003"
        assert str(place) in text
        report = json.loads((place / "report.json").read_text())
        assert (report["step"], report["kind"], report["layer"]) == (3, "loss", "second (Linear)")
        assert report["samples"] == samples
        kept = load_file(place / "batch.safetensors")
        assert torch.equal(kept["inputs"], batch.inputs)
        assert torch.equal(kept["targets"], batch.targets)

    def test_the_checkpoint_is_of_the_last_whole_step(self, root: Path) -> None:
        spoilt = trainer_of(Faulty("loss", 3), root, "stop")
        failure(spoilt)
        newest = checkpoints(spoilt).all()[-1]

        assert newest.step == 2
        assert int(load(newest).weights["norm.num_batches_tracked"]) == 2

    def test_a_sample_of_the_dataset_that_has_it_is_named(self, root: Path, tmp_path: Path) -> None:
        file = python_file(tmp_path, DATA, "data.py")
        data = {"python": f"{file}:make", "batch_size": 8, "split": {"train": 1.0, "val": 0.0, "test": 0.0}}

        job = train(line({"data": data}), root)

        text = str(job.history.error)
        assert "sample 7 of the dataset has it already" in text
        (place,) = job.directory.path.glob("nonfinite-step-*")
        assert json.loads((place / "report.json").read_text())["bad_samples"] == [7]
        batch = load_file(place / "batch.safetensors")
        assert int(batch["inputs"].isnan().sum()) == 1

    def test_a_bad_gradient_is_noticed_late_and_searched_for_from_the_last_checkpoint(self, root: Path) -> None:
        class Once(Faulty):
            """Its fault depends on the batch, as that of a real model does, not on how often it was called."""

            def _spoil(self, module: nn.Module, inputs: object, output: Tensor) -> Tensor:
                at = self._batches[-1] if self._batches else None
                if self.training and at is not None and any(torch.equal(at, bad) for bad in self.bad):
                    return Explodes.apply(output)  # type: ignore[no-any-return]
                return output

        model = Once("gradient")
        trainer = trainer_of(model, root, "stop")
        model.bad = [trainer._train.peek(0, 64).inputs]

        text = failure(trainer)

        assert "a gradient is not finite at step 3; it first appeared in second (Linear)" in text
        ((step, said),) = events(trainer, "rollback")
        assert step == 0
        assert "looking at every step to find where. Back to step 0." in said
        assert all(all_finite_in(load(checkpoint).weights) for checkpoint in checkpoints(trainer).all())
        assert checkpoints(trainer).all()[-1].step == 2

    def test_rows_are_there_once_and_in_order_after_it(self, root: Path) -> None:
        trainer = trainer_of(Faulty("gradient", 3), root, "stop")  # the second time it is whole
        trainer.run()
        trainer.close()

        assert_consistent(trainer)
        assert list(rows(trainer._recorder.directory)["train/loss"]) == list(range(1, 11))

    def test_weights_that_are_none_before_the_first_step_are_said(self, root: Path) -> None:
        model = Faulty("loss")
        with torch.no_grad():
            model.first.weight[0] = math.nan

        assert "the model's weights are not finite before the first step" in failure(trainer_of(model, root, "stop"))

    def test_a_mask_of_infinities_is_no_fault(self, root: Path) -> None:
        model = Faulty("loss")
        model.register_buffer("mask", torch.full((2, 2), -math.inf))

        trainer_of(model, root, "stop").run()

    def test_a_loss_that_is_spoilt_by_itself_names_no_layer_but_itself(self, root: Path) -> None:
        class Spoilt(Regression):
            def step(self, model: nn.Module, batch: Batch) -> Outcome:
                outcome = super().step(model, batch)
                return Outcome(outcome.loss * math.nan, outcome.outputs, outcome.targets)

        trainer = make_trainer(recipe("stop"), Faulty("loss"), root, task=Spoilt(nn.MSELoss()))

        assert "the loss is not finite at step 1; it first appeared in the loss itself; the batch" in failure(trainer)


class TestSkip:
    @pytest.mark.parametrize("kind", ["loss", "gradient"])
    def test_the_step_leaves_nothing_behind(self, kind: str, root: Path) -> None:
        """The same as a run whose third batch is not there."""
        spoilt, whole = Faulty(kind, 3), Faulty(kind)
        skipping = trainer_of(spoilt, root, "skip", epochs=1)
        without = trainer_of(whole, root, "skip", epochs=1)
        without._train = Without(without._train, 2)

        for trainer in (skipping, without):
            torch.manual_seed(1)
            trainer.run()

        assert same(spoilt.state_dict(), whole.state_dict())
        assert int(spoilt.norm.num_batches_tracked) == 4
        (state, other) = (each._optim.optimizer.state_dict()["state"] for each in (skipping, without))
        assert all(torch.equal(state[at]["momentum_buffer"], other[at]["momentum_buffer"]) for at in state)

    def test_it_is_an_event_and_a_gap_in_the_curve(self, root: Path) -> None:
        trainer = trainer_of(Faulty("gradient", 3), root, "skip")
        trainer.run()
        trainer.close()

        ((step, said),) = events(trainer, "nan")
        assert step == 2
        assert "a gradient is not finite at step 3; it first appeared in second (Linear)" in said
        assert "the step is skipped" in said
        assert list(rows(trainer._recorder.directory)["train/loss"]) == [1, 2, *range(4, 11)]
        assert_consistent(trainer)

    def test_more_than_a_hundred_are_no_accident(self, root: Path) -> None:
        trainer = trainer_of(Faulty("loss", *range(1, 1000)), root, "skip", epochs=40)

        text = failure(trainer)

        assert "not finite at step 101" in text
        assert len(events(trainer, "nan")) == 100

    def test_an_epoch_of_skipped_steps_alone_ends(self, root: Path) -> None:
        values = {"data.split": {"train": 1.0, "val": 0.0, "test": 0.0}, "training.on_nan": "skip"}
        trainer = make_trainer(line(values), Faulty("loss", *range(1, 100)), root)

        trainer.run()


class TestRollback:
    def test_it_goes_back_with_a_lower_rate_and_ends(self, root: Path) -> None:
        trainer = trainer_of(Faulty("loss", 8), root, "rollback", epochs=3, nan_lr_factor=0.5)
        trainer.run()
        trainer.close()

        ((step, said),) = events(trainer, "rollback")
        assert step == 5
        assert "the loss is not finite at step 8" in said
        assert said.endswith("Back to step 5, learning rate now 0.025.")
        assert trainer._optim.learning_rate == 0.025
        assert list(rows(trainer._recorder.directory)["train/loss"]) == list(range(1, 16))
        assert_consistent(trainer)

    def test_each_lowers_the_rate_by_the_factor_once_more(self, root: Path) -> None:
        trainer = trainer_of(Faulty("loss", 8, 12, 20), root, "rollback", epochs=4)
        trainer.run()

        assert [said.rpartition(" ")[2] for _, said in events(trainer, "rollback")] == ["0.025.", "0.0125.", "0.00625."]

    def test_the_lower_rate_is_in_the_checkpoint_at_once(self, root: Path) -> None:
        trainer = trainer_of(Faulty("loss", *range(8, 100)), root, "rollback")

        failure(trainer)

        first = next(each for each in checkpoints(trainer).all() if each.step == 5)
        groups = load(first).state["optim"]["optimizer"]["param_groups"]
        assert groups[0]["lr"] == pytest.approx(0.05 * 0.5**5)

    def test_more_than_five_are_no_accident(self, root: Path) -> None:
        trainer = trainer_of(Faulty("loss", *range(3, 100)), root, "rollback")

        assert "the loss is not finite at step 1" in failure(trainer)
        assert len(events(trainer, "rollback")) == 5

    def test_the_time_that_was_lost_is_not_counted_twice(self, root: Path) -> None:
        trainer = trainer_of(Faulty("loss", 8), root, "rollback", epochs=3)
        trainer._clock._started -= 1000

        before = trainer._clock.seconds()
        summary = trainer.run()

        assert before >= 1000 > summary.seconds


class TestJob:
    MODEL = """
import torch
class Mine(torch.nn.Linear):
    calls = 0
    def forward(self, inputs):
        self.calls += self.training and inputs.device.type == "cpu"
        return super().forward(inputs) * (float("nan") if self.calls == 4 else 1)
def make():
    return Mine(1, 1)
"""

    def test_a_run_that_failed_so_can_be_resumed(self, root: Path, tmp_path: Path) -> None:
        recipe = line({"model": {"python": python_file(tmp_path, self.MODEL) + ":make"}})

        failed = train(recipe, root)
        assert "not finite at step 4" in str(failed.history.error)
        job: Job = resume(failed.directory)  # three steps are behind it, so the fourth call is another step

        assert list(rows(job.directory)["train/loss"])[:3] == [1, 2, 3]
        assert all_finite_in(weights(job.directory))


class TestParts:
    def test_the_first_layer_at_fault_is_the_one_whose_inputs_are_whole(self) -> None:
        model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2))
        with torch.no_grad():
            model[1].weight[0, 0] = math.inf

        assert first_bad_layer(model, lambda: model(torch.ones(1, 2))) == "1 (Linear)"
        assert all(not module._forward_hooks for module in model.modules())

    def test_bad_inputs_and_bad_targets_are_both_seen(self) -> None:
        inputs, targets = torch.zeros(4, 3), torch.zeros(4, 1)
        inputs[1, 2], targets[3, 0] = math.inf, math.nan

        assert bad_samples(Batch(inputs, targets), [10, 11, 12, 13]) == [11, 13]
        assert bad_samples(Batch(torch.zeros(2, 3), torch.tensor([0, 1])), [0, 1]) == []

    def test_weights_are_looked_at_whole(self) -> None:
        model = nn.Linear(2, 2)
        assert all_finite(dict(model.named_parameters()))
        with torch.no_grad():
            model.bias[1] = math.nan
        assert not all_finite(dict(model.named_parameters()))


class Without:
    """Batches without one of each epoch."""

    def __init__(self, batches: Any, number: int) -> None:
        self._batches, self._number = batches, number

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batches, name)

    def epoch(self, epoch: int, start: int = 0) -> Any:
        return (batch for at, batch in enumerate(self._batches.epoch(epoch, start)) if at != self._number)


def all_finite_in(tensors: dict[str, Tensor]) -> bool:
    return all(bool(tensor.isfinite().all()) for tensor in tensors.values())


def assert_consistent(trainer: Trainer) -> None:
    """Memory and disk hold the same points, each step once and ascending."""
    history = trainer._recorder.history
    trainer._recorder.close()
    kept = trainer._recorder.directory.history()
    assert set(kept.series) >= set(history.series)
    for name, series in history.series.items():
        steps, values = series.curve()
        assert (steps[1:] > steps[:-1]).all(), name
        assert [value.tolist() for value in kept.series[name].curve()] == [steps.tolist(), values.tolist()], name
