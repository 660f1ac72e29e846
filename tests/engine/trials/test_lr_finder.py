"""The learning rate range test: its curve, its suggestion, and when it ends."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from small_runs import digits, line, python_file, rows, train
from test_trial import NAN_MODEL, silent

from engine.errors import TrainingError
from engine.recipe import Recipe
from engine.training.control import Control, Stopped
from engine.trials.lr_finder import _diverged, _steepest, find_lr


def cancer(changes: dict[str, Any] | None = None) -> Recipe:
    layers = [{"name": "Linear", "out_features": 16}, {"name": "ReLU"}, {"name": "Linear", "out_features": "classes"}]
    values = {
        "title": "cancer",
        "data": {"name": "breast_cancer", "batch_size": 32, "transforms": [{"name": "Standardize"}]},
        "model": {"layers": layers},
        "optimizer": {"name": "SGD", "lr": 1e-6, "momentum": 0.9},
        "training": {"epochs": 3, "device": "cpu"},
    }
    return Recipe.from_values(values).override(changes or {})


class TestSuggestion:
    @pytest.mark.parametrize("recipe", [cancer(), digits({"optimizer.lr": 1e-6, "scheduler": None})])
    def test_it_is_within_bounds_and_training_with_it_learns(self, recipe: Recipe, root: Path) -> None:
        found = find_lr(recipe, silent)

        assert found.suggestion is not None
        assert 1e-4 <= found.suggestion <= 1
        slow, learned = (
            list(rows(train(recipe.override({"optimizer.lr": rate}), root).directory)["val/loss"].values())[-1]
            for rate in (recipe.optimizer.lr, found.suggestion)
        )
        assert learned < 0.7 * slow

    def test_a_loss_that_never_falls_has_none(self) -> None:
        assert _steepest([1e-3 * 2**at for at in range(30)], [1.0 + at for at in range(30)]) is None

    def test_it_is_where_the_loss_falls_fastest(self) -> None:
        rates = [10 ** (at / 10 - 5) for at in range(50)]
        smoothed = [1 / (1 + math.exp((at - 25) / 2)) if at < 40 else 1.0 for at in range(50)]

        assert _steepest(rates, smoothed) == pytest.approx(10**-2.5, rel=0.1)


class TestCurve:
    def test_rates_grow_geometrically_and_each_is_told(self) -> None:
        told: list[tuple[float, float]] = []
        found = find_lr(line(), silent, lowest=1e-6, highest=1e-2, steps=41, look=lambda *pair: told.append(pair))

        assert len(found.rates) == len(found.losses) == len(found.smoothed) == 41
        assert (found.rates[0], found.rates[-1]) == (pytest.approx(1e-6), pytest.approx(1e-2))
        assert all(after / before == pytest.approx(10 ** (4 / 40)) for before, after in pairwise(found.rates))
        assert told == list(zip(found.rates, found.losses, strict=True))
        assert not found.diverged

    def test_it_ends_early_when_the_loss_has_left_all_bounds(self) -> None:
        found = find_lr(line(), silent, lowest=1e-3, highest=1e6, steps=100)

        assert found.diverged
        assert len(found.rates) < 80

    def test_a_loss_below_zero_has_not_diverged_because_of_that(self) -> None:
        assert not _diverged([-1.0, -1.1, -1.05])
        assert _diverged([-1.0, 2.1])
        assert _diverged([1.0, 4.1])
        assert not _diverged([1.0, 3.9])

    def test_the_first_step_is_taken_at_the_lowest_rate_whatever_the_schedule(self) -> None:
        plain = find_lr(line(), silent, steps=12)
        scheduled = find_lr(
            line({"scheduler": {"name": "OneCycleLR", "every": "step"}, "optimizer.warmup": "5 steps"}),
            silent, steps=12,
        )  # fmt: skip

        assert plain.losses == scheduled.losses

    def test_a_first_loss_that_is_no_number_is_said(self, tmp_path: Path) -> None:
        recipe = line({"model": {"python": python_file(tmp_path, NAN_MODEL) + ":make"}})

        with pytest.raises(TrainingError, match="the first loss is not finite"):
            find_lr(recipe, silent)


def test_a_control_stops_it() -> None:
    control, told = Control(), list[float]()

    def look(rate: float, loss: float) -> None:
        told.append(loss)
        if len(told) == 5:
            control.stop()

    with pytest.raises(Stopped):
        find_lr(line(), silent, control=control, look=look)

    assert len(told) == 5
