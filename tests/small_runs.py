"""Recipes that train in a fraction of a second on real data, and what tests of the engine do with them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from engine.checkpoints.checkpoint import Checkpoints, load
from engine.data.prepare import prepare
from engine.job import Job
from engine.recipe import Recipe
from engine.runs.directory import RunDirectory
from engine.runs.history import History
from engine.runs.metrics import read_points
from engine.runs.recorder import Recorder
from engine.tasks.losses import make_task
from engine.training.control import Control
from engine.training.trainer import Trainer

_REPOSITORY = Path(__file__).parent.parent


def line(changes: Mapping[str, Any] | None = None) -> Recipe:
    """y = 2x through 1 → 8 → 1: 200 points, five steps an epoch, two epochs."""
    values = {
        "title": "line",
        "task": "regression",
        "data": {"name": "line", "options": {"points": 200}, "batch_size": 32},
        "model": {
            "layers": [
                {"name": "Linear", "out_features": 8},
                {"name": "ReLU"},
                {"name": "Linear", "out_features": "targets"},
            ]
        },
        "loss": {"name": "MSELoss"},
        "optimizer": {"name": "SGD", "lr": 0.05},
        "training": {"epochs": 2, "device": "cpu"},
    }
    return Recipe.from_values(values).override(changes or {})


def digits(changes: Mapping[str, Any] | None = None) -> Recipe:
    """Dropout, augmentation, momentum and a schedule by step: all that draws or remembers.

    Eight steps and three validation batches an epoch, three epochs.
    """
    values = {
        "title": "digits",
        "data": {
            "name": "mnist5k",
            "batch_size": 64,
            "split": {"train": 0.1, "val": 0.03, "test": 0.03},
            "augment": [{"name": "RandomCrop", "size": 28, "padding": 2}],
        },
        "model": {
            "layers": [
                {"name": "Flatten"},
                {"name": "Linear", "out_features": 32},
                {"name": "BatchNorm1d"},
                {"name": "ReLU"},
                {"name": "Dropout", "p": 0.3},
                {"name": "Linear", "out_features": "classes"},
            ]
        },
        "optimizer": {"name": "SGD", "lr": 0.05, "momentum": 0.9},
        "scheduler": {"name": "OneCycleLR", "every": "step"},
        "training": {"epochs": 3, "device": "cpu"},
    }
    return Recipe.from_values(values).override(changes or {})


class AtLook(Control):
    """Does something at the n-th look that the loop takes at the control.

    The loop looks once after each step, after each validation batch and at the end of each epoch.
    """

    def __init__(self, looks: Mapping[int, Callable[[Control], object]]) -> None:
        self.looks = 0
        self._todo = dict(looks)
        self._told = False
        super().__init__()

    @property
    def pending(self) -> bool:
        self.looks += 1
        if self.looks in self._todo:
            self._todo[self.looks](self)
        return self._told

    @pending.setter
    def pending(self, value: bool) -> None:
        self._told = value


def stop_at(look: int) -> AtLook:
    """A control that stops the run at the n-th look."""
    return AtLook({look: Control.stop})


def written(root: Path, count: int) -> Callable[[object], None]:
    """Something to do at a look: wait until the only run has `count` checkpoints; a busy disk leaves some out."""

    def wait(_: object) -> None:
        end = time.monotonic() + 60
        while len(Checkpoints(next(root.iterdir()) / "checkpoints").all()) < count:
            assert time.monotonic() < end, "the checkpoint was not written"
            time.sleep(0.01)

    return wait


def start(recipe: Recipe, root: Path, control: Control | None = None) -> Job:
    """A job that has begun."""
    job = Job.create(recipe, root, recipe.title)
    job.control = control or job.control
    job.start()
    return job


def finish(job: Job) -> Job:
    """The job at its end."""
    job.join(60)
    assert not job.alive, "the job does not end"
    return job


def train(recipe: Recipe, root: Path, control: Control | None = None) -> Job:
    """A job that has run to its end."""
    return finish(start(recipe, root, control))


def resume(directory: RunDirectory, control: Control | None = None) -> Job:
    """A resumed job that has run to its end."""
    job = Job.resumed(directory)
    job.control = control or job.control
    job.start()
    return finish(job)


def rows(directory: RunDirectory, *prefixes: str) -> dict[str, dict[int, float]]:
    """Series name → step → value as they are on disk."""
    return {
        name: dict(zip(steps.tolist(), values.tolist(), strict=True))
        for name, steps, values in read_points(directory.metrics_file)
        if name.startswith(prefixes or "")
    }


def weights(directory: RunDirectory) -> dict[str, Tensor]:
    """The weights of the newest checkpoint."""
    return load(Checkpoints(directory.checkpoints).all()[-1]).weights


def same(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> bool:
    """Whether two sets of weights are equal to the bit."""
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def make_trainer(
    recipe: Recipe, model: nn.Module, root: Path, *, control: Control | None = None, **replaced: Any
) -> Trainer:
    """A trainer for a model of the test's own, to be run in the test's own thread."""
    directory = RunDirectory.create(root, recipe.title, recipe, "cpu")
    data = prepare(recipe, torch.device("cpu"), lambda what, done, total: None)
    parts: dict[str, Any] = {
        "task": make_task(recipe, data.facts, torch.device("cpu")),
        "train": data.train,
        "val": data.val,
        "test": data.test,
        "control": control or Control(),
        "recorder": Recorder(History(), directory),
        "checkpoints": Checkpoints(directory.checkpoints),
    }
    return Trainer(recipe, model, device=torch.device("cpu"), **{**parts, **replaced})


def python_file(folder: Path, text: str, name: str = "mine.py") -> str:
    """A person's own file with `text`; its path."""
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return str(path)


def run_python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `code` in a process of its own that can import the engine and this module."""
    path = os.pathsep.join((str(_REPOSITORY), str(_REPOSITORY / "tests")))
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True, text=True, timeout=100, env={**os.environ, "PYTHONPATH": path},
    )  # fmt: skip


def wait_for(condition: Callable[[], object], seconds: float = 20) -> None:
    """Return once `condition` holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.005)
