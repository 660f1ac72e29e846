"""Out of memory, raised artificially: the step is redone in parts, and nothing but the memory is different."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from small_runs import line, make_trainer, python_file, resume, rows, same, train, weights
from torch import Tensor, nn

from engine.checkpoints.checkpoint import Checkpoints, load
from engine.errors import TrainingError
from engine.runs.directory import RunDirectory
from engine.training.trainer import Trainer

ON_GPU = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")
ON_CPU = RuntimeError("[enforce fail at alloc_cpu.cpp:126] DefaultCPUAllocator: can't allocate memory: you tried")
RECIPE = line({"optimizer.momentum": 0.9, "optimizer.lr": 0.01, "training.health_every": 1})


class Scarce(nn.Module):
    """Has no memory for more than `most` samples at once, from its training batch number `since` on."""

    def __init__(self, inner: nn.Module, most: int, since: int = 1, error: Exception = ON_GPU) -> None:
        super().__init__()
        self.inner, self._most, self._since, self._error = inner, most, since, error
        self._calls = 0

    def forward(self, inputs: Tensor) -> Tensor:
        self._calls += self.training
        outputs: Tensor = self.inner(inputs)  # statistics are taken and random numbers drawn before it fails
        if self.training and self._calls >= self._since and len(inputs) > self._most:
            raise type(self._error)(*self._error.args)  # a fresh one: the old one's traceback holds tensors
        return outputs


def plain() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(1, 8), nn.ReLU(), nn.Linear(8, 1))


def remembering() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(1, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 1))


def trained(
    model: nn.Module, root: Path, changes: Mapping[str, Any] | None = None, prepare: Callable[[Trainer], None] = id
) -> Trainer:
    torch.manual_seed(1)
    trainer = make_trainer(RECIPE.override(changes or {}), model, root)
    prepare(trainer)
    trainer.run()
    trainer.close()
    return trainer


def told(trainer: Trainer, kind: str) -> list[str]:
    return [event.text for event in trainer._recorder.history.events if event.kind == kind]


class TestRedone:
    @pytest.mark.parametrize("error", [ON_GPU, ON_CPU, MemoryError()])
    def test_a_run_short_of_memory_from_the_first_step_is_one_that_accumulates_to_the_bit(
        self, error: Exception, root: Path
    ) -> None:
        scarce, free = Scarce(remembering(), 8, error=error), remembering()

        trainer = trained(scarce, root)
        trained(free, root, {"training.accumulate": 4})

        assert same(scarce.inner.state_dict(), free.state_dict())
        assert len(told(trainer, "memory")) == 2  # 2 parts, then 4

    def test_without_taking_back_statistics_and_random_numbers_it_would_differ(self, root: Path) -> None:
        def leave(trainer: Trainer) -> None:
            trainer._splitter.take_back = lambda: None  # type: ignore[method-assign]

        scarce, free = Scarce(remembering(), 8), remembering()
        trained(scarce, root, prepare=leave)
        trained(free, root, {"training.accumulate": 4})

        left, right = scarce.inner.state_dict(), free.state_dict()
        assert left["1.num_batches_tracked"] > right["1.num_batches_tracked"]
        assert not torch.equal(left["1.running_mean"], right["1.running_mean"])
        assert not torch.equal(left["4.weight"], right["4.weight"])

    def test_in_the_middle_of_a_run_it_learns_what_it_would_have_learned(self, root: Path) -> None:
        scarce, free, other = Scarce(plain(), 8, since=4), plain(), plain()

        trained(scarce, root)
        trained(free, root)
        trained(other, root, {"data.batch_size": 8})

        for name, tensor in free.state_dict().items():
            torch.testing.assert_close(scarce.inner.state_dict()[name], tensor, rtol=0, atol=1e-5)
        # A smaller batch without accumulation, as some batch finders leave it, learns something else.
        assert not torch.allclose(other.state_dict()["0.weight"], free.state_dict()["0.weight"], rtol=0, atol=1e-5)

    def test_the_rows_are_those_of_a_run_that_accumulates(self, root: Path) -> None:
        ours = trained(Scarce(plain(), 16), root)._recorder.directory
        theirs = trained(plain(), root, {"training.accumulate": 2})._recorder.directory

        assert list(rows(ours)["train/loss"]) == list(range(1, 11))
        assert rows(ours, "train/", "val/", "epoch/", "health/") != {}
        for name, values in rows(theirs, "train/", "val/", "epoch/").items():
            assert rows(ours)[name] == pytest.approx(values, rel=1e-9)

    def test_it_is_said_once_and_holds_from_then_on(self, root: Path) -> None:
        trainer = trained(Scarce(plain(), 16, since=3), root)

        (said,) = told(trainer, "memory")
        assert said.startswith("out of memory: the step is redone in 2 parts of at most 16 samples, and so are all")
        assert said.endswith("the effective batch stays 32")
        assert [event.step for event in trainer._recorder.history.events if event.kind == "memory"] == [2]

    def test_another_error_is_not_taken_for_it(self, root: Path) -> None:
        with pytest.raises(RuntimeError, match="something else"):
            trained(Scarce(plain(), 8, error=RuntimeError("something else")), root)

    def test_what_the_failed_forward_made_is_freed_before_the_second(self, root: Path) -> None:
        class Watched(Scarce):
            made: list[weakref.ref[Tensor]] = []
            alive: list[int] = []

            def forward(self, inputs: Tensor) -> Tensor:
                self.alive.append(sum(reference() is not None for reference in self.made))
                activation = inputs * 2
                self.made.append(weakref.ref(activation))
                return super().forward(activation)

        model = Watched(plain(), 16)
        trained(model, root, {"training.epochs": 1, "data.split": {"train": 0.1, "val": 0.0, "test": 0.0}})

        assert model.alive[:2] == [0, 0]

    def test_a_tensor_that_somebody_holds_would_be_seen(self) -> None:
        held = torch.ones(1) * 2

        assert weakref.ref(held)() is not None


class TestResume:
    def test_the_parts_are_kept_in_the_checkpoint(self, root: Path) -> None:
        trained(Scarce(plain(), 8), root)
        (folder,) = root.iterdir()
        again = make_trainer(RECIPE, Scarce(plain(), 8), root)

        again.restore(load(Checkpoints(folder / "checkpoints").all()[-1]))

        assert again._splitter.parts == 4


class TestHopeless:
    MODEL = """
