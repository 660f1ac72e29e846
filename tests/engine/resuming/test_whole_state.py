"""What a checkpoint must hold beside the obvious, and what must not get into one. Each was once missing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from small_runs import AtLook, digits, line, python_file, resume, rows, same, stop_at, train, weights
from torch import nn

from engine.checkpoints.checkpoint import Checkpoints, load
from engine.policies.averaging import Averaged
from engine.recipe import Average
from engine.runs.directory import RunDirectory
from engine.training.control import Control

EXACT = ("train/", "val/", "epoch/", "test/")

COMPILED_INSIDE = """
import torch
def make(shape, outputs):
    body = torch.compile(torch.nn.Sequential(torch.nn.Linear(1, 8), torch.nn.ReLU()), backend="eager")
    return torch.nn.Sequential(body, torch.nn.Linear(8, outputs))
"""
HIDDEN_STATE = """
import torch
class Counting(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
        self.register_buffer("seen", torch.zeros(()), persistent=False)
    def forward(self, inputs):
        if self.training:
            self.seen += 1
        return self.layer(inputs) * (1 + 0.01 * self.seen)
def make():
    return Counting()
"""
LATE_BUFFER = """
import torch
class Late(torch.nn.Linear):
    def forward(self, inputs):
        if not hasattr(self, "seen"):
            self.register_buffer("seen", torch.zeros(()), persistent={})
        self.seen += self.training
        return super().forward(inputs) * (1 + 0.01 * self.seen)
def make():
    return Late(1, 1)
"""


def own(tmp_path: Path, text: str, **changes: Any) -> Any:
    return line({"model": {"python": f"{python_file(tmp_path, text)}:make"}, **changes})


class TestKept:
    @pytest.mark.parametrize("text", [COMPILED_INSIDE, HIDDEN_STATE], ids=["compiled inside", "hidden state"])
    def test_a_model_with_its_own_ways_resumes_to_the_same_bits(self, text: str, root: Path, tmp_path: Path) -> None:
        recipe = own(tmp_path, text)
        undisturbed, cut = train(recipe, root), train(recipe, root, stop_at(3))

        job = resume(cut.directory)

        assert job.history.error is None
        assert same(weights(cut.directory), weights(undisturbed.directory))
        assert rows(cut.directory, *EXACT) == rows(undisturbed.directory, *EXACT)

    def test_a_model_compiled_inside_is_tested_with_its_best_weights(self, root: Path, tmp_path: Path) -> None:
        job = train(own(tmp_path, COMPILED_INSIDE, **{"optimizer.lr": 0.9, "training.epochs": 4}), root)

        assert job.history.error is None
        assert job.history.summary is not None

    def test_a_checkpoint_asked_for_in_validation_resumes_to_the_same_bits(self, root: Path) -> None:
        recipe = digits({"training.average": {"kind": "swa"}})
        undisturbed = train(recipe, root)

        def checkpoint(control: Control) -> None:
            control.checkpoint()

        # Eight steps, then eight batches of SWA's pass over the training samples, which draws its dropout.
        cut = train(recipe, root, AtLook({12: checkpoint, 14: Control.stop}))
        resume(cut.directory)

        assert rows(cut.directory, *EXACT) == rows(undisturbed.directory, *EXACT)


class TestNotKept:
    def test_a_stop_in_the_test_leaves_the_last_checkpoint_as_it_was(self, root: Path) -> None:
        # The second epoch is worse than the first. Seven looks an epoch, then those of the test.
        recipe = line({"scheduler": {"name": "ExponentialLR", "gamma": 18.0}})
        whole = train(recipe, root)
        assert whole.history.summary is not None
        assert whole.history.summary.best_epoch < 2, "the best weights must not be the last for this to show anything"

        def meddle(control: Control) -> None:
            control.set_learning_rate(0.5)
            control.stop()

        cut = train(recipe, root, AtLook({15: meddle}))

        assert cut.directory.status().state == "stopped"
        assert same(weights(cut.directory), weights(whole.directory))

    @pytest.mark.parametrize("persistent", [True, False])
    def test_a_buffer_that_only_a_step_adds_is_named_and_not_begun_anew(
        self, persistent: bool, root: Path, tmp_path: Path
    ) -> None:
        cut = train(own(tmp_path, LATE_BUFFER.format(persistent)), root, stop_at(3))

        error = resume(cut.directory).history.error

        assert "checkpoint: does not fit the recipe:" in str(error)
        assert "seen" in str(error)

    def test_an_error_in_validation_keeps_the_epoch(self, root: Path, tmp_path: Path) -> None:
        text = """
import torch
class Fragile(torch.nn.Linear):
    calls = 0
    def forward(self, inputs):
        if not self.training:
            Fragile.calls += 1
            if Fragile.calls > 1:
                raise ValueError("fragile")
        return super().forward(inputs)
def make():
    return Fragile(1, 1)
"""
        job = train(own(tmp_path, text), root)

        assert "fragile" in str(job.history.error)
        assert Checkpoints(job.directory.checkpoints).all()[-1].step == 10


class TestAverage:
    def test_masks_and_tables_of_indices_are_the_models_own(self) -> None:
        class Masked(nn.Linear):
            def __init__(self) -> None:
                super().__init__(4, 4)
                self.register_buffer("mask", torch.full((4, 4), -torch.inf).triu(1))
                self.register_buffer("table", torch.arange(200))

        model = Masked()
        average = Averaged(Average(kind="ema", decay=0.9), model, torch.device("cpu"))
        for _ in range(20):
            average.end_step()

        averaged = average.model.module
        assert isinstance(averaged, Masked)
        assert torch.equal(averaged.get_buffer("mask"), model.get_buffer("mask"))
        assert torch.equal(averaged.get_buffer("table"), model.get_buffer("table"))

    def test_batch_norms_statistics_are_averaged(self) -> None:
        model = nn.BatchNorm1d(1)
        average = Averaged(Average(kind="ema", decay=0.75), model, torch.device("cpu"))
        average.end_step()
        model.get_buffer("running_mean").fill_(4.0)
        model.get_buffer("num_batches_tracked").fill_(20)
        average.end_step()

        averaged = average.model.module
        assert isinstance(averaged, nn.BatchNorm1d)
        assert averaged.get_buffer("running_mean").item() == 1.0
        assert averaged.get_buffer("num_batches_tracked").item() == 20


class TestGoingBack:
    def test_what_a_person_has_set_is_not_taken_back(self, root: Path, tmp_path: Path) -> None:
        data = python_file(
            tmp_path,
            """
import math
class Once:
    calls = 0
    def __len__(self): return 40
    def __getitem__(self, index):
        Once.calls += 1
        return [math.nan if Once.calls == 130 else index / 40], index / 40
def make(): return Once()
""",
            "data.py",
        )
        recipe = line({"data": {"python": f"{data}:make", "batch_size": 8, "split": {"val": 0.0, "test": 0.0}},
                       "training.on_nan": "rollback", "training.epochs": 3})  # fmt: skip

        def extend(control: Control) -> None:
            control.set_epochs(6)

        job = train(recipe, root, AtLook({6: extend}))

        assert job.history.error is None
        assert any(event.kind == "rollback" for event in job.history.events)
        assert [event.text for event in job.history.events if event.kind == "epochs"] == ["epochs 3 → 6"]
        assert job.history.progress.epochs == 6


def test_the_score_of_another_measure_does_not_rank_a_branch(root: Path) -> None:
    from engine.job import Job

    origin = train(digits(), root).directory
    branch = Job.branched(origin, "last", digits({"loss.label_smoothing": 0.2, "training.epochs": 4}), root, "branch")

    assert [checkpoint.score for checkpoint in Checkpoints(branch.directory.checkpoints).all()] == [None]
    assert load(Checkpoints(branch.directory.checkpoints).all()[-1]).weights.keys()
    assert isinstance(branch.directory, RunDirectory)
