"""Early stopping: end when validation no longer improves."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from engine.errors import RecipeError, nearest
from engine.recipe import Training
from engine.tasks.base import Metric

WHERE = "training.early_stopping"


class Patience:
    """Counts the epochs since `metric` last improved by more than `min_delta`.

    Raises RecipeError for a metric that the task does not measure, or without a part to validate on.
    """

    def __init__(self, training: Training, metrics: Sequence[Metric], *, validates: bool) -> None:
        rule = training.early_stopping
        goals = {"loss": "min", **{metric.name: metric.goal for metric in metrics}}
        self._rule = rule
        self.best: float | None = None
        self.waited = 0
        if not rule.patience:
            return
        if rule.metric not in goals:
            remedy = nearest(rule.metric, goals) or f"This task measures {', '.join(goals)}."
            raise RecipeError(f"{WHERE}.metric", f"'{rule.metric}' is not measured here", remedy)
        if not validates:
            remedy = "Raise data.split.val, or set it to 0."
            if training.overfit_one_batch:
                remedy = "Turn training.overfit_one_batch off, or set it to 0."
            raise RecipeError(f"{WHERE}.patience", "needs a validation part to watch", remedy)
        self._sign = 1.0 if goals[rule.metric] == "max" else -1.0

    def look(self, validated: Mapping[str, float]) -> None:
        """An epoch's validation. A value that is not a number is no improvement."""
        if not self._rule.patience:
            return
        value = validated[self._rule.metric]
        better = self.best is None or self._sign * (value - self.best) > self._rule.min_delta
        if math.isfinite(value) and better:
            self.best, self.waited = value, 0
        else:
            self.waited += 1

    @property
    def exhausted(self) -> bool:
        """Whether the run is to end."""
        return 0 < self._rule.patience <= self.waited

    @property
    def reason(self) -> str:
        """Why it ends, for a person."""
        best = "never was a number" if self.best is None else f"has not improved on {self.best:.4g}"
        return f"early stopping: validation {self._rule.metric} {best} for {self.waited} epochs"

    def state(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {"best": self.best, "waited": self.waited}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Count on."""
        self.best, self.waited = state["best"], state["waited"]
