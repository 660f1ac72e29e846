"""CUDA graphs write to the same memory again and again: a training with them computes what one without them does."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from small_runs import digits, line, same, start, stop_at, train, weights
from torch import Tensor, nn

from engine.job import Job
from engine.policies.graphs import GRAPHS, Graphs, as_written, ready_this_thread
from engine.tasks.base import Outcome

needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")


class Replayed(nn.Module):
    """A layer whose output and gradient lie in the same memory each time, as those of a graph do."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3))
        self.output, self.gradient = torch.empty(2, 3), torch.empty(3)

    def forward(self, inputs: Tensor) -> Tensor:
        return _Replay.apply(inputs, self.weight, self.output, self.gradient)  # type: ignore[no-untyped-call,no-any-return]


class _Replay(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, inputs: Tensor, weight: Tensor, output: Tensor, gradient: Tensor) -> Tensor:
        context.inputs, context.gradient = inputs, gradient
        return output.copy_(inputs * weight).view_as(output)

    @staticmethod
    def backward(context: Any, *given: Tensor) -> tuple[Tensor | None, ...]:
        context.gradient.copy_((given[0] * context.inputs).sum(0))
        return None, context.gradient.view_as(context.gradient), None, None


def accumulated(model: Replayed, graphs: Graphs, parts: int) -> tuple[Tensor, list[Tensor]]:
    """Gradient and outputs of a step in parts of ones, twos, threes …, as the step takes it."""
    outputs = []
    for number in range(parts):
        graphs.begin_part(first=number == 0)
        result = model(torch.full((2, 3), number + 1.0))
        result.sum().backward()
        if number + 1 < parts:
            graphs.keep_gradients()
        outputs.append(graphs.keep(Outcome(result.sum(), result, result)).outputs)
    assert model.weight.grad is not None
    return model.weight.grad, outputs


@pytest.mark.parametrize("parts", [1, 2, 4])
def test_gradients_add_up_and_outputs_stay(parts: int) -> None:
    model = Replayed()
    graphs = Graphs(model.parameters(), on=True)
    for _ in range(2):
        model.weight.grad = None
        gradient, outputs = accumulated(model, graphs, parts)
        assert gradient.tolist() == [2.0 * sum(range(1, parts + 1))] * 3
        assert [float(output[0, 0]) for output in outputs] == list(range(1, parts + 1))


def test_without_care_they_would_not() -> None:
    model = Replayed()
    gradient, outputs = accumulated(model, Graphs(model.parameters(), on=False), 4)
    assert gradient.tolist() != [20.0] * 3
    assert [float(output.detach()[0, 0]) for output in outputs] == [4] * 4


def test_gradients_are_copied_once_and_none_is_made_where_there_was_none() -> None:
    used, unused = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    graphs = Graphs([used, unused], on=True)
    graphs.begin_part(first=True)
    used.grad = first = torch.ones(2)
    graphs.keep_gradients()
    ours = used.grad
    assert ours is not first
    graphs.keep_gradients()
    assert used.grad is ours
    assert unused.grad is None


def test_without_graphs_nothing_is_copied() -> None:
    weight = nn.Parameter(torch.ones(2))
    weight.grad = gradient = torch.ones(2)
    graphs = Graphs([weight], on=False)
    graphs.begin_part(first=True)
    graphs.keep_gradients()
    outcome = Outcome(weight.sum(), weight, weight)
    assert weight.grad is gradient
    assert graphs.keep(outcome) is outcome


def test_graphs_can_be_recorded_in_any_thread() -> None:
    known: list[bool] = []

    def look() -> None:
        known.append(torch._C._is_key_in_tls("tree_manager_containers"))
        ready_this_thread()
        known.append(torch._C._is_key_in_tls("tree_manager_containers"))

    ready_this_thread()  # whichever thread imports torch's module has them
    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert known == [False, True]


