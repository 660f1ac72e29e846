"""A disk that is full, read-only or gone while it is written to."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from nursery import Nursery, call
from small_runs import AtLook, finish, line, resume, rows, same, start, stop_at, train, wait_for, weights

from engine.checkpoints.checkpoint import Checkpoints, load
from engine.errors import RunError
from engine.job import Job
from engine.runs.directory import RunDirectory
from engine.training.control import Control

# 400 KB of weights: what fills the disk is a checkpoint, and not the metrics.
WIDE = line({"model.layers.0.out_features": 33_000, "training.epochs": 6, "optimizer.lr": 1e-6})
EXACT = ("train/", "val/", "epoch/", "test/")


def limit(size: int) -> None:
    """Let no file of this process grow beyond `size` bytes."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def train_with_a_limit(root: str, ending: str) -> None:
    """Train while, from the tenth look on, files have no room; `ending`: give it back, or stop."""
    job = start(WIDE, Path(root), AtLook({10: lambda control: limit(150_000)}))
    wait_for(lambda: job.history.progress.state == "paused")
    paused = job.history.progress.text
    if ending == "stop":
        job.control.stop()
    else:
        limit(resource.RLIM_INFINITY)
    finish(job)
    limit(resource.RLIM_INFINITY)
    tell(job, paused)


def tell(job: Job, paused: str) -> None:
    events = [(event.kind, event.text) for event in job.history.events]
    print(json.dumps({"run": str(job.directory.path), "paused": paused, "events": events, "log": job.history.log[-1]}))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """The run that nothing disturbed."""
    job: Job = train(WIDE, tmp_path_factory.mktemp("whole"))
    return job.directory


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of three megabytes."""
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(disk)]
    mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"mounting is not permitted here: {mounted.stderr.strip()}")
    yield disk
    subprocess.run(["umount", "--lazy", disk], check=True)


def remount(disk: Path, how: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{how}", disk], check=True)


def fill(disk: Path) -> Path:
    """Leave no room at all; returns the file that takes it."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file:
        try:
            while file.write(b"x" * 4096) == 4096:
                pass
        except OSError:
            pass
    return ballast


def assert_nothing_half(run: RunDirectory) -> None:
    named = {path.name for path in run.checkpoints.iterdir()}
    assert named == {checkpoint.name for checkpoint in Checkpoints(run.checkpoints).all() if load(checkpoint)}


def assert_as_if_nothing_had_been(run: RunDirectory, whole: RunDirectory) -> None:
    assert run.status().state == "done"
    assert same(weights(run), weights(whole))
    assert rows(run, *EXACT) == rows(whole, *EXACT)
    assert_nothing_half(run)


class TestFull:
    def test_the_training_pauses_says_why_and_ends_with_the_same_bits_once_there_is_space(
        self, nursery: Nursery, whole: RunDirectory, root: Path
    ) -> None:
        told = json.loads(call(nursery, "test_disk_trouble", "train_with_a_limit", root, "space").splitlines()[-1])

        assert told["paused"].startswith("the disk is full: no checkpoint was written; the training goes on when")
        assert [kind for kind, _ in told["events"]] == ["trouble", "disk"]
        assert "Free some space" in told["events"][0][1]
        assert_as_if_nothing_had_been(RunDirectory(Path(told["run"])), whole)

    def test_a_stop_during_the_pause_ends_it_and_the_run_can_be_resumed_to_the_same_bits(
        self, nursery: Nursery, whole: RunDirectory, root: Path
    ) -> None:
        told = json.loads(call(nursery, "test_disk_trouble", "train_with_a_limit", root, "stop").splitlines()[-1])
        run = RunDirectory(Path(told["run"]))

        assert run.status().state == "stopped"
        assert told["log"].endswith("stopped, and no checkpoint could be written")
        assert_nothing_half(run)
        assert resume(run).history.error is None
        assert_as_if_nothing_had_been(run, whole)

    def test_so_it_is_on_a_real_disk_that_is_full_metrics_included(self, small_disk: Path, whole: RunDirectory) -> None:
        job = start(WIDE, small_disk / "runs", AtLook({10: lambda control: fill(small_disk)}))
        wait_for(lambda: job.history.progress.state == "paused")
        assert_nothing_half(job.directory)
        (small_disk / "ballast").unlink()
        finish(job)

        assert job.history.error is None
        assert_as_if_nothing_had_been(job.directory, whole)

    def test_runs_can_be_looked_at_and_resuming_says_to_make_room(self, small_disk: Path) -> None:
        root = small_disk / "runs"
        done, cut = train(line(), root).directory, train(line(), root, stop_at(3)).directory
        states, kept = [run.status().state for run in (done, cut)], rows(done)
        ballast = fill(small_disk)

        assert [run.status().state for run in (done, cut)] == states == ["done", "stopped"]
        assert done.history().series
        assert rows(done) == kept
        assert "can't be written" in str(resume(cut).history.error)

        ballast.unlink()
        assert resume(cut).history.error is None


class TestReadOnly:
    def test_a_run_that_cannot_be_written_any_more_is_said_and_can_be_resumed(self, small_disk: Path) -> None:
        recipe = line({"training.epochs": 3})
        whole = train(recipe, small_disk / "whole").directory
        root = small_disk / "runs"
        cut = train(recipe, root, stop_at(3)).directory
        remount(small_disk, "ro")
        try:
            with pytest.raises(RunError, match=r"can't be (written|read)"):
                Job.create(recipe, root, "line")
            try:
                job = resume(cut)
                said = str(job.history.error)
            except RunError as error:
                said = str(error)
            assert "can't be" in said
            assert "\n" not in said
        finally:
            remount(small_disk, "rw")

        assert resume(cut).history.error is None
        assert same(weights(cut), weights(whole))
        assert rows(cut, *EXACT) == rows(whole, *EXACT)

    def test_runs_can_be_looked_at_and_branched_from(self, small_disk: Path, root: Path) -> None:
        origin = train(line(), small_disk / "runs").directory
        kept, longer = rows(origin), line({"training.epochs": 5})
        remount(small_disk, "ro")
        try:
            assert origin.status().state == "done"
            assert rows(origin) == kept
            branch = Job.branched(origin, "last", longer, root, "branch")
            branch.start()
            finish(branch)
        finally:
            remount(small_disk, "rw")

        assert branch.history.error is None


class TestVanished:
    def test_a_run_removed_while_it_trains_is_said_and_does_not_come_back(self, root: Path) -> None:
        def remove(control: Control) -> None:
            while root.exists():  # the writer may be putting something there
                shutil.rmtree(root, ignore_errors=True)

        job = start(line({"training.epochs": 30}), root, AtLook({9: remove}))

        finish(job)

        trouble = [event.text for event in job.history.events if event.kind == "trouble"]
        assert trouble
        assert all("a checkpoint can't be written" in text for text in trouble)
        assert not root.exists()

    def test_a_root_that_is_a_file_is_refused_with_what_to_do(self, tmp_path: Path) -> None:
        (tmp_path / "runs").touch()

        with pytest.raises(RunError, match=r"can't be written there: .*Choose another folder with --runs"):
            Job.create(line(), tmp_path / "runs", "line")

    def test_a_run_that_could_not_be_made_leaves_no_ruin(self, nursery: Nursery, root: Path) -> None:
        said = call(nursery, "test_disk_trouble", "create_without_room", root)

        assert "a run can't be written there: File too large" in said
        assert os.listdir(root) == []


def create_without_room(root: str) -> None:
    limit(100)
    try:
        Job.create(line(), Path(root), "line")
    except RunError as error:
        limit(resource.RLIM_INFINITY)
        print(error)
