"""Where the time goes: shares of a clock that the test turns, and what follows from them in words."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from small_runs import digits, line, make_trainer, python_file, train
from torch import nn

from engine.insight import phases as module
from engine.insight.phases import PHASES, Phases, verdict

SLOW = """
import time, torch
class Points:
    "Points of mine, slowly."
    def __len__(self):
        return 40
    def __getitem__(self, index):
        time.sleep(0.002)
        return torch.tensor([index / 40]), torch.tensor([index / 20])
def make():
    return Points()
"""


class Clock:
    """A clock that goes when it is told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    turned = Clock()
    monkeypatch.setattr(module, "perf_counter", turned)
    return turned


def spend(phases: Phases, clock: Clock, **seconds: float) -> None:
    for phase, amount in seconds.items():
        clock.now += amount
        phases.mark(phase)


def on_cpu(workers: int = 0) -> Phases:
    return Phases(torch.device("cpu"), workers=workers)


class TestShares:
    def test_they_are_what_was_spent_and_add_up_to_one(self, clock: Clock) -> None:
        phases = on_cpu()
        spend(phases, clock, data=1.0, forward=2.0, backward=4.0, optimizer=2.0, metrics=0.5, other=0.5)

        times = phases.times()

        assert times is not None
        assert tuple(times.shares) == PHASES
        assert sum(times.shares.values()) == pytest.approx(1)
        assert times.shares["backward"] == pytest.approx(0.4)
        assert times.shares["copy"] == 0

    def test_before_anything_was_done_there_are_none(self, clock: Clock) -> None:
        assert on_cpu().times() is None

    def test_copying_is_taken_out_of_waiting(self, clock: Clock) -> None:
        phases = on_cpu()
        spend(phases, clock, data=4.0, forward=4.0)
        phases.moved(3.0)

        times = phases.times()

        assert times is not None
        assert (times.shares["data"], times.shares["copy"]) == (pytest.approx(1 / 8), pytest.approx(3 / 8))

    def test_what_was_long_ago_fades(self, clock: Clock) -> None:
        phases = on_cpu()
        spend(phases, clock, data=10.0)
        phases.times()
        spend(phases, clock, forward=60.0)

        times = phases.times()

        assert times is not None
        assert times.shares["forward"] > 0.99

    def test_a_pause_does_not_count(self, clock: Clock) -> None:
        phases = on_cpu()
        clock.now += 1000
        phases.restart()
        spend(phases, clock, forward=1.0)

        times = phases.times()

        assert times is not None
        assert times.shares["forward"] == 1

    def test_waiting_for_each_batch_is_data_and_what_the_loop_does_is_not(self, clock: Clock) -> None:
        def batches() -> Iterator[int]:
            for number in range(3):
                clock.now += 1
                yield number

        phases = on_cpu()
        for _ in phases.waiting(batches()):
            spend(phases, clock, forward=2.0)
            clock.now += 1

        times = phases.times()

        assert times is not None
        assert {name: round(share * 12) for name, share in times.shares.items() if share} == {
            "data": 3, "forward": 6, "other": 3,
        }  # fmt: skip


class TestVerdict:
    @pytest.mark.parametrize(
        ("spent", "in_memory", "workers", "said"),
        [
            ({"data": 63, "forward": 37}, False, 0,
             "waits for data 63% of the time: raise data.num_workers or keep the dataset in memory"),
            ({"data": 63, "forward": 37}, False, 4, "raise data.num_workers above 4 or keep the dataset in memory"),
            ({"copy": 63, "forward": 37}, False, 4, "keep the dataset in memory (data.in_memory)"),
            ({"data": 30, "forward": 70}, True, 0, "make the augmentation cheaper"),
            ({"optimizer": 50, "backward": 50}, True, 0, "spends 50% of the time in the optimizer: raise"),
            ({"metrics": 20, "other": 30, "forward": 50}, True, 0, "computes 50% of the time: raise data.batch_size"),
            ({"forward": 30, "backward": 60, "data": 10}, True, 0, "computes 90% of the time: the device is the limit"),
        ],
    )  # fmt: skip
    def test_it_says_what_the_shares_mean(
        self, spent: dict[str, int], in_memory: bool, workers: int, said: str
    ) -> None:
        shares = {name: spent.get(name, 0) / 100 for name in PHASES}

        assert said in verdict(shares, in_memory=in_memory, workers=workers)


class TestRun:
    def test_a_slow_dataset_is_waited_for(self, root: Path, tmp_path: Path) -> None:
        file = python_file(tmp_path, SLOW, "data.py")

        job = train(line({"data": {"python": f"{file}:make", "batch_size": 8}}), root)

        times = job.history.times
        assert times is not None
        assert times.verdict.startswith("waits for data")
        assert "raise data.num_workers or keep the dataset in memory" in times.verdict
        assert any(said.endswith(str(times)) for said in job.history.log)

    def test_a_run_on_data_in_memory_is_not(self, root: Path) -> None:
        times = train(digits({"data.augment": []}), root).history.times

        assert times is not None
        assert sum(times.shares.values()) == pytest.approx(1)
        assert times.shares["data"] < 0.5
        assert times.shares["copy"] == 0

    def test_a_slow_optimizer_is_named(self, root: Path) -> None:
        trainer = make_trainer(line(), nn.Linear(1, 1), root)
        trainer._optim.optimizer.register_step_post_hook(lambda *arguments: time.sleep(0.02))

        trainer.run()

        times = trainer._recorder.history.times
        assert times is not None
        assert "in the optimizer: raise data.batch_size" in times.verdict
