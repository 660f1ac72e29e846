"""A pause that gives the device's memory back: on the CPU harmless, on a GPU the same bits afterwards."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from small_runs import AtLook, digits, rows, same, train, weights
from torch import nn

from engine.checkpoints.checkpoint import Checkpoints
from engine.policies.parking import Parking
from engine.training.control import Control

MPS = torch.device("mps")  # named only: nothing here touches it


def park_a_moment(control: Control) -> None:
    control.park()
    threading.Timer(0.1, control.resume).start()


class Noting:
    """Stands for what lies on a device: notes where it is moved to, and whether that could be trained with."""

    def __init__(self, *, refuses: list[Exception] | None = None) -> None:
        self.moves: list[tuple[str, bool]] = []
        self._refuses = refuses or []

    def to(self, device: torch.device) -> None:
        if device.type != "cpu" and self._refuses:
            raise self._refuses.pop()
        self.moves.append((device.type, torch.is_inference_mode_enabled()))


def parking(module: Any, batches: Any, moved: list[str]) -> Parking:
    optimizer = torch.optim.SGD([nn.Parameter(torch.ones(1))])
    return Parking(MPS, [module], optimizer, [batches], lambda: moved.append("moved"))


class TestOnTheCpu:
    def test_it_is_said_and_changes_no_number(self, root: Path) -> None:
        job, free = train(digits(), root, AtLook({5: park_a_moment})), train(digits(), root)

        (said,) = [event.text for event in job.history.events if event.kind == "park"]
        assert said == "device memory: cpu has nothing to give back"
        assert job.history.progress.state == "done"
        assert same(weights(job.directory), weights(free.directory))
        assert rows(job.directory, "train", "val") == rows(free.directory, "train", "val")

    def test_during_validation_too(self, root: Path) -> None:
        job = train(digits(), root, AtLook({10: park_a_moment}))

        assert job.history.error is None


class TestWay:
    def test_everything_goes_away_and_comes_back(self) -> None:
        module, batches, moved = Noting(), Noting(), list[str]()
        way = parking(module, batches, moved)

        assert way.leave()
        assert module.moves == batches.moves == [("cpu", False)]
        assert moved == ["moved"]

        assert way.come_back()
        assert module.moves == batches.moves == [("cpu", False), ("mps", False)]
        assert moved == ["moved", "moved"]

    def test_in_a_validation_nothing_becomes_a_tensor_that_cannot_be_trained_with(self) -> None:
        module, batches = Noting(), Noting()

        with torch.inference_mode():
            way = parking(module, batches, [])
            way.leave()
            way.come_back()
            assert torch.is_inference_mode_enabled()

        assert module.moves == batches.moves == [("cpu", False), ("mps", False)]

    def test_a_weight_moved_in_inference_mode_would_be_one(self) -> None:
        layer = nn.Linear(1, 1)
        with torch.inference_mode():
            layer.to(torch.float64).to(torch.float32)
            buffer = torch.ones(1).double().float()

        with pytest.raises(RuntimeError, match="nference"):
            (layer(torch.ones(1, 1)) * buffer).sum().backward()

    def test_where_the_device_has_no_room_everything_stays_in_host_memory_until_there_is(self) -> None:
        module, batches = Noting(), Noting(refuses=[torch.OutOfMemoryError("full")])
        way = parking(module, batches, [])
        way.leave()

        assert not way.come_back()
        assert module.moves[-1] == batches.moves[-1] == ("cpu", False)

        assert way.come_back()
        assert module.moves[-1] == batches.moves[-1] == ("mps", False)

    def test_another_error_is_not_taken_for_a_lack_of_room(self) -> None:
        way = parking(Noting(refuses=[RuntimeError("a device is gone")]), Noting(), [])
        way.leave()

        with pytest.raises(RuntimeError, match="a device is gone"):
            way.come_back()

    def test_a_stop_while_it_is_parked_is_a_stop_with_a_checkpoint(self, root: Path) -> None:
        def park_and_stop(control: Control) -> None:
            control.park()
            threading.Timer(0.1, control.stop).start()

        job = train(digits(), root, AtLook({5: park_and_stop}))

        assert job.directory.status().state == "stopped"
        assert Checkpoints(job.directory.checkpoints).all()[-1].step == 5


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no NVIDIA GPU here")
@pytest.mark.parametrize("look", [5, 10])  # a step, a validation batch
def test_on_a_gpu_the_memory_is_given_back_and_the_bits_are_the_same(look: int, root: Path) -> None:
    held: list[int] = []

    def park(control: Control) -> None:
        held.append(torch.cuda.memory_allocated())
        control.park()
        threading.Timer(0.5, lambda: held.append(torch.cuda.memory_allocated())).start()
        threading.Timer(1.0, control.resume).start()

    recipe = digits({"training.device": "cuda", "model.layers.1.out_features": 4096, "optimizer.name": "AdamW",
                     "optimizer.momentum": None, "optimizer.lr": 0.001, "training.deterministic": True})  # fmt: skip
    free = train(recipe, root)

    job = train(recipe, root, AtLook({look: park}))

    before, meanwhile = held
    assert meanwhile < 0.1 * before
    assert job.history.error is None
    assert same(weights(job.directory), weights(free.directory))
