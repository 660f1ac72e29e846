"""A few real steps that no run keeps, and settings of a run that end to end make only so many steps."""

from __future__ import annotations

import math
import random
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from small_runs import digits, line, python_file, rows, train

from engine.errors import TrainingError
from engine.trials.trial import trial, try_out

NAN_MODEL = """
import torch
class Mine(torch.nn.Linear):
    def forward(self, inputs):
        return super().forward(inputs) * float("nan")
def make():
    return Mine(1, 1)
"""


def silent(what: str, done: int, total: int | None) -> None:
    """Nobody looks."""


class TestTryOut:
    def test_two_steps_are_those_of_a_run(self, root: Path) -> None:
        tried = try_out(digits(), silent)
        job = train(digits({"training.epochs": 1}), root)

        assert len(tried.losses) == 2
        assert list(tried.losses) == [rows(job.directory)["train/loss"][step] for step in (1, 2)]
        assert tried.steps == 24
        assert tried.estimate == pytest.approx(24 * tried.seconds)

    def test_the_memory_is_that_of_weights_gradients_and_momentum(self) -> None:
        tried = try_out(line({"optimizer.momentum": 0.9}), silent)

        parameters = (1 * 8 + 8 + 8 * 1 + 1) * 4
        assert tried.memory == {"weights": parameters, "gradients": parameters, "optimizer": parameters}
        assert tried.total > 2**30

    def test_a_loss_that_is_no_number_fails(self, tmp_path: Path) -> None:
        recipe = line({"model": {"python": python_file(tmp_path, NAN_MODEL) + ":make"}})

        with pytest.raises(TrainingError, match="the loss of step 1 is not finite"):
            try_out(recipe, silent)


class TestNoTrace:
    def test_random_numbers_and_switches_are_as_before(self) -> None:
        before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()

        try_out(digits({"training.deterministic": True}), silent)

        assert random.getstate() == before[0]
        assert np.random.get_state()[1].tolist() == before[1]
        assert torch.equal(torch.get_rng_state(), before[2])
        assert not torch.are_deterministic_algorithms_enabled()

    def test_its_folder_is_gone_and_no_run_is_made(
        self, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
        monkeypatch.setenv("TORCH_TUI_RUNS", str(root))

        with trial(line(), silent):
            assert list(tmp_path.iterdir())

        assert not list(tmp_path.iterdir())

    def test_also_when_it_fails(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

        with pytest.raises(ValueError, match="mine"), trial(line(), silent):
            raise ValueError("mine")

        assert not list(tmp_path.iterdir())


class TestSteps:
    def test_epochs_follow_each_other(self) -> None:
        with trial(line(), silent) as tried:
            assert tried.epoch_steps == 5
            assert len(list(tried.steps(12))) == 12

    def test_one_that_is_not_finite_is_the_last(self, tmp_path: Path) -> None:
        recipe = line({"model": {"python": python_file(tmp_path, NAN_MODEL) + ":make"}})

        with trial(recipe, silent) as tried:
            (loss,) = tried.steps(12)

        assert math.isnan(loss)


class TestLimited:
    def test_an_epoch_has_as_many_batches_as_asked_for(self, root: Path) -> None:
        job = train(digits({"training.limit_batches": 2}), root)

        assert list(rows(job.directory)["train/loss"]) == [1, 2, 3, 4, 5, 6]
        assert list(rows(job.directory)["val/loss"]) == [2, 4, 6]
        assert any("at most 2 batches of each part an epoch" in said for said in job.history.log)

    def test_one_batch_is_learned_by_heart(self, root: Path) -> None:
        changes = {"training.overfit_one_batch": True, "training.limit_batches": 40, "training.epochs": 2}
        # Dropout forgets on purpose, and the schedule would end at nothing.
        recipe = digits({**changes, "model.layers.4.p": 0.0, "scheduler": None})

        job = train(recipe, root)

        losses = list(rows(job.directory)["train/loss"].values())
        assert len(losses) == 80
        assert losses[0] > 2
        assert losses[-1] < 0.05
        assert not rows(job.directory, "val/", "test/")

    def test_all_batches_are_not(self, root: Path) -> None:
        losses = list(rows(train(digits(), root).directory)["train/loss"].values())

        assert losses[-1] > 0.05
