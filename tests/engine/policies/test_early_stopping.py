"""Early stopping: when it ends a run, what it says, and that a resumed run counts on."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from small_runs import line, resume, rows, stop_at, train

from engine.errors import RecipeError
from engine.policies.early_stopping import Patience
from engine.recipe import EarlyStopping, Training
from engine.tasks.base import Metric

METRICS = (Metric("accuracy", "max"),)
STUCK = {
    "training.epochs": 50,
    "optimizer.lr": 1e-30,  # nothing is learned, so nothing improves
    "training.early_stopping": {"patience": 3},
}


def patience(**rule: Any) -> Patience:
    return Patience(Training(early_stopping=EarlyStopping(**rule)), METRICS, validates=True)


def looks(rule: Patience, name: str, *values: float) -> list[int]:
    waited = []
    for value in values:
        rule.look({"loss": 0.0, name: value})
        waited.append(rule.waited)
    return waited


class TestRule:
    def test_it_counts_epochs_without_improvement(self) -> None:
        rule = patience(patience=2)

        assert looks(rule, "loss", 1.0, 0.9, 0.95, 0.8, 0.8, 0.9) == [0, 0, 1, 0, 1, 2]
        assert rule.exhausted
        assert rule.reason == "early stopping: validation loss has not improved on 0.8 for 2 epochs"

    def test_a_metric_to_be_great_improves_upwards(self) -> None:
        assert looks(patience(patience=9, metric="accuracy"), "accuracy", 0.5, 0.6, 0.55) == [0, 0, 1]

    def test_less_than_min_delta_is_no_improvement(self) -> None:
        assert looks(patience(patience=9, min_delta=0.1), "loss", 1.0, 0.95, 0.89) == [0, 1, 0]

    def test_a_value_that_is_not_a_number_is_no_improvement(self) -> None:
        rule = patience(patience=2)

        assert looks(rule, "loss", math.nan, math.inf) == [1, 2]
        assert "never was a number" in rule.reason

    def test_without_patience_it_never_ends(self) -> None:
        rule = patience()

        assert looks(rule, "loss", *[1.0] * 100)[-1] == 0
        assert not rule.exhausted

    def test_a_metric_that_is_not_measured_is_refused_with_the_nearest(self) -> None:
        with pytest.raises(RecipeError, match=r"training\.early_stopping\.metric.*Did you mean 'accuracy'"):
            patience(patience=1, metric="acuracy")

    def test_without_validation_it_is_refused(self) -> None:
        with pytest.raises(RecipeError, match=r"needs a validation part to watch. Raise data\.split\.val"):
            Patience(Training(early_stopping=EarlyStopping(patience=1)), METRICS, validates=False)


class TestRun:
    def test_it_ends_the_run_says_why_and_tests(self, root: Path) -> None:
        job = train(line(STUCK), root)

        assert job.history.progress.state == "done"
        assert len(rows(job.directory)["val/loss"]) == 4  # the first is the best, and three more
        (event,) = [event for event in job.history.events if event.kind == "early stopping"]
        assert event.step == 20
        assert "has not improved on" in event.text
        assert rows(job.directory, "test/loss")

    def test_with_improvement_it_goes_on(self, root: Path) -> None:
        job = train(line({**STUCK, "optimizer.lr": 0.01, "training.epochs": 6}), root)

        assert len(rows(job.directory)["val/loss"]) == 6

    @pytest.mark.parametrize("look", [13, 21])
    def test_a_resumed_run_counts_on(self, look: int, root: Path) -> None:
        cut = train(line(STUCK), root, stop_at(look))

        job = resume(cut.directory)

        assert len(rows(job.directory)["val/loss"]) == 4
