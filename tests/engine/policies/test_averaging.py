"""Averaged weights: what torch's formulas say, evaluated beside the raw ones, and no trace in the training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from small_runs import digits, line, make_trainer, resume, rows, same, stop_at, train, weights
from torch import Tensor, nn

from engine.checkpoints.checkpoint import Checkpoints, load
from engine.recipe import Recipe
from engine.training.step import Stepper
from engine.training.trainer import Trainer


def model_of_mine() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(1, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Dropout(0.2), nn.Linear(4, 1))


def averaging(recipe: Recipe, kind: str, **settings: Any) -> Recipe:
    return recipe.override({"training.average": {"kind": kind, **settings}})


class Noting(Stepper):
    """Notes the weights after each step."""

    def take(self, batch: Any) -> None:
        super().take(batch)
        self.seen.append({name: tensor.clone() for name, tensor in self._state.model.state_dict().items()})

    seen: list[dict[str, Tensor]]


def followed(trainer: Trainer) -> list[dict[str, Tensor]]:
    stepper = trainer._stepper
    stepper.__class__, stepper.seen = Noting, []  # type: ignore[attr-defined]
    trainer.run()
    trainer.close()
    return stepper.seen  # type: ignore[attr-defined,no-any-return]


def average_of(trainer: Trainer) -> dict[str, Tensor]:
    newest = load(Checkpoints(trainer._recorder.directory.checkpoints).all()[-1])
    assert newest.average is not None
    return newest.average


class TestFormula:
    def test_ema_is_torchs_formula_by_hand_running_statistics_included(self, root: Path) -> None:
        trainer = make_trainer(averaging(line(), "ema", decay=0.9), model_of_mine(), root)

        seen = followed(trainer)

        mean = {name: tensor.clone() for name, tensor in seen[0].items()}
        for weights_then in seen[1:]:
            mean = {name: 0.9 * mean[name] + 0.1 * weights_then[name] for name in mean}
        ours = average_of(trainer)
        for name in ("0.weight", "1.running_mean", "4.bias"):
            torch.testing.assert_close(ours[name], mean[name])
            assert not torch.allclose(ours[name], seen[-1][name], rtol=1e-3)

    def test_swa_is_the_mean_of_the_epochs_ends_after_the_start(self, root: Path) -> None:
        recipe = averaging(line({"training.epochs": 4}), "swa", start=1)
        trainer = make_trainer(recipe, model_of_mine(), root)

        seen = followed(trainer)

        ends = seen[9::5]  # the first epoch is left out
        assert len(ends) == 3
        ours = average_of(trainer)
        torch.testing.assert_close(ours["0.weight"], torch.stack([end["0.weight"] for end in ends]).mean(0))
        assert not torch.allclose(ours["0.weight"], seen[-1]["0.weight"], rtol=1e-3)

    def test_swa_measures_batch_norm_anew(self, root: Path) -> None:
        trainer = make_trainer(averaging(line({"training.epochs": 3}), "swa"), model_of_mine(), root)

        followed(trainer)

        ours = average_of(trainer)
        inputs = torch.cat([batch.inputs for batch in trainer._train.epoch(2)])
        hidden = nn.functional.linear(inputs, ours["0.weight"], ours["0.bias"])
        torch.testing.assert_close(ours["1.running_mean"], hidden.mean(0), rtol=1e-4, atol=1e-5)
        raw = trainer._model.state_dict()["1.running_mean"]
        assert not torch.allclose(ours["1.running_mean"], raw, rtol=1e-2)


class TestRun:
    @pytest.mark.parametrize("kind", ["ema", "swa"])
    def test_the_training_is_the_same_bits_with_it(self, kind: str, root: Path) -> None:
        plain, averaged = train(digits(), root), train(averaging(digits(), kind, decay=0.9), root)

        assert averaged.history.error is None
        assert same(weights(plain.directory), weights(averaged.directory))
        ours, theirs = rows(averaged.directory, "train/", "val/", "test/"), rows(plain.directory, "train/", "val/")
        assert all(ours[name] == theirs[name] for name in theirs)

    def test_it_is_measured_beside_the_raw_weights(self, root: Path) -> None:
        job = train(averaging(digits(), "ema", decay=0.9), root)

        found = rows(job.directory)
        assert list(found["val-average/accuracy"]) == list(found["val/accuracy"]) == [8, 16, 24]
        assert list(found["test-average/loss"]) == [24]
        assert found["val-average/loss"] != found["val/loss"]
        assert job.history.summary is not None
        assert job.history.summary.test["ema accuracy"] == found["test-average/accuracy"][24]
        assert any("· ema accuracy" in said for said in job.history.log)
        newest = Checkpoints(job.directory.checkpoints).all()[-1]
        assert (newest.path / "average.safetensors").exists()

    def test_without_it_there_is_nothing_of_it(self, root: Path) -> None:
        job = train(line(), root)

        assert not rows(job.directory, "val-average", "test-average")
        assert not list(job.directory.checkpoints.glob("*/average.safetensors"))

    @pytest.mark.parametrize(("kind", "look"), [("ema", 5), ("swa", 12 + 5), ("swa", 8), ("swa", 12 + 8 + 8 + 2)])
    def test_a_resumed_run_has_the_same_mean(self, kind: str, look: int, root: Path) -> None:
        """Looks of an epoch: eight steps, eight batches on which batch norm is measured, three of validation."""
        recipe = averaging(digits({"training.checkpoint_every": "1 h"}), kind, decay=0.9)
        whole = train(recipe, root)
        cut = train(recipe, root, stop_at(look))
        assert cut.directory.status().state == "stopped"

        job = resume(cut.directory)

        ours = load(Checkpoints(job.directory.checkpoints).all()[-1]).average
        theirs = load(Checkpoints(whole.directory.checkpoints).all()[-1]).average
        assert ours is not None
        assert theirs is not None
        assert same(ours, theirs)
        assert rows(job.directory, "val", "test") == rows(whole.directory, "val", "test")
