from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from nursery import Nursery, call
from small_runs import (
    AtLook,
    digits,
    finish,
    line,
    make_trainer,
    python_file,
    resume,
    rows,
    same,
    start,
    stop_at,
    train,
    wait_for,
    weights,
)

from engine.checkpoints.checkpoint import Checkpoints, load
from engine.data.prepare import describe
from engine.errors import RunError
from engine.job import Job
from engine.models.build import build_model
from engine.recipe import Recipe
from engine.resuming.randomness import random_state
from engine.runs.directory import RunDirectory
from engine.runs.history import LIVE, Series
from engine.training.control import Control

# `digits` has eight steps, three validation batches and one end an epoch: twelve looks at the control.
PLACES = {
    "first step": 1,
    "mid-epoch": 5,
    "last step of an epoch": 8,
    "validation": 10,
    "end of an epoch": 12,
    "second epoch": 12 + 3,
    "last step of all": 24 + 8,
    "end of the last epoch": 36,
    "test": 36 + 2,
}
SEQUENCE = {
    "name": "SequentialLR",
    "every": "step",
    "milestones": [10],
    "schedulers": [
        {"name": "LinearLR", "start_factor": 0.1, "total_iters": 10},
        {"name": "CosineAnnealingLR", "T_max": 14},
    ],
}
EXACT = ("train/", "val/", "epoch/", "test/")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """The run that nothing disturbed."""
    return train(digits(), tmp_path_factory.mktemp("whole")).directory


def assert_equal_to_the_bit(resumed: RunDirectory, undisturbed: RunDirectory) -> None:
    assert same(weights(resumed), weights(undisturbed))
    assert rows(resumed, *EXACT) == rows(undisturbed, *EXACT)
    ours, theirs = resumed.status().summary, undisturbed.status().summary
    assert ours is not None
    assert theirs is not None
    assert (ours.best, ours.best_epoch, ours.test) == (theirs.best, theirs.best_epoch, theirs.test)


