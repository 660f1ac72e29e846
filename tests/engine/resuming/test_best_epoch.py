"""Which epoch is the best one, also where a run was resumed in between."""

from __future__ import annotations

from dataclasses import asdict

from engine.resuming.state import Position
from engine.tasks.base import Metric

_ACCURACY, _ERROR = Metric("accuracy", "max"), Metric("error", "min")
_TIED = ((0.5, 0.9), (0.75, 0.6), (0.75, 0.4), (0.75, 0.5), (0.75, 0.4))  # the lower loss, then the earlier


def _seen(at: Position, measured: tuple[tuple[float, float], ...], metric: Metric = _ACCURACY) -> list[bool]:
    found = []
    for value, loss in measured:
        at.epoch += 1
        found.append(at.improves(metric, {metric.name: value, "loss": loss}))
    return found


def test_of_equal_values_the_lower_loss_is_best_and_then_the_earlier() -> None:
    at = Position()
    assert _seen(at, _TIED) == [True, True, True, False, False]
    assert (at.best, at.best_epoch, at.best_loss) == (0.75, 3, 0.4)
    assert _seen(at, ((0.76, 9.0),)) == [True], "the value comes first"
    assert _seen(Position(), ((0.2, 0.5), (0.1, 0.7)), _ERROR) == [True, True], "lower may be better"


def test_what_is_no_number_is_never_best() -> None:
    at = Position()
    assert _seen(at, ((float("nan"), 0.1), (0.5, float("nan")), (0.5, 0.7))) == [False, True, True]


def test_a_resumed_run_finds_the_same_epoch_the_best() -> None:
    whole, before = Position(), Position()
    _seen(whole, _TIED)
    _seen(before, _TIED[:3])
    resumed, forgetful = Position(**asdict(before)), Position(**{**asdict(before), "best_loss": None})
    _seen(resumed, _TIED[3:])
    _seen(forgetful, _TIED[3:])
    assert resumed == whole
    assert forgetful != whole, "without the loss in the state this test shows nothing"
