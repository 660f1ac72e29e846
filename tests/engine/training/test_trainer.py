from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from small_runs import (
    digits,
    finish,
    line,
    make_trainer,
    python_file,
    rows,
    same,
    start,
    stop_at,
    train,
    wait_for,
    weights,
)
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

import presets
from engine.checkpoints.checkpoint import Checkpoints
from engine.data.prepare import Prepared, prepare
from engine.data.serving.batches import Batch
from engine.errors import TrainingError
from engine.job import Job
from engine.recipe import Recipe
from engine.tasks.base import Outcome
from engine.tasks.regression import Regression


def data_of(recipe: Recipe) -> Prepared:
    return prepare(recipe, torch.device("cpu"), lambda what, done, total: None)


def perceptron() -> nn.Sequential:
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 10))


def small_line_model() -> nn.Sequential:
    return nn.Sequential(nn.Linear(1, 8), nn.ReLU(), nn.Linear(8, 1))


class TestPlainLoop:
    """The loop is the one of every PyTorch tutorial."""

    recipe = presets.load("digits-mlp").recipe.override({"training.device": "cpu"})

    def by_hand(self, recipe: Recipe, steps: int) -> tuple[list[float], nn.Module]:
        batches = data_of(recipe).train.epoch(0)
        torch.manual_seed(recipe.training.seed)
        model = perceptron()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
        losses = []
        for _, batch in zip(range(steps), batches, strict=False):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(batch.inputs), batch.targets)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        return losses, model

    def test_twenty_steps_have_the_losses_and_weights_of_a_hand_written_loop(self, root: Path) -> None:
        job = train(self.recipe, root, stop_at(20))
        losses, model = self.by_hand(self.recipe, 20)

        assert list(rows(job.directory)["train/loss"].values()) == pytest.approx(losses, abs=1e-6)
        assert list(rows(job.directory)["train/loss"]) == list(range(1, 21))
        for name, tensor in model.state_dict().items():
            torch.testing.assert_close(weights(job.directory)[name], tensor, rtol=0, atol=1e-6)

    def test_another_seed_has_other_losses(self, root: Path) -> None:
        job = train(self.recipe.override({"training.seed": 1}), root, stop_at(20))

        losses, _ = self.by_hand(self.recipe, 20)

        assert list(rows(job.directory)["train/loss"].values()) != pytest.approx(losses, abs=1e-6)


