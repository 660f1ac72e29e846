"""Samples that can't be read: the end of the run or left out of their batch, here, in workers and in memory alike."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from small_runs import resume, rows, same, stop_at, train, weights
from torch import Tensor

from engine.data import opened as opening
from engine.data.opened import opened
from engine.data.prepare import Prepared, prepare
from engine.data.samples import BadSample, Listed
from engine.data.serving.batches import Batch, Batches, Finish, TensorBatches
from engine.data.serving.fetching import Skipped, read_all
from engine.data.serving.loader import LoaderBatches
from engine.errors import DataError
from engine.recipe import Recipe

CPU = torch.device("cpu")
FILE = """
import torch
from engine.data.samples import BadSample

class Photos:
    classes = ["cat", "dog"]
    columns = {}
    sample_bytes = BYTES
    def __init__(self, count, bad, wrong, number):
        self.count, self.bad = count, set(bad)
        self.targets = torch.arange(count) % 2
        self.targets[list(wrong)] = number
        self.places = [f"photos/{number}.jpg" for number in range(count)]
    def __len__(self):
        return self.count
    def __getitem__(self, number):
        if number in self.bad:
            raise BadSample(self.places[number], "is cut off")
        return torch.full((1, 4, 4), number, dtype=torch.uint8), self.targets[number]

def make(count=40, bad=(), wrong=(), number=2):
    return Photos(count, bad, wrong, number)
