"""Trainings in processes of their own that are killed without warning, and what is left of them."""

from __future__ import annotations

import itertools
import os
import random
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from nursery import Child, Nursery, wait_until
from small_runs import digits, finish, resume, rows, same, train, wait_for, weights

from engine.checkpoints.checkpoint import Checkpoints, load
from engine.errors import RunError
from engine.job import Job
from engine.recipe import Recipe
from engine.runs.directory import RunDirectory
from engine.runs.history import History
from engine.training.control import Control

EPOCHS = 24
STEPS, LOOKS = 8, 12  # of an epoch: eight steps, three validation batches and one end
EXACT = ("train/", "val/", "epoch/", "test/")
RECORD = struct.Struct("dq")
"""When the loop looked at its control (monotonic seconds), and how many steps were done by then."""


class Telling(Control):
    """Tells each look of the loop to a file: one write, which outlives the process."""

    def __init__(self, told: str, first_step: int = 0) -> None:
        self._looks = first_step // STEPS * LOOKS + first_step % STEPS
        self._told = os.open(told, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self._waits = False
        super().__init__()

    @property
    def pending(self) -> bool:
        self._looks += 1
        epoch, within = divmod(self._looks - 1, LOOKS)
        os.write(self._told, RECORD.pack(time.monotonic(), epoch * STEPS + min(within + 1, STEPS)))
        return self._waits

    @pending.setter
    def pending(self, value: bool) -> None:
        self._waits = value


# What the processes do


def train_anew(recipe: str, root: str, told: str) -> None:
    job = Job.create(Recipe.load(recipe), Path(root), "killed")
    job.control = Telling(told)
    job.start()
    job.join()


def go_on(run: str, told: str) -> None:
    directory = RunDirectory(Path(run))
    job = Job.resumed(directory)
    job.control = Telling(told, Checkpoints(directory.checkpoints).all()[-1].step)
    job.start()
    job.join()


def branch_off(origin: str, checkpoint: str, recipe: str, root: str) -> None:
    job = Job.branched(RunDirectory(Path(origin)), checkpoint, Recipe.load(recipe), Path(root), "branch")
    job.start()
    job.join()


# What the tests look at


@dataclass
class Victim:
    """A training in another process."""

    child: Child
    told: Path
    root: Path

    @property
    def run(self) -> RunDirectory:
        return RunDirectory(next(self.root.iterdir()))

    def looks(self) -> int:
        try:
            return self.told.stat().st_size // RECORD.size
        except FileNotFoundError:
            return 0

    def kill(self) -> float:
        """Kill it; how many seconds what is on disk is behind what it had done."""
        os.kill(self.child.pid, 9)
        killed = time.monotonic()
        self.child.wait()
        on_disk = max(rows(self.run, "train/").get("train/loss", {0: 0.0}))
        missing = [moment for moment, step in RECORD.iter_unpack(self.told.read_bytes()) if step > on_disk]
        return killed - missing[0] if missing else 0.0


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    with Nursery() as nursery:
        yield nursery


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """The run that nothing disturbed."""
    return train(digits({"training.epochs": EPOCHS}), tmp_path_factory.mktemp("whole")).directory


def begin(nursery: Nursery, tmp_path: Path, **training: object) -> Victim:
    recipe, told, root = tmp_path / "recipe.toml", tmp_path / "told", tmp_path / "runs"
    settings = {"epochs": EPOCHS, **training}
    recipe.write_text(digits({f"training.{key}": value for key, value in settings.items()}).to_toml())
    return Victim(nursery.start("test_kills", "train_anew", recipe, root, told), told, root)


def assert_whole_checkpoints(run: RunDirectory) -> None:
    """What has a checkpoint's name is one."""
    named = {path.name for path in run.checkpoints.iterdir() if not path.name.startswith(".writing-")}
    assert named == {checkpoint.name for checkpoint in Checkpoints(run.checkpoints).all() if load(checkpoint)}


def assert_as_if_nothing_had_been(run: RunDirectory, whole: RunDirectory) -> None:
    assert run.status().state == "done"
    assert same(weights(run), weights(whole))
    assert rows(run, *EXACT) == rows(whole, *EXACT)
    ours, theirs = run.status().summary, whole.status().summary
    assert ours is not None
    assert theirs is not None
    assert (ours.best, ours.best_epoch, ours.test) == (theirs.best, theirs.best_epoch, theirs.test)
    assert_whole_checkpoints(run)
    assert list(run.checkpoints.glob(".writing-*")) == []


def writing(run: Path) -> bool:
    """Whether a checkpoint is being written in this very moment."""
    try:
        return any(name.startswith(".writing-") for name in os.listdir(run / "checkpoints"))
    except FileNotFoundError:
        return False


class TestAnyMoment:
    @pytest.mark.parametrize("number", range(25))
    def test_a_killed_run_loses_a_second_at_most_and_ends_with_the_same_bits_and_rows(
        self, number: int, nursery: Nursery, whole: RunDirectory, tmp_path: Path
    ) -> None:
        chance = random.Random(number)
        within_write, again = number % 5 < 2, number % 4 == 0
        every = "3 steps" if within_write else chance.choice(["1 epoch", "2 epochs", "5 steps", "17 steps", "0.2 s"])
        victim = begin(nursery, tmp_path, checkpoint_every=every)
        look = chance.randrange(1, EPOCHS * LOOKS * 4 // 5)

        wait_until(lambda: victim.looks() >= look)
        time.sleep(chance.uniform(0, 0.01))
        if within_write:
            run = victim.run.path
            wait_until(lambda: writing(run))
        behind = victim.kill()

        assert behind <= 1.0
        assert victim.run.status().state == "interrupted"
        assert_whole_checkpoints(victim.run)
        if within_write:
            # A few end as they are seen; that most do not is asserted below.
            (tmp_path.parent / f"caught-{number}").touch() if writing(victim.run.path) else None
        if again:
            second = tmp_path / "second"
            resumed = Victim(nursery.start("test_kills", "go_on", victim.run.path, second), second, victim.root)
            wait_until(lambda: resumed.looks() >= 20)
            assert resumed.kill() <= 1.0
            assert_whole_checkpoints(victim.run)

        job = resume(victim.run)

        assert job.history.error is None
        assert [event.kind for event in job.history.events if event.kind != "resume"] == []
        assert_as_if_nothing_had_been(victim.run, whole)
