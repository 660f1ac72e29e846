from __future__ import annotations

import json
import resource
import threading
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from kept import damage
from nursery import Nursery, call
from small_runs import AtLook, line, make_trainer, resume, stop_at, train, weights, written
from torch import nn

from engine.checkpoints.checkpoint import Checkpoints, load
from engine.training.control import Control


class TestState:
    def test_state_of_a_module_that_is_no_tensor_comes_back_on_resume(self, root: Path) -> None:
        class Counting(nn.Linear):
            calls = 0

            def forward(self, inputs: torch.Tensor) -> torch.Tensor:
                self.calls += 1
                return super().forward(inputs)

            def get_extra_state(self) -> dict[str, int]:
                return {"calls": self.calls}

            def set_extra_state(self, state: Mapping[str, int]) -> None:
                self.calls = state["calls"]

        trained, fresh = Counting(1, 1), Counting(1, 1)
        trainer = make_trainer(line(), trained, root)
        trainer.run()
        (folder,) = root.iterdir()

        make_trainer(line(), fresh, root).restore(load(Checkpoints(folder / "checkpoints").all()[-1]))

        assert fresh.calls == trained.calls - 1  # the test after the last checkpoint
        assert torch.equal(fresh.weight, trained.weight)


def train_with_a_disk_that_is_full_for_a_second(root: str) -> None:
    def limit(size: int) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

    def fill(control: Control) -> None:
        limit(150_000)
        threading.Timer(1.0, limit, [resource.RLIM_INFINITY]).start()

    # 400 KB of weights don't fit into files of at most 150 KB; the metrics do.
    recipe = line({"model.layers.0.out_features": 33_000, "training.epochs": 6, "optimizer.lr": 1e-6})
    job = train(recipe, Path(root), AtLook({10: fill}))
    folder = job.directory.checkpoints
    told = {
        "state": job.directory.status().state,
        "trouble": [event.text for event in job.history.events if event.kind == "trouble"],
        "files": sorted(path.name for path in folder.iterdir()),
        "readable": [checkpoint.epoch for checkpoint in Checkpoints(folder).all() if load(checkpoint)],
    }
    print(json.dumps(told))


class TestFullDisk:
    def test_the_training_waits_for_space_says_so_and_goes_on(self, nursery: Nursery, root: Path) -> None:
        told = json.loads(call(nursery, "test_in_training", "train_with_a_disk_that_is_full_for_a_second", root))

        assert told["state"] == "done"
        assert told["trouble"]
        assert all("the disk is full" in text for text in told["trouble"])
        assert [name[:11] for name in told["files"]] == [f"epoch-0000{epoch}" for epoch in told["readable"]]
        assert told["readable"][-1] == 6


class TestDamage:
    def test_a_damaged_one_is_said_once_and_the_run_goes_on_from_the_one_before(self, root: Path) -> None:
        whole = train(line({"training.epochs": 3}), root)
        cut = train(line({"training.epochs": 3}), root, stop_at(13))  # five steps and two looks an epoch
        newest = Checkpoints(cut.directory.checkpoints).all()[-1]
        damage(newest)

        job = resume(cut.directory)

        notices = [text for text in job.history.log if "does not match its hash" in text]
        assert len(notices) == 1
        assert notices[0].endswith("The one before is used.")
        assert torch.equal(weights(job.directory)["0.weight"], weights(whole.directory)["0.weight"])

    def test_a_damaged_one_at_an_epochs_end_is_replaced_when_the_epoch_ends_again(self, root: Path) -> None:
        cut = train(line({"training.epochs": 3}), root, AtLook({8: written(root, 2), 14: Control.stop}))
        before, newest = Checkpoints(cut.directory.checkpoints).all()[-2:]
        assert (before.step, newest.epoch, newest.step) == (5, 2, 10)
        damage(newest)

        # Stopped at the same place: where the run went on, a busy disk might leave this one out for the next.
        job = resume(cut.directory, stop_at(7))

        assert job.history.error is None
        assert Checkpoints(cut.directory.checkpoints).all()[-1].step == newest.step
        load(newest)

    @pytest.mark.usefixtures("disk_keeps_up")
    def test_a_damaged_best_one_is_said_and_the_last_weights_are_tested(self, root: Path) -> None:
        def damage_best(control: Control) -> None:
            best = Checkpoints(next(root.iterdir()) / "checkpoints").best()
            assert best is not None
            assert best.epoch == 1
            damage(best)

        # Nothing is learned after the first epoch, so that it stays the best of three.
        control = AtLook({7: lambda control: control.set_learning_rate(1e-30), 21: damage_best})

        job = train(line({"training.epochs": 3}), root, control)

        trouble = [event.text for event in job.history.events if event.kind == "trouble"]
        assert len(trouble) == 1
        assert trouble[0].endswith("does not match its hash. The last weights are used.")
        assert job.history.progress.state == "done"