"""


@pytest.fixture
def make(tmp_path: Path) -> Any:
    def recipe(bad: list[int], policy: str = "skip", *, count: int = 40, held: bool = False, **more: Any) -> Recipe:
        file = tmp_path / f"photos{held}.py"
        file.write_text(FILE.replace("BYTES", "16" if held else str(1 << 50)))
        data = {
            "python": f"{file}:make", "options": {"count": count, "bad": bad}, "batch_size": 4,
            "split": {"train": 1.0, "val": 0.0, "test": 0.0}, "on_bad_sample": policy, "num_workers": 0, **more,
        }  # fmt: skip
        layers = [{"name": "Flatten"}, {"name": "Linear", "out_features": "classes"}]
        return Recipe.from_values(
            {"title": "photos", "data": data, "model": {"layers": layers}, "training": {"epochs": 2, "device": "cpu"}}
        )

    return recipe


def ready(recipe: Recipe, said: list[str] | None = None) -> Prepared:
    say = (lambda text: None) if said is None else said.append
    return prepare(recipe, CPU, lambda what, done, total: None, say=say)


def numbers(batch: Batch) -> list[int]:
    found: list[int] = (batch.inputs[:, 0, 0, 0] * 255).round().int().tolist()
    return found


def epochs(batches: Batches) -> Iterator[Batch]:
    for epoch in (0, 1):
        yield from batches.epoch(epoch)


def test_the_run_stops_with_the_place_what_is_wrong_and_what_to_do(make: Any) -> None:
    for held in (False, True):
        with pytest.raises(DataError) as caught:
            list(ready(make([7], "stop", held=held)).train.epoch(0))
        assert str(caught.value) == 'photos/7.jpg: is cut off. Mend or remove it, or set data.on_bad_sample = "skip".'


@pytest.mark.parametrize("number", [2, -1, -100])
@pytest.mark.parametrize("held", [False, True])
def test_a_class_that_there_is_not_is_a_bad_sample_and_one_that_the_loss_leaves_out_is_none(
    make: Any, held: bool, number: int
) -> None:
    wrong = {"data.options": {"wrong": [7], "number": number}}
    text = f"photos/7.jpg: is of class {number}, and there are 0 to 1. Mend or remove it"
    with pytest.raises(DataError, match=re.escape(text)):
        list(ready(make([], "stop", held=held).override(wrong)).train.epoch(0))

    said: list[str] = []
    skipping = ready(make([], "skip", held=held).override(wrong), said)
    assert sum(map(len, skipping.train.epoch(0))) == 39
    assert sum("is of class" in each for each in said) == 1

    left_out = {"loss": {"name": "CrossEntropyLoss", "ignore_index": number}}
    assert sum(map(len, ready(make([], "stop", held=held).override(wrong | left_out)).train.epoch(0))) == 40


PARTS = {"how": "ordered", "train": 0.5, "val": 0.3, "test": 0.2}  # 0 to 19, 20 to 31, 32 to 39


def test_so_it_does_when_a_worker_reads_it_for_validation(make: Any) -> None:
    data = ready(make([25], "stop", num_workers=1, split=PARTS))
    assert data.val is not None
    assert len(list(data.train.epoch(0))) == 5
    with pytest.raises(DataError, match=r"photos/25\.jpg: is cut off\. Mend or remove it"):
        list(data.val.epoch(0))
    data.close()


def test_the_same_workers_read_all_parts_and_change_nothing(make: Any) -> None:
    bad, served = [3, 25, 33], list[list[Batch]]()
    for workers in (0, 2):
        said: list[str] = []
        data = ready(make(bad, num_workers=workers, split=PARTS), said)
        train, val, test = data.train, data.val, data.test
        assert isinstance(train, LoaderBatches)
        assert isinstance(val, LoaderBatches)
        assert isinstance(test, LoaderBatches)
        under_way = train.epoch(0)
        batches = [next(under_way), *val.epoch(0), *under_way]  # validation in the midst of an epoch
        batches += [*train.epoch(1), next(val.epoch(0)), *val.epoch(0), *test.epoch(0)]  # one that is broken off
        processes = [psutil.Process(worker.pid) for worker in train._readers.processes]
        assert len(processes) == workers
        assert val._readers.processes is test._readers.processes or not workers
        data.close()
        assert not psutil.wait_procs(processes, timeout=5)[1]
        assert sorted(said) == [f"skipped photos/{number}.jpg: is cut off" for number in (25, 3, 33)]
        served.append(batches)
    for here, there in zip(*served, strict=True):
        assert torch.equal(here.inputs, there.inputs)
        assert torch.equal(here.targets, there.targets)
        assert here.skipped == there.skipped


def test_skipped_samples_are_left_out_and_counted_and_said_once_wherever_they_are_read(make: Any) -> None:
    bad = [3, 8, 20]
    served: list[list[Batch]] = []
    for held, workers in ((False, 0), (False, 1), (True, 0)):
        said: list[str] = []
        data = ready(make(bad, held=held, num_workers=workers), said)
        assert isinstance(data.train, TensorBatches if held else LoaderBatches)
        served.append(list(epochs(data.train)))
        data.close()
        assert sorted(said) == [f"skipped photos/{number}.jpg: is cut off" for number in sorted(bad, key=str)]
    for batches in served:
        seen = [number for batch in batches for number in numbers(batch)]
        assert sorted(seen) == sorted([number for number in range(40) if number not in bad] * 2)
        assert sum(batch.skipped for batch in batches) == 6
    for other in served[1:]:
        for one, two in zip(served[0], other, strict=True):
            assert numbers(one) == numbers(two)
            assert torch.equal(one.targets, two.targets)
            assert one.skipped == two.skipped


def test_a_batch_that_would_be_empty_has_the_next_good_sample(make: Any) -> None:
    for held in (False, True):
        data = ready(make([0, 1, 2, 3, 4, 5, 6], count=9, held=held))
        batches = list(epochs(data.train))
        assert all(len(batch) >= 1 for batch in batches)
        assert all(len(batch) + batch.skipped == size for batch, size in zip(batches, [4, 4, 1] * 2, strict=True))
        assert {number for batch in batches for number in numbers(batch)} == {7, 8}
        starts = [(epoch, start) for epoch in (0, 1) for start in (0, 4, 8)]
        assert [data.train.indices(*start) for start in starts] == [numbers(batch) for batch in batches]


def test_a_part_of_which_nothing_can_be_read_is_refused(make: Any) -> None:
    part = opened(make(list(range(1, 9)), count=9).data, "classification", [])[1]["train"][0]
    skipped, bad = Skipped(lambda text: None), torch.arange(1, 5)
    assert isinstance(part, Listed)
    with pytest.raises(DataError, match=r"photos/1\.jpg: is cut off, and no other sample can be read"):
        list(LoaderBatches(part, bad, Finish(()), 2, CPU, skipped=skipped).epoch(0))
    with pytest.raises(DataError, match=r"photos/1\.jpg: is cut off, and no other sample can be read"):
        read_all(part, bad, "photos", lambda what, done, total: None, skipped)


def test_the_first_twenty_are_named_and_the_rest_counted(make: Any) -> None:
    said: list[str] = []
    data = ready(make(list(range(1, 26))), said)
    list(epochs(data.train))
    data.close()
    assert sum(line.startswith("skipped photos/") for line in said) == 20
    assert said[20:] == [
        "more samples can't be read; from here on they are only counted",
        "25 samples could not be read and were skipped",
    ]


def test_evaluation_counts_the_samples_that_could_be_read(make: Any, tmp_path: Path) -> None:
    shares = {"train": 0.5, "val": 0.5, "test": 0.0}
    recipe = make([], split=shares)
    val = ready(recipe).val
    assert val is not None
    bad = [number for number in val.indices(0, 0) if number][:3]
    job = train(make(bad, split=shares), tmp_path / "runs")
    assert job.history.error is None
    accuracy = rows(job.directory, "val/accuracy")["val/accuracy"].values()
    assert accuracy
    # Of 20 samples 3 can't be read: what is right is counted in seventeenths.
    assert all(value * 17 == pytest.approx(round(value * 17)) for value in accuracy)


@pytest.mark.parametrize("held", [False, True])
def test_a_run_that_skipped_samples_is_resumed_bit_for_bit(make: Any, tmp_path: Path, held: bool) -> None:
    recipe = make([3, 8, 20, 21], held=held)
    whole = train(recipe, tmp_path / "whole")
    assert whole.history.error is None
    assert any("skipped photos/3.jpg" in line for line in whole.history.log)
    cut = train(recipe, tmp_path / "cut", stop_at(14))
    resume(cut.directory)
    assert same(weights(whole.directory), weights(cut.directory))
    assert rows(whole.directory, "train", "epoch") == rows(cut.directory, "train", "epoch")


def test_what_was_found_bad_while_opening_stops_the_start_or_is_noted(
    make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = opening.load
    bad = [BadSample(f"photos/x{number}.jpg", "is empty") for number in range(3)]
    monkeypatch.setattr(opening, "load", lambda *given: replace(load(*given), bad=bad))
    with pytest.raises(DataError) as caught:
        ready(make([], "stop"))
    assert str(caught.value).startswith("photos/x0.jpg: is empty; 3 samples in all are bad. Mend or remove it")
    assert ready(make([])).notes[:3] == tuple(f"skipped photos/x{number}.jpg: is empty" for number in range(3))


def test_reading_into_memory_tells_how_far_it_is_and_can_be_cancelled(make: Any) -> None:
    told: list[tuple[str, int, int]] = []
    prepare(make([], count=150, held=True), CPU, lambda *state: told.append(state))
    assert told == [("reading make", done * 16, 150 * 16) for done in (64, 128, 150)]

    class Enough(Exception):  # noqa: N818 - what a person says
        pass

    def cancel(*state: Any) -> None:
        raise Enough

    with pytest.raises(Enough):
        prepare(make([], count=150, held=True), CPU, cancel)


class Masks:
    """Pictures with a class for each pixel, in bytes."""

    targets = torch.empty(0)
    columns: dict[str, Any] = {}
    places = tuple(f"masks/{number}.png" for number in range(6))
    sample_bytes = 32

    def __len__(self) -> int:
        return 6

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        return torch.zeros(1, 4, 4, dtype=torch.uint8), torch.full((4, 4), number, dtype=torch.uint8)


def test_masks_are_kept_as_bytes_and_served_as_class_numbers() -> None:
    kept, good = read_all(Masks(), torch.arange(6), "masks", lambda what, done, total: None, None)
    assert kept.targets.dtype == torch.uint8
    assert good.all()
    for seed in (None, 0):
        held = list(TensorBatches(kept, Finish(()), 4, seed=seed).epoch(0))
        streamed = list(LoaderBatches(Masks(), None, Finish(()), 4, CPU, seed=seed).epoch(0))
        for one, two in zip(held, streamed, strict=True):
            assert one.targets.dtype == two.targets.dtype == torch.int64
            assert torch.equal(one.targets, two.targets)


def test_samples_of_two_shapes_are_not_held(make: Any, tmp_path: Path) -> None:
    recipe = make([], held=True)
    file = Path(recipe.data.python.rpartition(":")[0])
    file.write_text(file.read_text().replace("(1, 4, 4)", "(1, 4, 4 + number // 30)"))
    with pytest.raises(DataError, match=r"photos/\d+\.jpg: is 1×4×[45] and one number, unlike photos/\d+\.jpg"):
        ready(recipe)


def test_held_and_streamed_samples_are_the_same_bits(make: Any) -> None:
    def inputs(held: bool) -> list[Tensor]:
        return [batch.inputs for batch in epochs(ready(make([], held=held)).train)]

    for one, two in zip(inputs(False), inputs(True), strict=True):
        assert torch.equal(one, two)


PLAIN = FILE.replace("    columns = {}\n", "").replace("    sample_bytes = BYTES\n", "")
"""A dataset whose classes are only known by reading it."""


@pytest.mark.parametrize("more", [{"sampler": "balanced"}, {"split": {"how": "stratified"}}])
def test_classes_that_must_be_read_leave_bad_samples_to_the_recipe(tmp_path: Path, more: dict[str, Any]) -> None:
    file = tmp_path / "plain.py"
    file.write_text(PLAIN)
    layers = [{"name": "Flatten"}, {"name": "Linear", "out_features": "classes"}]
    values = {"python": f"{file}:make", "options": {"bad": [7]}, "num_workers": 0, **more}
    recipe = Recipe.from_values({"data": {**values, "on_bad_sample": "skip"}, "model": {"layers": layers}})
    data = ready(recipe)
    assert not isinstance(data.train, TensorBatches)
    assert 7 not in {number for batch in epochs(data.train) for number in numbers(batch)}
    whole = {"data.split.train": 1.0, "data.split.val": 0.0, "data.split.test": 0.0}
    with pytest.raises(DataError, match=r"photos/7\.jpg: is cut off"):
        list(ready(recipe.override({"data.on_bad_sample": "stop", **whole})).train.epoch(0))


def test_evaluation_counts_no_sample_twice_for_a_batch_without_any(make: Any) -> None:
    part = opened(make([2, 3, 9], count=12).data, "classification", [])[1]["train"][0]
    assert isinstance(part, Listed)
    order, skipped = torch.arange(10), Skipped(lambda text: None)
    held, good = read_all(part, order, "photos", lambda what, done, total: None, skipped)
    loader = LoaderBatches(part, order, Finish(()), 2, CPU, skipped=skipped)
    for batches in (loader, TensorBatches(held, Finish(()), 2, good=good)):
        assert [numbers(batch) for batch in batches.epoch(0)] == [[0, 1], [4, 5], [6, 7], [8]]
