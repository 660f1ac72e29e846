"""What a person changes while it trains: done between two steps, said, marked on the curve and kept on resume."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from small_runs import AtLook, digits, line, resume, rows, same, train, weights

from engine.checkpoints.checkpoint import Checkpoints, load
from engine.job import Job
from engine.training.control import Control

DECAYED = {"optimizer": {"name": "AdamW", "lr": 0.01, "weight_decay": 0.1}}


def events(job: Job, kind: str) -> list[tuple[int, str]]:
    return [(event.step, event.text) for event in job.history.events if event.kind == kind]


def groups(job: Job) -> list[float]:
    state = load(Checkpoints(job.directory.checkpoints).all()[-1]).state
    return [group["weight_decay"] for group in state["optim"]["optimizer"]["param_groups"]]


class TestWeightDecay:
    def test_it_is_that_of_the_next_step_and_norms_and_biases_stay_undecayed(self, root: Path) -> None:
        job = train(line(DECAYED), root, AtLook({3: lambda control: control.set_weight_decay(50.0)}))
        free = train(line(DECAYED), root)

        assert events(job, "weight_decay") == [(3, "weight decay 0.1 → 50")]
        assert sorted(groups(job)) == [0.0, 50.0]
        ours, theirs = rows(job.directory)["train/loss"], rows(free.directory)["train/loss"]
        assert [ours[step] for step in (1, 2, 3, 4)] == [theirs[step] for step in (1, 2, 3, 4)]
        assert ours[5] != theirs[5]

    def test_it_is_kept_on_resume(self, root: Path) -> None:
        control = AtLook({3: lambda control: (control.set_weight_decay(0.5), control.stop())})

        job = resume(train(line(DECAYED), root, control).directory)

        assert sorted(groups(job)) == [0.0, 0.5]
        assert events(job, "weight_decay") == [(3, "weight decay 0.1 → 0.5")]


class TestEpochs:
    def test_they_are_extended(self, root: Path) -> None:
        job = train(line(), root, AtLook({3: lambda control: control.set_epochs(4)}))
        whole = train(line({"training.epochs": 4}), root)

        assert events(job, "epochs") == [(3, "epochs 2 → 4")]
        assert len(rows(job.directory)["val/loss"]) == 4
        assert same(weights(job.directory), weights(whole.directory))
        assert (job.history.progress.epochs, job.history.progress.steps) == (4, 20)

    def test_they_are_extended_after_the_last_step_of_all(self, root: Path) -> None:
        job = train(line(), root, AtLook({14: lambda control: control.set_epochs(3)}))

        assert len(rows(job.directory)["val/loss"]) == 3

    def test_they_are_shortened_and_those_begun_are_finished(self, root: Path) -> None:
        job = train(line({"training.epochs": 9}), root, AtLook({8: lambda control: control.set_epochs(2)}))

        assert job.history.progress.state == "done"
        assert list(rows(job.directory)["val/loss"]) == [5, 10]

    def test_a_schedule_that_follows_the_run_follows(self, root: Path) -> None:
        job = train(digits({"training.epochs": 2}), root, AtLook({3: lambda control: control.set_epochs(3)}))

        assert len(rows(job.directory)["val/loss"]) == 3
        assert list(rows(job.directory)["lr"].values())[-1] < 0.01

    def test_they_are_kept_on_resume(self, root: Path) -> None:
        control = AtLook({3: lambda control: (control.set_epochs(3), control.stop())})

        job = resume(train(line(), root, control).directory)

        assert len(rows(job.directory)["val/loss"]) == 3
        assert events(job, "epochs") == [(3, "epochs 2 → 3")]

    def test_while_it_is_tested_they_are_refused(self, root: Path) -> None:
        """Looks of an epoch: five steps, one validation batch, the end; the test comes after the second."""
        job = train(line(), root, AtLook({15: lambda control: control.set_epochs(9)}))

        assert events(job, "epochs") == []
        ((_, said),) = events(job, "trouble")
        assert "the training is over" in said


class TestWrong:
    @pytest.mark.parametrize(
        ("order", "said"),
        [
            (lambda control: control.set_learning_rate(-1.0), "optimizer.lr: -1 is not a learning rate."),
            (lambda control: control.set_learning_rate(float("nan")), "optimizer.lr: nan is not a learning rate."),
            (lambda control: control.set_weight_decay(-1.0), "optimizer.weight_decay: -1 is not a weight decay."),
            (lambda control: control.set_epochs(1), "training.epochs: epoch 2 has begun already. Give at least 2."),
            (lambda control: control.set_epochs(-3), "training.epochs: epoch 2 has begun already."),
        ],
    )
    def test_a_wrong_value_is_said_and_changes_nothing(self, order: object, said: str, root: Path) -> None:
        job, free = train(line(), root, AtLook({9: order})), train(line(), root)  # type: ignore[dict-item]

        ((step, text),) = events(job, "trouble")
        assert step == 7
        assert text.startswith(said)
        assert text.endswith("Nothing was changed.")
        assert same(weights(job.directory), weights(free.directory))


class TestProfile:
    def test_it_leaves_a_trace_and_a_text_and_changes_no_number(self, root: Path) -> None:
        job, free = train(digits(), root, AtLook({3: Control.profile})), train(digits(), root)

        ((step, said),) = events(job, "profile")
        assert step == 8  # of five steps, the first after it was asked for
        (trace,) = job.directory.path.glob("trace-*.json")
        assert str(trace) in said
        assert json.loads(trace.read_text())["traceEvents"]
        (text,) = job.directory.path.glob("profile-*.txt")
        assert "aten::" in text.read_text()
        assert any("aten::" in line for line in job.history.log)
        assert same(weights(job.directory), weights(free.directory))

    def test_it_ends_with_the_epoch_and_the_next_run_can_profile(self, root: Path) -> None:
        short = train(line(), root, AtLook({9: Control.profile}))  # the run has three more steps
        again = train(digits(), root, AtLook({3: Control.profile}))

        assert short.history.error is None
        (said,) = [event for event in short.history.events if event.kind == "profile"]
        assert said.step == 10
        assert events(again, "profile")

    def test_one_in_a_run_that_stops_is_left(self, root: Path) -> None:
        cut = train(digits(), root, AtLook({3: Control.profile, 5: Control.stop}))

        assert not list(cut.directory.path.glob("trace-*"))
        assert not torch.autograd.profiler._is_profiler_enabled