class TestAccumulation:
    # Thirteen samples in four parts: 4, 4, 4 and 1.
    recipe = line({"data.batch_size": 13, "optimizer.momentum": 0.9})

    def test_four_uneven_parts_equal_one_big_batch(self, root: Path) -> None:
        whole = train(self.recipe, root)
        parts = train(self.recipe.override({"training.accumulate": 4}), root)

        ours, theirs = rows(parts.directory, "train", "epoch", "val"), rows(whole.directory, "train", "epoch", "val")
        assert ours.keys() == theirs.keys()
        for name in ours:
            assert ours[name] == pytest.approx(theirs[name], abs=1e-5), name
        for name, tensor in weights(whole.directory).items():
            torch.testing.assert_close(weights(parts.directory)[name], tensor, rtol=0, atol=1e-5)

    def test_parts_that_count_alike_would_differ_from_the_big_batch(self, root: Path) -> None:
        class Even(Regression):
            """Each part of four counts a fourth, however many samples it has."""

            def weight(self, targets: Tensor) -> float:
                return -(-len(targets) // 4)

        whole, even = small_line_model(), small_line_model()
        even.load_state_dict(whole.state_dict())
        make_trainer(self.recipe, whole, root).run()
        recipe = self.recipe.override({"training.accumulate": 4})
        make_trainer(recipe, even, root, task=Even(nn.MSELoss())).run()

        assert not torch.allclose(whole[0].weight, even[0].weight, rtol=0, atol=1e-5)

    def test_more_parts_than_samples_are_as_many_as_there_are_samples(self, root: Path) -> None:
        job = train(self.recipe.override({"training.accumulate": 50}), root)

        assert job.history.error is None
        assert list(rows(job.directory)["train/loss"].values()) == pytest.approx(
            list(rows(train(self.recipe, root).directory)["train/loss"].values()), abs=1e-5
        )


class Spy(nn.Module):
    """A model that notes in which mode it is called."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = small_line_model()
        self.seen: list[tuple[bool, bool, bool]] = []

    def forward(self, inputs: Tensor) -> Tensor:
        self.seen.append((self.training, torch.is_grad_enabled(), torch.is_inference_mode_enabled()))
        return self.inner(inputs)


class TestModes:
    def test_steps_run_in_training_mode_and_evaluation_in_inference_mode(self, root: Path) -> None:
        spy = Spy()

        make_trainer(line(), spy, root).run()

        step, evaluation = (True, True, False), (False, False, True)
        assert spy.seen == [*[step] * 5, evaluation] * 2 + [evaluation]

    def test_a_model_left_in_evaluation_mode_by_the_person_is_trained_all_the_same(self, root: Path) -> None:
        spy = Spy().eval()

        make_trainer(line(), spy, root).run()

        assert spy.seen[0] == (True, True, False)

    def test_batch_norm_takes_its_statistics_from_training_batches_alone(self, root: Path) -> None:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(1, 8), nn.BatchNorm1d(8), nn.Linear(8, 1))
        plain = nn.Sequential(nn.Linear(1, 8), nn.BatchNorm1d(8), nn.Linear(8, 1))
        plain.load_state_dict(model.state_dict())
        recipe = line({"training.epochs": 1})

        make_trainer(recipe, model, root).run()
        optimizer = torch.optim.SGD(plain.parameters(), lr=0.05)
        for batch in data_of(recipe).train.epoch(0):
            optimizer.zero_grad()
            nn.functional.mse_loss(plain(batch.inputs), batch.targets).backward()
            optimizer.step()

        assert int(model[1].num_batches_tracked) == 5
        torch.testing.assert_close(model[1].running_mean, plain[1].running_mean)
        torch.testing.assert_close(model[1].running_var, plain[1].running_var)


class CountReads(TorchDispatchMode):
    """Counts the operations that bring a single number from the device to Python."""

    def __init__(self) -> None:
        super().__init__()
        self.reads = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.reads += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


class TestSyncs:
    recipe = line({"data.batch_size": 2, "data.transforms": [], "training.clip_grad_norm": 1.0, "training.epochs": 3})

    def test_no_step_reads_a_number_from_the_device(self, root: Path) -> None:
        """On the CPU each loss is looked at, which costs nothing there; on a GPU the loop does not: see FirstAid."""
        trainer = make_trainer(self.recipe, small_line_model(), root)
        trainer._aid.check_loss = lambda loss: None  # type: ignore[method-assign]

        with CountReads() as counter:
            trainer.run()

        # Three validations, one test, the checkpoints, and ten times a second the clipped norm; not 240 steps.
        assert counter.reads <= 60

    def test_a_step_that_reads_a_number_would_be_seen(self, root: Path) -> None:
        class Reading(Regression):
            def step(self, model: nn.Module, batch: Batch) -> Outcome:
                outcome = super().step(model, batch)
                outcome.loss.item()
                return outcome

        with CountReads() as counter:
            make_trainer(self.recipe, small_line_model(), root, task=Reading(nn.MSELoss())).run()

        assert counter.reads >= 240


class TestEnd:
    def test_the_weights_that_validated_best_are_tested(self, root: Path) -> None:
        class Worsening(nn.Module):
            """Predicts well until its second epoch, and then ever worse."""

            def __init__(self) -> None:
                super().__init__()
                self.slope = nn.Parameter(torch.tensor([[2.0]]))

            def forward(self, inputs: Tensor) -> Tensor:
                return inputs * self.slope

        recipe = line({"training.epochs": 4})
        trainer = make_trainer(recipe, Worsening(), root)
        # Learning the other way makes each epoch worse than the one before.
        trainer._optim.optimizer.param_groups[0].update(lr=0.5, maximize=True)

        summary = trainer.run()

        assert summary.best_epoch == 1
        assert summary.test["r2"] > 0.9

    def test_of_epochs_that_validate_alike_the_first_is_the_best_and_is_tested(self, root: Path) -> None:
        job = train(line({"optimizer.lr": 1e-30, "training.epochs": 4}), root)

        best = Checkpoints(job.directory.checkpoints).best()
        assert job.history.summary is not None
        assert job.history.summary.best_epoch == 1
        assert best is not None
        assert best.epoch == 1

    def test_without_validation_the_training_values_choose_the_best(self, root: Path) -> None:
        job = train(line({"data.split": {"train": 1.0, "val": 0.0, "test": 0.0}}), root)

        assert job.history.error is None
        assert not any(name.startswith(("val/", "test/")) for name in rows(job.directory))
        assert job.history.summary is not None
        assert job.history.summary.best == rows(job.directory)["epoch/r2"][job.history.summary.best_epoch * 7]

    def test_epoch_values_are_means_over_the_epochs_samples(self, root: Path) -> None:
        job = train(line({"training.epochs": 1, "optimizer.lr": 1e-30}), root)

        sizes = [32, 32, 32, 32, 32]  # 160 training points
        losses = list(rows(job.directory)["train/loss"].values())
        mean = sum(loss * size for loss, size in zip(losses, sizes, strict=True)) / 160
        assert rows(job.directory)["epoch/loss"][5] == pytest.approx(mean, rel=1e-12)

    def test_two_runs_of_one_recipe_are_equal_to_the_bit(self, root: Path) -> None:
        one, two = train(digits(), root), train(digits(), root)

        assert same(weights(one.directory), weights(two.directory))
        assert rows(one.directory, "train", "val") == rows(two.directory, "train", "val")


class TestTrouble:
    def test_a_loss_that_is_not_a_number_names_its_step_and_says_what_to_do(self, root: Path) -> None:
        class BreaksAtStepThree(Regression):
            steps = 0

            def step(self, model: nn.Module, batch: Batch) -> Outcome:
                outcome = super().step(model, batch)
                self.steps += 1
                return Outcome(outcome.loss * (float("nan") if self.steps == 3 else 1), outcome.outputs, batch.targets)

        trainer = make_trainer(line(), small_line_model(), root, task=BreaksAtStepThree(nn.MSELoss()))

        with pytest.raises(TrainingError, match=r"the loss is not finite at step 3; .* Try a lower optimizer\.lr"):
            trainer.run()

    def test_progress_tells_epoch_step_and_samples_while_it_trains(self, root: Path) -> None:
        job = start(line({"training.epochs": 100_000}), root)
        try:
            # An epoch of five steps is too short to be timed alone; several are timed together.
            wait_for(lambda: job.history.progress.samples_per_second > 0)
            progress = job.history.progress
        finally:
            job.control.stop()
            finish(job)

        assert progress.epochs == 100_000
        assert progress.steps == 500_000
        assert progress.epoch_samples == 160
        assert 0 < progress.step <= 5 * (progress.epoch + 1)
        assert progress.remaining is not None
        assert progress.remaining > 0
        assert progress.learning_rate == 0.05


LATE = """
from torch import nn
class Late(nn.Module):
    def __init__(self, outputs):
        super().__init__()
        self.body, self.steps = nn.Linear(1, outputs), 0
    def forward(self, inputs):
        self.steps += self.training and inputs.device.type == "cpu"
        {}
        return self.body(inputs)
def make(outputs):
    return Late(outputs)
"""


@pytest.mark.parametrize(
    ("statement", "name"),
    [
        ("self.head = getattr(self, 'head', nn.Linear(1, 1))", "head.weight and 1 more"),
        ("self.body.bias = nn.Parameter(self.body.bias.detach() + 1)", "body.bias"),
        ("if self.steps == 3: self.extra = nn.Linear(1, 1)", "extra.weight and 1 more"),
        ("self.body.bias.requires_grad_(self.steps > 3)", ""),  # which the optimizer has from the start
    ],
)
def test_a_parameter_that_no_optimizer_moves_is_named(statement: str, name: str, tmp_path: Path, root: Path) -> None:
    recipe = line({"model": {"python": python_file(tmp_path, LATE.format(statement)) + ":make"}})
    job = train(recipe, root)
    assert (f"model: {name} appeared in training" in str(job.history.error)) == bool(name)
    assert (job.history.error is None) != bool(name)


def test_a_job_that_was_never_started_is_not_alive(root: Path) -> None:
    assert not Job.create(line(), root, "line").alive