import pathlib, torch
class Mine(torch.nn.Linear):
    calls = 0
    def forward(self, inputs):
        self.calls += self.training and inputs.device.type == "cpu"
        if self.calls > 3 and not pathlib.Path({!r}).exists():
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return super().forward(inputs)
def make():
    return Mine(1, 1)
"""

    def test_when_a_single_sample_does_not_fit_it_says_what_takes_the_memory_and_what_to_do(self, root: Path) -> None:
        with pytest.raises(TrainingError) as raised:
            trained(Scarce(plain(), 0), root)

        text = str(raised.value)
        assert text.startswith("training: out of memory: not even a single sample fits (weights 100 B · gradients")
        assert "optimizer" in text
        assert "gradient_checkpointing = true" in text
        assert "a smaller model or smaller inputs" in text

    def test_the_run_can_be_resumed_when_there_is_memory_again(self, root: Path, tmp_path: Path) -> None:
        mended = tmp_path / "mended"
        recipe = line({"model": {"python": python_file(tmp_path, self.MODEL.format(str(mended))) + ":make"}})

        failed = train(recipe, root)
        assert "not even a single sample fits" in str(failed.history.error)
        assert Checkpoints(failed.directory.checkpoints).all()[-1].step == 3
        mended.touch()
        whole = train(recipe, root)
        job = resume(RunDirectory(failed.directory.path))

        assert job.history.error is None
        assert list(rows(job.directory)["train/loss"]) == list(range(1, 11))
        for name, tensor in weights(whole.directory).items():
            torch.testing.assert_close(weights(job.directory)[name], tensor, rtol=0, atol=1e-5)


class TestEvaluation:
    def test_it_splits_too_measures_the_same_and_fails_once_for_all_epochs(self, root: Path) -> None:
        class ScarceWhenEvaluating(Scarce):
            def forward(self, inputs: Tensor) -> Tensor:
                if not self.training and len(inputs) > 8:
                    raise ON_GPU
                outputs: Tensor = self.inner(inputs)
                return outputs

        scarce = trained(ScarceWhenEvaluating(plain(), 8), root)
        free = trained(plain(), root)

        ours, theirs = rows(scarce._recorder.directory, "val/"), rows(free._recorder.directory, "val/")
        assert ours.keys() == theirs.keys() != set()
        for name in ours:
            assert ours[name] == pytest.approx(theirs[name], rel=1e-5)
        assert len([said for said in scarce._recorder.history.log if "evaluation: out of memory" in said]) == 2
        assert told(scarce, "memory") == []
