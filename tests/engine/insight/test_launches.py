"""When CUDA graphs are offered, and what the offer says: a matter of numbers alone."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_runs import line, make_trainer
from torch import nn

from engine.insight.launches import Launches, Offer, offer
from engine.insight.phases import Phases

BOUND = Launches(step=1.0e-3, device=0.1e-3, queued=0.7e-3)
BUSY = Launches(step=1.0e-3, device=0.95e-3, queued=0.7e-3)


def test_graphs_leave_what_the_device_computes_and_what_is_queued_beside_the_model() -> None:
    assert BOUND.with_graphs == pytest.approx(0.5e-3)
    assert BUSY.with_graphs == pytest.approx(0.95e-3)


@pytest.mark.parametrize(
    "launches",
    [BOUND, BUSY, Launches(1e-4, 1e-5, 8e-5), Launches(1e-3, 2e-3, 1e-3), Launches(0.0, 0.0, 0.0)],
)
def test_no_estimate_is_slower_than_the_step_as_it_is(launches: Launches) -> None:
    assert launches.with_graphs <= launches.step


def test_a_long_launch_bound_run_is_offered_them_with_what_they_gain() -> None:
    said = offer(BOUND, steps=1_000_000, layers=2)
    assert "\n" not in said
    assert 'training.compile = "reduce-overhead"' in said
    assert "it computes 0.10 ms of each step's 1.00 ms" in said
    assert "would make that about 0.50 ms" in said
    assert "save about 8:02 in the 1,000,000 steps left" in said  # 500 s less 18 s of compiling


@pytest.mark.parametrize(
    ("launches", "steps", "layers"),
    [
        pytest.param(BOUND, 60_000, 2, id="too short: 30 s for 18 s"),
        pytest.param(BOUND, 1_000_000, 2000, id="too much to compile"),
        pytest.param(BUSY, 100_000_000, 2, id="the device computes all the time"),
        pytest.param(Launches(1e-4, 1e-5, 8e-5), 100_000_000, 2, id="a replay takes longer than what it replaces"),
        pytest.param(BOUND, 0, 2, id="nothing left"),
    ],
)
def test_what_would_not_pay_is_not_offered(launches: Launches, steps: int, layers: int) -> None:
    assert offer(launches, steps, layers) == ""


def test_a_run_is_made_the_offer_once() -> None:
    made = Offer(2, open_to_it=True)
    assert made.made(None, 10**6) == ""
    assert made.made(BUSY, 10**6) == ""
    assert made.made(BOUND, 10**6)
    assert made.made(BOUND, 10**6) == ""
    assert Offer(2, open_to_it=False).made(BOUND, 10**6) == ""


@pytest.mark.parametrize(("compiled", "times"), [(False, 1), ("reduce-overhead", 0)])
def test_it_stands_in_the_log_of_a_run_that_has_no_graphs_yet(
    compiled: object, times: int, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a GPU nothing is launch-bound: what is measured there is put in its place."""
    monkeypatch.setattr(Phases, "launches", Launches(1.0, 0.1, 0.9))
    # Not compiled indeed: `place` does that, and the trainer is given a model as it is.
    trainer = make_trainer(line({"training.epochs": 40, "training.compile": compiled}), nn.Linear(1, 1), root)

    trainer.run()

    log = list(trainer._recorder.history.log)
    assert len([said for said in log if "the GPU waits for work" in said]) == times
