"""The learning rate range test: the loss over a growing rate, live, and the rate it suggests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from textual.app import ComposeResult

from engine.recipe import Recipe
from tui.charts.chart import Chart, Line
from tui.dialogs.trial import TrialScreen
from tui.training import Desk

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from engine.trials.lr_finder import RateRange


class FindLrScreen(TrialScreen):
    """Offers `optimizer.lr`."""

    TITLE_TEXT = "Find the learning rate"

    def __init__(self, desk: Desk, recipe: Recipe) -> None:
        super().__init__(desk, recipe)
        self._points: list[tuple[float, float]] = []
        """(rate, loss) of each step; the thread appends."""
        self._found: RateRange | None = None

    def body(self) -> ComposeResult:
        chart = Chart("loss", x_label="lr", log_x=True, id="rates")
        chart.empty_text = "No step yet"
        yield chart

    def measure(self) -> None:
        self._found = self.desk.find_lr(self.recipe, self.control, lambda rate, loss: self._points.append((rate, loss)))

    def show_news(self) -> str:
        found, points = self._found, np.array(self._points, dtype=np.float64).reshape(-1, 2)
        lines = [Line("each step", points[:, 0], _bounded(points[:, 1]), "primary")]
        marks = []
        if found is not None:
            lines.append(Line("smoothed", np.array(found.rates), _bounded(np.array(found.smoothed)), "warning"))
            if found.suggestion is not None:
                marks.append((found.suggestion, "▲"))
        self.query_one("#rates", Chart).show(lines, marks=marks, x_max=_highest())
        if found is not None:
            return _verdict(found, self.recipe.optimizer.lr)
        return f"{len(points)} steps, the rate is {points[-1, 0]:.2g}" if len(points) else "Building the model…"

    def offer(self) -> Mapping[str, Any] | None:
        found = self._found
        return None if found is None or found.suggestion is None else {"optimizer.lr": found.suggestion}


def _highest() -> float:
    from engine.trials.lr_finder import HIGHEST  # it imports torch, which is loaded when one can come here

    return HIGHEST


def _bounded(losses: NDArray[np.float64]) -> NDArray[np.float64]:
    """The losses without those that have left all bounds: drawn, they would press the rest of the curve flat."""
    if not len(losses):
        return losses
    first = losses[0]
    return np.where(losses <= first + max(first - np.fmin.reduce(losses), abs(first)), losses, np.nan)


def _verdict(found: RateRange, now: float) -> str:
    tail = " It left all bounds at the end." if found.diverged else ""
    if found.suggestion is None:
        return f"The loss never falls: nothing can be suggested.{tail} The recipe has {now:g}."
    return f"▲ {found.suggestion:g} is where the loss falls fastest; the recipe has {now:g}.{tail}"
