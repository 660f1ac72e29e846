"""The learning rate range test: one short training while the rate grows, the loss of each step beside it.

L. N. Smith, "Cyclical Learning Rates for Training Neural Networks", 2017, arXiv:1506.01186, section 3.3.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from engine.data.samples import Progress
from engine.errors import TrainingError
from engine.recipe import Recipe
from engine.training.control import Control
from engine.trials.trial import trial

LOWEST, HIGHEST, STEPS = 1e-7, 10.0, 100
_SMOOTH = 0.9
_DIVERGED = 4.0  # so many times the least loss, and the rest of the curve tells nothing


@dataclass(frozen=True)
class RateRange:
    """Losses over learning rates. `suggestion` is where the smoothed loss falls fastest; None if it never falls."""

    rates: Sequence[float]
    losses: Sequence[float]
    smoothed: Sequence[float]
    suggestion: float | None
    diverged: bool


def find_lr(
    recipe: Recipe,
    progress: Progress,
    *,
    lowest: float = LOWEST,
    highest: float = HIGHEST,
    steps: int = STEPS,
    control: Control | None = None,
    look: Callable[[float, float], None] = lambda rate, loss: None,
) -> RateRange:
    """Train `steps` steps while the rate grows geometrically; ends early when the loss has left all bounds.

    The recipe's schedule and warm-up are left out. `look` is told each (rate, loss). Raises Stopped by `control`, and
    whatever training the recipe raises.
    """
    plain = recipe.override({"scheduler": None, "optimizer.warmup": "", "training.on_nan": "stop"})
    rates = np.geomspace(lowest, highest, steps)
    losses: list[float] = []
    smoothed: list[float] = []
    with trial(plain, progress, control) as tried:
        tried.state.optim.set_learning_rate(float(rates[0]))
        for number, loss in enumerate(tried.steps(steps)):
            losses.append(loss)
            smoothed = _smoothed(losses)
            look(float(rates[number]), loss)
            if not math.isfinite(loss) or (number > 10 and _diverged(smoothed)):
                break
            if number + 1 < steps:
                tried.state.optim.set_learning_rate(float(rates[number + 1]))
    if not losses or not math.isfinite(losses[0]):
        raise TrainingError("find-lr", "the first loss is not finite", "Check the data and the model: torch-tui check.")
    used = rates[: len(losses)].tolist()
    return RateRange(used, losses, smoothed, _steepest(used, smoothed), len(losses) < steps)


def _diverged(smoothed: Sequence[float]) -> bool:
    """Whether the loss has left the least by several times its size; some losses are below 0."""
    least = min(smoothed)
    return smoothed[-1] - least > (_DIVERGED - 1) * abs(least)


def _smoothed(losses: Sequence[float]) -> list[float]:
    """Exponential moving average, corrected for its start."""
    mean, result = 0.0, []
    for count, loss in enumerate(losses, 1):
        mean = _SMOOTH * mean + (1 - _SMOOTH) * loss
        result.append(mean / (1 - _SMOOTH**count))
    return result


def _steepest(rates: Sequence[float], smoothed: Sequence[float]) -> float | None:
    """The rate at the steepest fall over log(rate), before the least loss; the first tenth is noise."""
    values = np.array(smoothed)
    end = int(np.nanargmin(values)) + 1
    begin = len(values) // 10
    if end - begin < 3:
        return None
    slopes = np.gradient(values[begin:end], np.log(rates[begin:end]))
    steepest = int(np.argmin(slopes))
    return float(f"{rates[begin + steepest]:.2g}") if slopes[steepest] < 0 else None