class TestAsWritten:
    @pytest.fixture
    def compiled(self) -> Iterator[tuple[nn.Module, list[object]]]:
        """A compiled model, and what was compiled of it."""
        seen: list[object] = []
        model = nn.Linear(2, 2)
        model.compile(backend=lambda graph, inputs: seen.append(graph) or graph.forward)
        yield model, seen
        torch.compiler.reset()

    def test_nothing_is_compiled_inside(self, compiled: tuple[nn.Module, list[object]]) -> None:
        model, seen = compiled
        with as_written(model, on=True):
            model(torch.ones(1, 2))
        assert not seen

    def test_outside_and_where_it_is_off_it_is(self, compiled: tuple[nn.Module, list[object]]) -> None:
        model, seen = compiled
        with as_written(model, on=False):
            model(torch.ones(1, 2))
        assert len(seen) == 1

    def test_a_model_that_is_not_compiled_needs_no_compiler(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delattr(torch.compiler, "set_stance")
        with as_written(nn.Linear(2, 2), on=True):
            pass


@needs_compiler
class TestRun:
    def trained(self, recipe: Any, root: Path) -> Job:
        job = start(recipe, root)
        job.join(150)
        assert job.history.error is None
        return job

    @pytest.mark.parametrize("changes", [{}, {"training.accumulate": 3}])
    def test_on_the_cpu_it_learns_the_same_and_says_that_there_are_no_graphs(
        self, changes: dict[str, Any], root: Path
    ) -> None:
        """160 samples in batches of 48: the last of an epoch is smaller."""
        recipe = line({"training.epochs": 2, "data.batch_size": 48, **changes})
        free = train(recipe, root)

        job = self.trained(recipe.override({"training.compile": GRAPHS}), root)

        assert any(
            "CUDA graphs need an NVIDIA GPU; on cpu this is a plain torch.compile" in it for it in job.history.log
        )
        assert not any("CUDA graphs need" in said for said in free.history.log)
        for name, tensor in weights(free.directory).items():
            torch.testing.assert_close(weights(job.directory)[name], tensor, rtol=0, atol=1e-5)

    def test_the_layer_that_makes_nan_is_named_in_a_compiled_model(self, root: Path) -> None:
        recipe = line({"training.compile": True, "optimizer.lr": 1e38, "training.on_nan": "stop"})
        job = start(recipe, root)
        job.join(150)
        assert job.history.error is not None
        assert "it first appeared in" in str(job.history.error)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
class TestOnAGpu:
    """CUDA 7.5 and later have what torch.compile needs (Triton)."""

    PICTURES = {
        "training.device": "cuda",
        "data.batch_size": 96,
        "optimizer": {"name": "AdamW", "lr": 0.003},
        "scheduler": None,
        "data.augment": [],
        "model": {
            "layers": [
                {"name": "Conv2d", "out_channels": 8, "kernel_size": 3},
                {"name": "BatchNorm2d"},
                {"name": "ReLU"},
                {"name": "Flatten"},
                {"name": "Linear", "out_features": "classes"},
            ]
        },
    }

    @pytest.mark.parametrize(
        "changes", [{}, {"training.accumulate": 3}, {"training.average.kind": "ema"}, {"optimizer.fused": False}]
    )
    def test_a_training_with_graphs_learns_what_one_without_does(self, changes: dict[str, Any], root: Path) -> None:
        recipe = digits({**self.PICTURES, **changes})
        free = train(recipe, root)

        job = start(recipe.override({"training.compile": GRAPHS}), root)
        job.join(170)

        assert job.history.error is None
        assert job.history.summary is not None
        assert free.history.summary is not None
        ours, theirs = job.history.series["train/loss"], free.history.series["train/loss"]
        assert ours.last == pytest.approx(theirs.last, rel=0.02)

    def test_graphs_are_recorded_in_two_runs_of_one_process(self, root: Path) -> None:
        for _ in range(2):  # each in a thread of its own
            job = start(digits({**self.PICTURES, "training.compile": GRAPHS, "training.epochs": 4}), root)
            job.join(85)
            assert job.history.error is None

    def test_a_stopped_run_goes_on(self, root: Path) -> None:
        cut = start(digits({**self.PICTURES, "training.compile": GRAPHS}), root, stop_at(12))
        cut.join(85)
        job = Job.resumed(cut.directory)
        job.start()
        job.join(85)
        assert job.history.error is None
        assert job.history.progress.state == "done"

    def test_data_of_the_host_learns_what_data_of_the_device_does(self, root: Path) -> None:
        here = train(digits({**self.PICTURES, "training.deterministic": True}), root)
        ahead = train(digits({**self.PICTURES, "training.deterministic": True, "data.in_memory": False}), root)
        assert ahead.history.error is None
        assert same(weights(here.directory), weights(ahead.directory))
