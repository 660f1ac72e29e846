"""How many processes read is chosen from what reading takes, and changes no number."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from engine.data.prepare import prepare
from engine.data.serving.loader import LoaderBatches
from engine.data.serving.loading import choose_loading, chosen
from engine.errors import RecipeError
from engine.recipe import Recipe

CPU = torch.device("cpu")
GIGA = 1 << 30


def loading(seconds: float, **more: Any) -> Any:
    values = {"batch_size": 64, "reads": 500_000, "cores": 16, "free": 64 * GIGA, "cuda": True, **more}
    return chosen(seconds, values.pop("size", 150_000), **values)


@pytest.mark.parametrize(
    ("seconds", "more", "workers", "why"),
    [
        (0.001, {}, 7, "data.num_workers: 7, as reading a sample takes 1 ms, a batch of 64 64 ms"),
        (0.005, {}, 15, "data.num_workers: 15 (16 cores), as reading a sample takes 5 ms"),
        (0.005, {"cuda": False}, 8, "data.num_workers: 8 (16 cores)"),
        (0.005, {"free": 5 * GIGA}, 4, "data.num_workers: 4 (free memory)"),
        (
            0.000_01,
            {},
            0,
            "data.num_workers: none, as reading a sample takes 0.01 ms, the 500,000 of the whole run 5 s",
        ),
        (
            0.005,
            {"reads": 100},
            0,
            "data.num_workers: none, as reading a sample takes 5 ms, the 100 of the whole run 0.5 s",
        ),
        (0.005, {"cores": 1}, 0, "there is no core to spare"),
        (0.005, {"free": GIGA}, 0, "there is no memory for another process"),
    ],
)
def test_workers_follow_from_time_cores_and_memory(
    seconds: float, more: dict[str, Any], workers: int, why: str
) -> None:
    found = loading(seconds, **more)
    assert found.workers == workers
    assert why in found.why
    assert "\n" not in found.why


def test_prefetch_and_pinned_memory_are_chosen_by_what_a_batch_takes_and_told_with_their_reasons() -> None:
    small, large, host = loading(0.005), loading(0.005, size=80_000_000), loading(0.005, cuda=False)
    assert (small.prefetch, small.pinned) == (4, True)
    assert "4 batches of 9.6 MB ahead in each process, to even out slow samples; pinned memory, so that" in small.how
    assert (large.prefetch, large.pinned) == (2, False)
    assert "2 batches of 5.1 GB ahead in each process, as more would take" in large.how
    assert "no pinned memory, as 10 GB of it" in large.how
    assert not host.pinned
    assert "no pinned memory, as nothing is copied to a GPU" in host.how
    assert all("kept from epoch to epoch" in found.how for found in (small, large, host))
    assert loading(0.000_01).how.startswith("pinned memory"), "where nothing is read ahead, nothing is kept"


class Dice:
    """Samples that draw, and count how often they are read."""

    def __init__(self) -> None:
        self.read = 0

    def __len__(self) -> int:
        return 1000

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        self.read += 1
        return torch.rand(4) + random.random(), 0


def test_measuring_reads_a_few_samples_and_leaves_no_trace() -> None:
    dice = Dice()
    before = torch.get_rng_state(), random.getstate()
    found = choose_loading(dice, None, 4, 1, CPU)
    assert found.workers == 0
    assert 2 <= dice.read <= 12
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]


class Broken(Dice):
    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        raise OSError("no such disk")


def test_what_cannot_be_measured_is_left_to_the_training_to_tell() -> None:
    assert "can't be read" in choose_loading(Broken(), None, 4, 1, CPU).why


def test_the_reason_is_noted_and_an_explicit_number_is_kept(tmp_path: Path) -> None:
    file = tmp_path / "own.py"
    file.write_text("import torch\ndef make(): return [(torch.zeros(3), 1.0)] * 30\n")
    recipe = Recipe.from_values({"task": "regression", "data": {"python": f"{file}:make"}, "loss": {"name": "MSELoss"}})

    def ready(workers: int | str) -> tuple[int, list[str]]:
        data = prepare(recipe.override({"data.num_workers": workers}), CPU, lambda what, done, total: None)
        assert isinstance(data.train, LoaderBatches)
        data.close()
        return data.train.workers, [note for note in data.notes if "num_workers" in note]

    workers, said = ready("auto")
    assert workers == 0
    assert len(said) == 1
    assert said[0].startswith("data.num_workers: none, as reading a sample takes")
    assert ready(0) == (0, [])
    assert ready(2) == (2, ["data.num_workers: 2, as the recipe says"])


@pytest.mark.parametrize("wrong", [-1, 257, True, "many", 1.5])
def test_what_is_no_number_of_processes_is_refused(wrong: object) -> None:
    with pytest.raises(RecipeError, match=r"num_workers.*no number of processes"):
        Recipe.from_values({"data": {"name": "line", "num_workers": wrong}})
