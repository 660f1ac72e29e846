"""When checkpoints are written, which are kept, and that the loop does not wait for the disk."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest
from small_runs import AtLook, line, make_trainer, train
from torch import nn

from engine.checkpoints.checkpoint import Checkpoint, Checkpoints
from engine.job import Job
from engine.training.control import Control

NOTHING_LEARNED = {"optimizer.lr": 1e-30, "training.keep_checkpoints": 50}  # only the first epoch is the best so far


def steps(job: Job) -> list[int]:
    return [checkpoint.step for checkpoint in Checkpoints(job.directory.checkpoints).all()]


class TestWhen:
    @pytest.mark.usefixtures("disk_keeps_up")
    @pytest.mark.parametrize(
        ("every", "epochs", "written"),
        [
            ("1 epoch", 4, [0, 5, 10, 15, 20]),
            ("2 epochs", 4, [0, 5, 10, 20]),  # 5: the best
            ("3 steps", 2, [0, 3, 5, 6, 9, 10]),
            ("1 h", 3, [0, 5, 15]),
        ],
    )
    def test_they_come_as_often_as_the_recipe_says(
        self, every: str, epochs: int, written: list[int], root: Path
    ) -> None:
        changes = {**NOTHING_LEARNED, "training.epochs": epochs, "training.checkpoint_every": every}

        job = train(line(changes), root)

        assert steps(job) == written

    def test_by_seconds(self, root: Path) -> None:
        changes = {**NOTHING_LEARNED, "training.checkpoint_every": "1 s"}
        job = train(line(changes), root, AtLook({3: lambda control: time.sleep(1.1)}))

        assert 4 in steps(job)  # the first step that ends after the second has passed; 3 is looked at before its sleep

    def test_the_last_position_is_always_kept(self, root: Path) -> None:
        job = train(line({"training.checkpoint_every": "1 h"}), root)

        assert steps(job)[-1] == 10


@pytest.mark.usefixtures("disk_keeps_up")
class TestWhich:
    def test_the_last_few_and_the_best_are_kept(self, root: Path) -> None:
        changes = {"optimizer.lr": 1e-30, "training.epochs": 6, "training.keep_checkpoints": 2}

        job = train(line(changes), root)

        assert steps(job) == [5, 25, 30]

    def test_more_when_asked_for(self, root: Path) -> None:
        changes = {"optimizer.lr": 1e-30, "training.epochs": 6, "training.keep_checkpoints": 4}

        job = train(line(changes), root)

        assert steps(job) == [5, 15, 20, 25, 30]


class TestBackground:
    def test_the_loop_goes_on_while_a_checkpoint_is_written(self, root: Path) -> None:
        written, steps_meanwhile = threading.Event(), []

        class Held(Checkpoints):
            """Its first write waits until the training has made more steps."""

            def write(self, *arguments: Any, **options: Any) -> Checkpoint:
                if not written.is_set():
                    deadline = time.monotonic() + 20
                    while trainer.at.step < 4 and time.monotonic() < deadline:
                        time.sleep(0.001)
                    steps_meanwhile.append(trainer.at.step)
                    written.set()
                return super().write(*arguments, **options)

        model = nn.Linear(1, 1)
        trainer = make_trainer(line(), model, root, checkpoints=Held(root / "held"))
        root.joinpath("held").mkdir(exist_ok=True)

        trainer.run()
        trainer.close()

        assert steps_meanwhile
        assert steps_meanwhile[0] >= 4
        assert Checkpoints(root / "held").all()[-1].step == 10

    def test_it_goes_on_while_one_that_was_asked_for_is_written_which_is_told_when_it_is_there(
        self, root: Path
    ) -> None:
        meanwhile: list[tuple[int, list[str]]] = []

        def told() -> list[str]:
            return [event.text for event in trainer._recorder.history.events if event.kind == "checkpoint"]

        class Slow(Checkpoints):
            """Its write of what was asked for, or took its place, waits until the training has made more steps."""

            def write(self, snapshot: Any, epoch: int, step: int, *arguments: Any, **options: Any) -> Checkpoint:
                deadline = time.monotonic() + 20
                held = step >= 3 and not meanwhile
                while held and trainer.at.step < step + 4 and time.monotonic() < deadline:
                    time.sleep(0.001)
                if held:
                    meanwhile.append((trainer.at.step, told()))
                return super().write(snapshot, epoch, step, *arguments, **options)

        control = AtLook({3: Control.checkpoint})
        changes = {"training.checkpoint_every": "1 h", "training.epochs": 10}
        trainer = make_trainer(line(changes), nn.Linear(1, 1), root, control=control, checkpoints=Slow(root / "slow"))
        root.joinpath("slow").mkdir(exist_ok=True)

        trainer.run()
        trainer.close()

        assert meanwhile
        assert meanwhile[0][0] >= 7
        assert meanwhile[0][1] == []
        assert len(told()) == 1