class TestExact:
    @pytest.mark.parametrize("place", PLACES)
    def test_a_run_cut_anywhere_ends_with_the_same_bits_and_rows(
        self, place: str, whole: RunDirectory, root: Path
    ) -> None:
        cut = train(digits(), root, stop_at(PLACES[place]))
        assert cut.directory.status().state == "stopped"

        job = resume(cut.directory)

        assert job.history.error is None
        assert job.directory.status().state == "done"
        assert_equal_to_the_bit(job.directory, whole)

    def test_cut_twice_and_resumed_twice_is_the_same(self, whole: RunDirectory, root: Path) -> None:
        cut = train(digits(), root, stop_at(3))
        resume(cut.directory, stop_at(6))
        assert Checkpoints(cut.directory.checkpoints).all()[-1].step == 8

        resume(cut.directory)

        assert_equal_to_the_bit(cut.directory, whole)

    @pytest.mark.parametrize(
        "changes",
        [
            pytest.param({"scheduler": {"name": "ReduceLROnPlateau", "patience": 0}}, id="plateau"),
            pytest.param({"training.accumulate": 3, "training.clip_grad_norm": 0.5}, id="accumulate"),
            pytest.param({"data.in_memory": False}, id="loader"),
            pytest.param({"optimizer": {"name": "AdamW", "lr": 0.01}, "scheduler": None}, id="adamw"),
            pytest.param({"optimizer": {"name": "LBFGS", "lr": 0.1, "max_iter": 4}, "scheduler": None}, id="lbfgs"),
            pytest.param({"training.precision": "bf16"}, id="bf16"),
            pytest.param({"data.num_workers": 2}, id="workers"),
            pytest.param({"training.average.kind": "ema", "training.average.decay": 0.9}, id="ema"),
            pytest.param({"training.average.kind": "swa"}, id="swa"),
            pytest.param({"training.average.kind": "ema", "data.num_workers": 2}, id="ema with workers"),
            pytest.param(
                {"training.early_stopping": {"metric": "accuracy", "patience": 1, "min_delta": 0.9}},
                id="early stopping",
            ),
            pytest.param({"optimizer.warmup": "11 steps", "scheduler": None}, id="warm-up"),
            pytest.param({"scheduler": SEQUENCE}, id="SequentialLR"),
            pytest.param({"training.clip_grad_value": 0.01}, id="clip by value"),
            pytest.param({"loss.class_weights": "balanced"}, id="class weights"),
            pytest.param({"training.gradient_checkpointing": True}, id="gradient checkpointing"),
            pytest.param({"optimizer": {"name": "Muon", "lr": 0.01}, "scheduler": None}, id="muon"),
            pytest.param(
                {
                    "training.channels_last": True,
                    "optimizer": {"name": "AdamW", "lr": 0.01},
                    "scheduler": None,
                    "model": {
                        "layers": [
                            {"name": "Conv2d", "out_channels": 4, "kernel_size": 5},
                            {"name": "ReLU"},
                            {"name": "Conv2d", "out_channels": 6, "kernel_size": 3, "stride": 3},
                            {"name": "Flatten"},
                            {"name": "Linear", "out_features": "classes"},
                        ]
                    },
                },
                id="channels_last",
            ),
            pytest.param(
                {
                    "training.channels_last": True,
                    "optimizer": {"name": "AdamW", "lr": 0.01, "fused": True},
                    "scheduler": None,
                    "model": {
                        "layers": [
                            {"name": "Conv2d", "out_channels": 4, "kernel_size": 5},
                            {"name": "ReLU"},
                            {"name": "Conv2d", "out_channels": 6, "kernel_size": 3, "stride": 3},
                            {"name": "Flatten"},
                            {"name": "Linear", "out_features": "classes"},
                        ]
                    },
                },
                id="channels_last, fused",  # a step that walks moments and weights as they lie in memory
            ),
        ],
    )
    def test_so_it_is_with(self, changes: dict[str, Any], root: Path) -> None:
        recipe = digits(changes)
        undisturbed = train(recipe, root)
        assert undisturbed.history.error is None
        cut = train(recipe, root, stop_at(12 + 5))

        resume(cut.directory)

        assert_equal_to_the_bit(cut.directory, undisturbed.directory)

    @pytest.mark.parametrize("workers", [0, 2])
    def test_so_it_is_with_numbers_to_predict(self, workers: int, root: Path) -> None:
        recipe = line({"data.num_workers": workers, "data.standardize_target": True, "optimizer.momentum": 0.9})
        undisturbed, cut = train(recipe, root), train(recipe, root, stop_at(7 + 2))

        resume(cut.directory)

        assert undisturbed.history.error is None
        assert_equal_to_the_bit(cut.directory, undisturbed.directory)

    def test_early_stopping_counts_on_where_it_was(self, root: Path) -> None:
        """Two epochs without improvement end the run: one before the cut, one after it."""
        rule = {"metric": "accuracy", "patience": 2, "min_delta": 0.99}
        recipe = digits({"training.epochs": 9, "training.early_stopping": rule})
        cut = train(recipe, root, stop_at(24 + 3))

        job = resume(cut.directory)

        assert job.history.progress.step == 24
        assert [event.kind for event in job.history.events] == ["resume", "early stopping"]

    def test_workers_change_no_number(self, whole: RunDirectory, root: Path) -> None:
        loader = train(digits({"data.num_workers": 2}), root)

        assert_equal_to_the_bit(loader.directory, whole)

    def test_a_model_that_draws_from_python_numpy_and_torch_ends_with_the_same_bits(
        self, root: Path, tmp_path: Path
    ) -> None:
        file = python_file(
            tmp_path,
            """
import random
import numpy, torch
class Noisy(torch.nn.Linear):
    def forward(self, inputs):
        noise = random.gauss(0, 1) + numpy.random.normal() + torch.randn(())
        return super().forward(inputs) + (noise if self.training else 0)
def make():
    return Noisy(1, 1)
""",
        )
        recipe = line({"model": {"python": f"{file}:make"}, "optimizer.momentum": 0.9})
        undisturbed, cut = train(recipe, root), train(recipe, root, stop_at(3))

        resume(cut.directory)

        assert_equal_to_the_bit(cut.directory, undisturbed.directory)

    def test_a_rate_set_by_the_person_is_kept(self, root: Path) -> None:
        def faster(control: Any) -> None:
            control.set_learning_rate(0.2)

        undisturbed = train(line(), root, AtLook({2: faster}))
        cut = train(line(), root, AtLook({2: faster, 4: lambda control: control.stop()}))

        job = resume(cut.directory)

        assert_equal_to_the_bit(cut.directory, undisturbed.directory)
        assert [event.kind for event in job.history.events].count("lr") == 1


