"""Small operations are not shared among cores; a resumed run computes as it did before."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from small_runs import line, train
from torch import Tensor, nn

from engine.job import Job
from engine.policies import threads
from engine.policies.threads import choose_threads, own_threads, typical_work
from engine.runs.directory import RunDirectory

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def four_cores(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    before = torch.get_num_threads()
    monkeypatch.setattr(threads, "CORES", 4)
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


def chosen(model: nn.Module, shape: tuple[int, ...], batch: int = 64, **given: Any) -> int:
    found = choose_threads(given.get("asked", 0), given.get("before", 0), model, shape, batch, CPU)
    assert found is not None
    return found.count


def perceptron(width: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(784, width), nn.ReLU(), nn.Linear(width, 10))


def test_the_work_of_a_layer_is_that_of_its_matrix_product() -> None:
    assert typical_work(nn.Linear(784, 128), (784,)) == 2 * 784 * 128
    convolution = nn.Conv2d(3, 8, 5)
    assert typical_work(convolution, (3, 12, 12)) == 2 * 8 * 8 * 8 * 3 * 25


def test_the_typical_work_is_where_most_is_done() -> None:
    both = nn.Sequential(nn.Linear(1000, 1000), nn.ReLU(), nn.Linear(1000, 1))
    assert typical_work(both, (1000,)) == pytest.approx(2e6, rel=0.01)


def test_recurrent_layers_are_counted_step_by_step() -> None:
    work = typical_work(nn.GRU(28, 32, batch_first=True), (28, 28))
    # The hidden state's product is a step's; that of the inputs is one for all 28 steps.
    assert 2 * 32 * 96 <= work <= 28 * 2 * 28 * 96


def test_a_transformer_is_counted_although_torch_has_one_operator_for_it() -> None:
    encoder = nn.TransformerEncoderLayer(64, 4, 256, batch_first=True)
    assert typical_work(encoder, (16, 64)) >= 2 * 16 * 64 * 64


def test_small_operations_are_one_threads_and_large_ones_are_shared() -> None:
    assert chosen(perceptron(128), (1, 28, 28)) == 1
    assert chosen(perceptron(512), (1, 28, 28)) == 2
    assert chosen(perceptron(4096), (1, 28, 28)) == 4


def test_the_batch_decides_too() -> None:
    assert chosen(perceptron(128), (784,), batch=64) == 1
    assert chosen(perceptron(128), (784,), batch=400) == 3


def test_what_the_recipe_the_run_or_the_environment_says_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    assert chosen(perceptron(8), (784,), asked=3, before=2) == 3
    assert chosen(perceptron(8), (784,), before=2) == 2
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    assert chosen(perceptron(8), (784,)) == 4


def test_a_gpu_is_not_told_how_many_threads() -> None:
    assert choose_threads(0, 0, perceptron(8), (784,), 64, torch.device("cuda")) is None


class Broken(nn.Module):
    def forward(self, inputs: Tensor) -> Tensor:
        raise ValueError("not today")


def test_a_model_that_can_not_be_counted_gets_all_cores_and_counting_changes_no_model() -> None:
    assert chosen(Broken(), (3,)) == 4
    assert chosen(nn.ReLU(), (3,)) == 4
    model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3)).train()
    before, random = {key: value.clone() for key, value in model.state_dict().items()}, torch.get_rng_state()
    typical_work(model, (3,))
    assert model.training
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert torch.equal(random, torch.get_rng_state())


def test_threads_are_given_back() -> None:
    with own_threads():
        torch.set_num_threads(1)
    assert torch.get_num_threads() == 4


def test_a_run_says_how_many_it_uses_and_a_resumed_one_keeps_them(tmp_path: Path) -> None:
    job = train(line({"training.epochs": 1}), tmp_path)
    assert job.history.threads == 1
    assert any("1 torch thread:" in line for line in job.history.log)
    directory = RunDirectory(job.directory.path)
    assert directory.status().facts["threads"] == 1
    assert torch.get_num_threads() == 4


def test_a_stopped_run_goes_on_with_its_own_threads(tmp_path: Path) -> None:
    job = Job.create(line({"training.epochs": 100_000, "training.threads": 2}), tmp_path, "long")
    job.start()
    while job.history.progress.step < 10:
        assert job.alive
    job.control.stop()
    job.join()
    recipe = job.directory.recipe_file
    recipe.write_text(recipe.read_text().replace("threads = 2", "threads = 0").replace("100000", "100001"))
    resumed = Job.resumed(RunDirectory(job.directory.path))
    resumed.start()
    while resumed.history.threads == 0:
        assert resumed.alive
    resumed.control.stop()
    resumed.join()
    assert resumed.history.threads == 2
