from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from kept import names, weights

from engine.checkpoints.checkpoint import Checkpoint, Checkpoints, load
from engine.checkpoints.keepable import Unkeepable
from engine.checkpoints.snapshot import Snapshot
from engine.checkpoints.writer import CheckpointWriter
from engine.errors import DiskFull, TrainingError


class Store(Checkpoints):
    """A store whose disk waits until it is let go, and fails as often as it is told to."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, keep_last=20)
        self.steps: list[int] = []
        self.begun = threading.Semaphore(0)
        self.go = threading.Event()
        self.errors: list[BaseException] = []

    def write(self, snapshot: Snapshot, epoch: int, step: int, *rest: Any, **how: Any) -> Checkpoint:
        self.steps.append(step)
        self.begun.release()
        assert self.go.wait(20)
        if self.errors:
            raise self.errors.pop(0)
        return super().write(snapshot, epoch, step, *rest, **how)

    def on_disk(self) -> list[int]:
        return [checkpoint.step for checkpoint in self.all()]


class Kept:
    """A writer over a slow store, and how a training hands it things."""

    def __init__(self, folder: Path) -> None:
        self.store = Store(folder)
        self.writer = CheckpointWriter(self.store)

    def save(self, step: int, score: float | None = None, *, epoch: int = 0, value: float = 0.0, **how: Any) -> None:
        self.writer.save(epoch, step, {"model": weights(value)}, {"step": step}, score, **how)

    def save_first(self, step: int, score: float | None = None) -> None:
        """Save, and return when the store has begun to write it."""
        while self.store.begun.acquire(blocking=False):
            pass
        self.save(step, score)
        assert self.store.begun.acquire(timeout=20)

    def let_go(self) -> None:
        self.store.go.set()
        assert self.writer.wait(20)


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Kept]:
    made = Kept(tmp_path / "checkpoints")
    yield made
    made.store.go.set()
    made.store.errors.clear()
    made.writer.close()


class TestOrder:
    def test_the_training_goes_on_while_the_disk_is_slow(self, kept: Kept) -> None:
        kept.save_first(1)

        assert not kept.writer.wait(0.01)
        assert kept.store.on_disk() == []
        kept.let_go()

        assert kept.store.on_disk() == [1]
        assert kept.writer.last is not None
        assert kept.writer.last.step == 1
        assert kept.writer.trouble is None

    def test_a_newer_one_takes_the_place_of_what_waits(self, kept: Kept) -> None:
        kept.save_first(1)
        for step in (2, 3, 4, 5):
            kept.save(step)
        kept.let_go()

        assert kept.store.steps == [1, 5]

    def test_the_best_one_that_waits_is_written_and_so_is_the_newest(self, kept: Kept) -> None:
        kept.save_first(1, 0.1)
        for step, score in ((2, None), (3, 0.9), (4, 0.5), (5, None), (6, 0.8), (7, None)):
            kept.save(step, score)
        kept.let_go()

        assert kept.store.steps == [1, 3, 7]
        best = kept.writer.best()
        assert best is not None
        assert best.step == 3

    def test_a_better_one_takes_the_place_of_the_best(self, kept: Kept) -> None:
        kept.save_first(1, 0.1)
        for step, score in ((2, 0.5), (3, None), (4, 0.9)):
            kept.save(step, score)
        kept.let_go()

        assert kept.store.steps == [1, 4]

    def test_one_worse_than_what_an_earlier_process_wrote_is_no_best(self, kept: Kept, tmp_path: Path) -> None:
        before = CheckpointWriter(Checkpoints(tmp_path / "checkpoints"))
        before.save(0, 1, {"model": weights()}, {}, 0.7)
        assert before.close()

        kept.save_first(2)
        for step, score in ((3, 0.5), (4, None)):
            kept.save(step, score)
        kept.let_go()

        assert kept.store.steps == [2, 4]

    def test_the_same_position_is_taken_once_unless_it_is_to_be_replaced(self, kept: Kept) -> None:
        kept.save_first(1)
        kept.save(2, 0.5, value=2.0)
        kept.save(2, value=3.0)
        kept.let_go()
        assert load(kept.store.all()[-1]).weights["bias"].tolist() == [2.0, 2.0]

        kept.store.go.clear()
        kept.save_first(3)
        kept.save(4, 0.9, value=4.0)
        kept.save(4, value=5.0, replace=True)
        kept.let_go()

        assert kept.store.steps == [1, 2, 3, 4]
        newest = kept.store.all()[-1]
        assert load(newest).weights["bias"].tolist() == [5.0, 5.0]
        assert kept.writer.best() == newest
        assert newest.score == 0.9

    def test_one_that_is_being_written_is_replaced_afterwards(self, kept: Kept) -> None:
        kept.save_first(1, 0.5)
        kept.save(1, value=7.0, replace=True)
        kept.let_go()

        (only,) = kept.store.all()
        assert kept.store.steps == [1, 1]
        assert only.score == 0.5
        assert load(only).weights["bias"].tolist() == [7.0, 7.0]

    def test_what_is_written_is_what_was_at_hand_when_it_was_saved(self, kept: Kept) -> None:
        model = torch.nn.Linear(2, 2)
        expected = model.weight.detach().clone()
        kept.writer.save(0, 1, {"model": model.state_dict()}, {})
        with torch.no_grad():
            model.weight += 1
        kept.let_go()

        kept_weight = load(kept.store.all()[0]).weights["weight"]
        assert torch.equal(kept_weight, expected)
        assert not torch.equal(kept_weight, model.weight)

    def test_many_saves_at_full_speed_end_with_the_newest_and_the_best(self, kept: Kept) -> None:
        kept.store.go.set()
        for step in range(1, 200):
            kept.save(step, 1.0 if step == 77 else 0.5, value=float(step))
        assert kept.writer.close()

        assert kept.store.on_disk()[-1] == 199
        for checkpoint in kept.store.all():
            loaded = load(checkpoint)
            assert loaded.weights["bias"].tolist() == [float(checkpoint.step)] * 2
            assert loaded.state == {"step": checkpoint.step}
        best = kept.writer.best()
        assert best is not None
        assert best.step == 77


class TestBefore:
    def test_it_is_called_as_the_snapshot_is_taken_and_waited_for_before_the_name_is_given(
        self, tmp_path: Path
    ) -> None:
        checkpoints = Checkpoints(tmp_path / "checkpoints")
        seen: list[Any] = []
        release = threading.Event()

        def before() -> Callable[[], None]:
            seen.append(threading.current_thread())

            def wait() -> None:
                seen.append(threading.current_thread())
                assert release.wait(20)

            return wait

        writer = CheckpointWriter(checkpoints, before)
        writer.save(0, 1, {"model": weights()}, {})
        assert seen[0] is threading.current_thread()
        assert not writer.wait(0.2)
        assert checkpoints.all() == []
        release.set()

        assert writer.close()
        assert len(checkpoints.all()) == 1
        assert seen[1] is not threading.current_thread()


FULL = DiskFull("disk", "the disk is full")


class TestTrouble:
    def test_what_failed_is_kept_and_written_at_retry(self, kept: Kept) -> None:
        kept.store.errors = [FULL, FULL]
        kept.save(1)
        kept.let_go()
        assert isinstance(kept.writer.trouble, DiskFull)
        assert kept.writer.last is None

        kept.writer.retry()
        assert kept.writer.wait(20)
        assert isinstance(kept.writer.trouble, DiskFull)
        kept.writer.retry()
        assert kept.writer.wait(20)

        assert kept.writer.trouble is None
        assert kept.store.on_disk() == [1]

    def test_without_retry_it_is_not_tried_again(self, kept: Kept) -> None:
        kept.store.errors = [FULL]
        kept.save(1)
        kept.let_go()
        time.sleep(0.05)

        assert kept.store.steps == [1]
        assert kept.writer.trouble is not None

    def test_the_next_save_brings_the_best_that_failed_with_it(self, kept: Kept) -> None:
        kept.store.errors = [FULL]
        kept.save(1, 0.9)
        kept.let_go()
        kept.save(2, 0.1)
        assert kept.writer.wait(20)

        assert kept.store.on_disk() == [1, 2]
        assert kept.writer.trouble is None

    def test_a_disk_that_stays_full_holds_three_snapshots_at_most(self, kept: Kept) -> None:
        kept.store.go.set()
        kept.store.errors = [FULL] * 1000
        for step in range(1, 50):
            kept.save(step, 0.9 if step == 10 else 0.1)  # a fourth would be an AssertionError
            kept.writer.wait(1)
        kept.store.errors.clear()
        kept.writer.retry()
        assert kept.writer.wait(20)

        assert kept.store.on_disk() == [10, 49]

    @pytest.mark.parametrize("error", [ValueError("odd"), SystemExit(3), MemoryError(), RecursionError("deep")])
    def test_whatever_is_raised_is_told_and_the_thread_goes_on(self, error: BaseException, kept: Kept) -> None:
        kept.store.errors = [error]
        kept.save(1)
        kept.let_go()
        trouble = kept.writer.trouble
        assert type(trouble) is TrainingError
        assert type(error).__name__ in str(trouble)
        assert "Traceback" in trouble.__notes__[0]
        assert trouble.__traceback__ is None

        kept.save(2)
        assert kept.writer.wait(20)

        assert kept.writer.trouble is None
        assert kept.store.on_disk()[-1] == 2

    @pytest.mark.parametrize("value", [compile("1", "mine", "eval"), print])  # the first can't even be written
    def test_state_that_cannot_be_loaded_again_is_told_at_the_first_checkpoint(self, value: Any, kept: Kept) -> None:
        kept.store.go.set()
        extra = {"0._extra_state": value}
        kept.writer.save(0, 1, {"model": weights()}, {"extra": extra})
        assert kept.writer.wait(20)

        assert isinstance(kept.writer.trouble, Unkeepable)
        assert "state['extra']['0._extra_state'] can't be kept: it holds a " in str(kept.writer.trouble)
        assert names(kept.store.folder) == set()
        kept.writer.retry()
        assert kept.writer.wait(20)
        assert kept.store.steps == [1]  # trying again would not help


class TestClose:
    def test_what_waits_is_written_and_the_thread_ends(self, kept: Kept) -> None:
        before = set(threading.enumerate())
        kept.save_first(1)
        kept.save(2)
        assert set(threading.enumerate()) - before
        kept.store.go.set()

        assert kept.writer.close()

        assert kept.store.on_disk() == [1, 2]
        assert not set(threading.enumerate()) - before
        assert kept.writer.close()

    def test_a_disk_that_keeps_failing_is_tried_once_more_and_given_up(self, kept: Kept) -> None:
        kept.store.errors = [FULL] * 10
        kept.save(1, 0.5)
        kept.let_go()

        assert not kept.writer.close()

        assert kept.store.steps == [1, 1]
        assert isinstance(kept.writer.trouble, DiskFull)

    def test_what_failed_is_written_when_the_last_try_works(self, kept: Kept) -> None:
        kept.store.errors = [FULL]
        kept.save(1)
        kept.let_go()

        assert kept.writer.close()
        assert kept.store.on_disk() == [1]

    def test_a_disk_that_does_not_answer_is_not_waited_for_for_ever(self, kept: Kept) -> None:
        kept.save_first(1)
        kept.save(2)

        assert not kept.writer.close(timeout=0.1)

        kept.store.go.set()

    def test_without_a_save_there_is_nothing_to_do(self, tmp_path: Path) -> None:
        before = threading.active_count()
        writer = CheckpointWriter(Checkpoints(tmp_path / "checkpoints"))

        assert threading.active_count() == before
        assert writer.wait(0)
        assert writer.best() is None
        assert writer.close()
        assert not (tmp_path / "checkpoints").exists()