class TestTwin:
    """What would make the resumed run differ, so that the tests above can fail."""

    def continued(self, root: Path, **left_out: Any) -> RunDirectory:
        """A run cut at its fifth step and continued by hand from a state in which something was replaced."""
        recipe = digits()
        cut = train(recipe, root, stop_at(5)).directory
        loaded = load(Checkpoints(cut.checkpoints).all()[-1])
        trainer = make_trainer(recipe, build_model(recipe, describe(recipe)[1]), root / "by hand")
        trainer.restore(replace(loaded, state={**loaded.state, **left_out}))
        trainer.run()
        trainer.close()
        return RunDirectory(next((root / "by hand").iterdir()))

    def test_with_everything_restored_it_is_equal(self, whole: RunDirectory, root: Path) -> None:
        assert same(weights(self.continued(root)), weights(whole))

    def test_without_the_random_state_it_differs(self, whole: RunDirectory, root: Path) -> None:
        torch.manual_seed(0)
        other = random_state(torch.device("cpu"))

        assert not same(weights(self.continued(root, random=other)), weights(whole))

    def test_without_the_momentum_it_differs(self, whole: RunDirectory, root: Path) -> None:
        cut = train(digits(), root / "again", stop_at(5)).directory
        optim = load(Checkpoints(cut.checkpoints).all()[-1]).state["optim"]

        forgetful = self.continued(root, optim={**optim, "optimizer": {**optim["optimizer"], "state": {}}})

        assert not same(weights(forgetful), weights(whole))


class TestRefused:
    def test_a_run_that_is_done(self, root: Path) -> None:
        job = train(line(), root)

        with pytest.raises(RunError, match=rf"{job.directory.name}: is done\. Train its recipe anew"):
            Job.resumed(job.directory)

    def test_a_run_that_lives(self, root: Path) -> None:
        job = start(line({"training.epochs": 100_000}), root)
        try:
            wait_for(lambda: job.history.progress.step > 0)
            assert job.directory.status().state in LIVE
            with pytest.raises(RunError, match=rf"is being trained by process {os.getpid()} on .*\. Stop it there"):
                Job.resumed(job.directory)
        finally:
            job.control.stop()
            finish(job)

    def test_a_run_whose_checkpoints_are_all_damaged(self, root: Path) -> None:
        cut = train(line(), root, stop_at(3))
        for checkpoint in Checkpoints(cut.directory.checkpoints).all():
            (checkpoint.path / "state.pt").write_bytes(b"")

        job = resume(cut.directory)

        assert isinstance(job.history.error, RunError)
        assert "has no checkpoint that can be read" in str(job.history.error)
        assert job.history.progress.state == "failed"
        assert rows(cut.directory)["train/loss"].keys() == {1, 2, 3}  # nothing was forgotten for nothing

    def test_a_checkpoint_of_another_model(self, root: Path) -> None:
        cut = train(line(), root, stop_at(3))
        recipe = line({"model.layers.0.out_features": 9})
        cut.directory.recipe_file.write_text(recipe.to_toml())

        job = resume(cut.directory)

        assert job.history.error is not None
        assert job.directory.status().state == "failed"


def train_and_die(root: str, look: str, step: str) -> None:
    def die(control: Control) -> None:
        wait_for(lambda: list(Path(root).glob(f"*/checkpoints/*-step-{int(step):09}")))  # a disk may be slow
        os.kill(os.getpid(), signal.SIGKILL)

    train(digits({"training.checkpoint_every": "3 steps"}), Path(root), AtLook({int(look): die}))


class TestKilled:
    @pytest.fixture
    def recipe(self) -> Recipe:
        return digits({"training.checkpoint_every": "3 steps"})

    def test_a_run_killed_mid_epoch_is_interrupted_and_reaches_the_same_weights(
        self, recipe: Recipe, nursery: Nursery, root: Path
    ) -> None:
        assert call(nursery, "test_resume", "train_and_die", root, str(12 + 5), str(12)) == "", "no word of its end"
        directory = RunDirectory(next(root.iterdir()))
        assert directory.status().state == "interrupted"
        assert Checkpoints(directory.checkpoints).all()[-1].step == 12

        resume(directory)

        undisturbed = train(recipe, root)
        assert directory.status().state == "done"
        assert same(weights(directory), weights(undisturbed.directory))
        assert rows(directory, *EXACT) == rows(undisturbed.directory, *EXACT)


class TestCurves:
    def test_a_resumed_job_shows_the_whole_curve(self, whole: RunDirectory, root: Path) -> None:
        job = resume(train(digits(), root, stop_at(13)).directory)

        loss: Series = job.history.series["train/loss"]
        assert loss.curve()[0].tolist() == list(range(1, 25))
        assert loss.curve()[1].tolist() == list(rows(whole)["train/loss"].values())
        assert [event.text for event in job.history.events] == ["resumed from epoch-00001-step-000000009"]
