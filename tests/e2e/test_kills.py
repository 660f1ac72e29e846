"""Trainings in processes of their own that are killed without warning, and what is left of them."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import struct
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import pytest
from nursery import Child, Nursery, wait_until
from small_runs import digits, finish, resume, rows, same, train, weights

from engine.checkpoints.checkpoint import Checkpoints, load
from engine.errors import RunError
from engine.job import Job
from engine.recipe import Recipe
from engine.runs.directory import RunDirectory, all_runs
from engine.runs.metrics import read_points
from engine.runs.writer import MetricsWriter
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
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.child.pid, 9)
        killed = time.monotonic()
        self.child.wait()
        if not self.told.exists():
            return 0.0
        recorded = rows(self.run, "train/loss") if self.run.metrics_file.exists() else {}
        on_disk = max(recorded.get("train/loss", {0: 0.0}))
        missing = [moment for moment, step in RECORD.iter_unpack(self.told.read_bytes()) if step > on_disk]
        return killed - missing[0] if missing else 0.0


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """The run that nothing disturbed."""
    return train(digits({"training.epochs": EPOCHS}), tmp_path_factory.mktemp("whole")).directory


def begin(
    nursery: Nursery, folder: Path, every: str = "1 epoch", changes: Mapping[str, object] | None = None
) -> Victim:
    settings = {"training.epochs": EPOCHS, "training.checkpoint_every": every, **(changes or {})}
    recipe, told, root = folder / "recipe.toml", folder / "told", folder / "runs"
    recipe.write_text(digits(settings).to_toml())
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


def stop_within_a_write(victim: Victim) -> None:
    """Halt the process while a checkpoint is half on disk."""
    run = victim.run.path
    while True:
        wait_until(lambda: writing(run))
        os.kill(victim.child.pid, signal.SIGSTOP)
        time.sleep(0.002)  # the signal takes its time
        if writing(run):
            return
        os.kill(victim.child.pid, signal.SIGCONT)


class TestAnyMoment:
    @pytest.mark.parametrize("number", range(6))
    def test_a_killed_run_loses_a_second_at_most_and_ends_with_the_same_bits_and_rows(
        self, number: int, nursery: Nursery, whole: RunDirectory, tmp_path: Path
    ) -> None:
        chance = random.Random(number)
        within_write, again = number % 5 < 2, number % 4 == 0
        every = "3 steps" if within_write else chance.choice(["1 epoch", "2 epochs", "5 steps", "17 steps", "0.2 s"])
        victim = begin(nursery, tmp_path, every)
        look = chance.randrange(1, EPOCHS * LOOKS * 4 // 5)

        wait_until(lambda: victim.looks() >= look)
        time.sleep(chance.uniform(0, 0.01))
        if within_write:
            stop_within_a_write(victim)
        behind = victim.kill()

        assert behind <= 1.0
        assert victim.run.status().state == "interrupted"
        assert_whole_checkpoints(victim.run)
        assert writing(victim.run.path) or not within_write
        if again:
            second = tmp_path / "second"
            resumed = Victim(nursery.start("test_kills", "go_on", victim.run.path, second), second, victim.root)
            wait_until(lambda: resumed.looks() >= 20 or not resumed.child.alive)  # little was left where a disk is slow
            assert resumed.kill() <= 1.0
            assert_whole_checkpoints(victim.run)

        job = resume(victim.run)

        assert job.history.error is None
        assert [event.kind for event in job.history.events if event.kind != "resume"] == []
        assert_as_if_nothing_had_been(victim.run, whole)


class TestEarly:
    @pytest.mark.parametrize(
        "trace", ["", "environment.json", "recipe.toml", "log.txt", "metrics.sqlite", "checkpoints/.writing-*"]
    )
    def test_a_run_killed_before_its_first_checkpoint_is_none_or_begins_anew(
        self, trace: str, nursery: Nursery, whole: RunDirectory, tmp_path: Path
    ) -> None:
        victim = begin(nursery, tmp_path)

        wait_until(lambda: any(victim.root.glob(f"*/{trace}".rstrip("/"))))
        victim.kill()

        if not victim.run.recipe_file.exists():
            assert trace in ("", "environment.json")
            assert list(all_runs(victim.root)) == []
            with pytest.raises(RunError, match="is no run"):
                RunDirectory.open(victim.run.path, victim.root)
            return
        begun = Checkpoints(victim.run.checkpoints).any()
        assert victim.run.status().state == "interrupted"
        job = resume(victim.run)
        assert job.history.error is None
        said = "resumed from epoch-" if begun else "no checkpoint had been written: the run begins anew"
        assert [event.text.startswith(said) for event in job.history.events] == [True]
        assert_as_if_nothing_had_been(victim.run, whole)


class TestBranch:
    @pytest.fixture(scope="class")
    def origin(self, tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
        return train(digits(), tmp_path_factory.mktemp("origin")).directory

    @pytest.mark.parametrize("trace", ["", "checkpoints/epoch*", "metrics.sqlite", "recipe.toml", "log.txt"])
    def test_a_branch_killed_before_its_first_own_checkpoint_is_none_or_ends_with_the_same_bits(
        self, trace: str, nursery: Nursery, origin: RunDirectory, tmp_path: Path
    ) -> None:
        recipe = digits({"training.epochs": 5, "training.checkpoint_every": "100 epochs"})
        checkpoint = Checkpoints(origin.checkpoints).all()[0].name
        undisturbed = finish_branch(origin, checkpoint, recipe, tmp_path / "undisturbed")
        path, root = tmp_path / "recipe.toml", tmp_path / "runs"
        path.write_text(recipe.to_toml())

        child = nursery.start("test_kills", "branch_off", origin.path, checkpoint, path, root)
        wait_until(lambda: any(root.glob(f"*/{trace}".rstrip("/"))))
        child.kill()

        found = list(all_runs(root))
        if not found:
            assert trace not in ("recipe.toml", "log.txt")
            return
        job = resume(found[0])
        assert job.history.error is None
        assert job.directory.status().facts["origin"]["run"] == origin.name
        assert_as_if_nothing_had_been(job.directory, undisturbed)


class TestWorkers:
    @pytest.fixture(scope="class")
    def killed(self, nursery: Nursery, tmp_path_factory: pytest.TempPathFactory) -> tuple[RunDirectory, int]:
        """A run that was killed while two workers read for it, and how many processes it left behind."""
        victim = begin(nursery, tmp_path_factory.mktemp("workers"), changes={"data.num_workers": 2})
        wait_until(lambda: victim.looks() >= 40)
        workers = psutil.Process(victim.child.pid).children(recursive=True)
        assert len(workers) >= 2
        assert victim.kill() <= 1.0
        _, alive = psutil.wait_procs(workers, 6)
        for process in alive:
            process.kill()
        return victim.run, len(alive)

    def test_a_killed_run_leaves_no_worker(self, killed: tuple[RunDirectory, int]) -> None:
        assert killed[1] == 0

    def test_it_ends_with_the_same_bits(self, killed: tuple[RunDirectory, int], whole: RunDirectory) -> None:
        job = resume(killed[0])

        assert job.history.error is None
        assert_as_if_nothing_had_been(killed[0], whole)


class TestPowerLoss:
    def test_what_a_checkpoint_follows_is_in_the_synced_file_itself(self, tmp_path: Path) -> None:
        """sqlite's log is not synced at a commit: after a loss of power only what the file itself holds is sure."""
        writer = MetricsWriter(tmp_path / "metrics.sqlite", pytest.fail)
        writer.points("train/loss", np.array([7]), np.array([0.5]))
        writer.mark()()

        shutil.copy(tmp_path / "metrics.sqlite", tmp_path / "after.sqlite")

        assert [(name, steps.tolist()) for name, steps, _ in read_points(tmp_path / "after.sqlite")] == [
            ("train/loss", [7])
        ]
        writer.close()


def finish_branch(origin: RunDirectory, checkpoint: str, recipe: Recipe, root: Path) -> RunDirectory:
    job = Job.branched(origin, checkpoint, recipe, root, "branch")
    job.start()
    assert finish(job).history.error is None
    return job.directory
