"""Further datasets trained on beside, and classes drawn equally often: served alike by tensors and by a loader."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_runs import digits, line, resume, same, stop_at, train, weights

from engine.check import check
from engine.data.choosing import mixture
from engine.data.fetching.telling import untold
from engine.data.prepare import Prepared, describe, part_sizes, prepare
from engine.data.samples import Loaded, Progress, Samples
from engine.data.serving.batches import Batches, TensorBatches
from engine.data.serving.loader import LoaderBatches
from engine.data.sources import Source
from engine.errors import DataError, RecipeError
from engine.recipe import Data, Recipe

CPU = torch.device("cpu")
FILE = """
import torch
class Own:
    def __init__(self, count, of, first, classes, kind):
        self.classes, self.count, self.of, self.first, self.kind = classes, count, of, first, kind
    def __len__(self):
        return self.count
    def __getitem__(self, i):
        value = self.first + i
        x = torch.full(self.of, value, dtype=torch.uint8) if self.kind == "bytes" else torch.full(self.of, value / 255)
        return x, 0 if i < 0.9 * self.count else 1
def make(count=10, of=(1, 2, 2), first=0, classes=("a", "b"), kind="bytes"):
    return Own(count, tuple(of), first, list(classes), kind)
"""


@pytest.fixture
def own(tmp_path: Path) -> Any:
    file = tmp_path / "own.py"
    file.write_text(FILE)

    def recipe(*mix: dict[str, Any], **more: Any) -> Recipe:
        data = {
            "python": f"{file}:make", "batch_size": 8, "options": {"count": 40},
            "split": {"train": 0.5, "val": 0.5, "test": 0},
            "mix": [{"python": f"{file}:make", "weight": each.pop("weight", 1.0), "options": each} for each in mix],
            **more,
        }  # fmt: skip
        layers = [{"name": "Flatten"}, {"name": "Linear", "out_features": "classes"}]
        return Recipe.from_values({"data": data, "model": {"layers": layers}})

    return recipe


def ready(recipe: Recipe) -> Prepared:
    return prepare(recipe, CPU, lambda what, done, total: None)


def values(batches: Batches, epoch: int = 0) -> list[int]:
    return [int(v) for batch in batches.epoch(epoch) for v in (batch.inputs.flatten(1)[:, 0] * 255).round().tolist()]


def test_other_datasets_are_trained_on_by_their_weight_and_nothing_else_is_touched(own: Any) -> None:
    recipe = own({"count": 10, "first": 100, "weight": 2.0}, {"count": 10, "first": 200, "weight": 0.5})
    alone, mixed = ready(own()), ready(recipe)
    drawn = values(mixed.train)
    assert sorted(value for value in drawn if value < 100) == sorted(values(alone.train))
    assert sorted(value for value in drawn if 100 <= value < 200) == sorted([*range(100, 110)] * 2)
    assert len({value for value in drawn if value >= 200}) == 5
    assert mixed.val is not None
    assert alone.val is not None
    assert values(mixed.val) == values(alone.val)
    assert part_sizes(describe(recipe)[0], recipe.data) == {"train": 45, "val": 20, "test": 0}
    assert mixed.train.samples == 45
    assert "make: 10 samples are trained on beside, each 2 times an epoch" in mixed.notes


def test_bytes_and_floats_are_mixed_on_one_scale(own: Any) -> None:
    drawn = values(ready(own({"count": 10, "first": 100, "kind": "floats"})).train)
    assert sorted(value for value in drawn if value >= 100) == list(range(100, 110))


@pytest.mark.parametrize(
    ("mix", "what"),
    [
        ({"of": [1, 3, 3]}, "data.mix.0: make: has samples of 1×3×3, and make of 1×2×2."),
        ({"classes": ["a", "c"]}, "data.mix.0: make: has 2 classes (a, c), and make has 2 classes (a, b)."),
        ({"classes": ["a", "b", "c"]}, "data.mix.0: make: has 3 classes (a, b, c), and make has 2 classes (a, b)."),
    ],
)
def test_what_is_not_of_its_kind_is_refused_before_and_at_the_start(own: Any, mix: dict[str, Any], what: str) -> None:
    recipe = own(mix)
    with pytest.raises(DataError) as early:
        describe(recipe)
    with pytest.raises(DataError) as late:
        ready(recipe)
    assert str(early.value) == str(late.value)
    assert str(early.value).startswith(what)


class Words:
    """Samples whose encoding is measured."""

    places: list[str] = []
    columns: dict[str, Any] = {}

    def __init__(self, lengths: list[int]) -> None:
        self.lengths, self.targets = lengths, torch.zeros(len(lengths), dtype=torch.long)

    def __len__(self) -> int:
        return len(self.lengths)

    def fit(self, train: torch.Tensor, progress: Progress = untold) -> Padded:
        return Padded(max(self.lengths[number] for number in train.tolist()))


class Padded:
    def __init__(self, longest: int) -> None:
        self.longest = longest

    def encode(self, part: Words, progress: Progress = untold) -> Samples:
        return Samples(torch.ones(len(part), self.longest, dtype=torch.long), part.targets)

    def describe(self, source: Source) -> Source:
        return replace(source, shape=(self.longest,), vocabulary=2)


def test_what_must_be_measured_is_encoded_as_data_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def words(name: str, *lengths: int) -> Loaded:
        source = Source(name, name, "classification", (), 2, {"all": len(lengths)}, "yours", ("a", "b"))
        return Loaded(source, {"all": Words([*lengths])})

    encoder = words("mine", 1, 7, 3).parts["all"].fit(torch.arange(3))  # type: ignore[union-attr]
    ours = encoder.describe(words("mine").source)
    monkeypatch.setattr(mixture, "load", lambda *given: words("theirs", 2, 9))
    data = Data.model_validate({"path": "mine", "mix": [{"path": "theirs", "weight": 3.0}]})
    ((_, piece),) = mixture.mixed_pieces(data, words("mine", 1, 7, 3), ours, encoder, lambda what, done, total: None)
    assert isinstance(piece.part, Samples)
    assert (piece.part.inputs.shape, piece.weight) == ((2, 7), 3.0)
    with pytest.raises(DataError, match=r"data\.mix\.0: theirs: is not read as mine is"):
        mixture.mixed_pieces(data, words("mine", 1, 7, 3), ours, None, lambda what, done, total: None)


def test_a_dataset_of_another_task_is_refused() -> None:
    recipe = digits({"data.mix": [{"name": "diabetes"}]})
    with pytest.raises(
        DataError, match=r"data\.mix\.0: diabetes: is for regression, and mnist5k is for classification"
    ):
        describe(recipe)
    with pytest.raises(RecipeError, match=r"data\.mix\.0\.name: there is no dataset 'mnist6k'"):
        describe(digits({"data.mix": [{"name": "mnist6k"}]}))


@pytest.mark.parametrize(
    "changes",
    [
        {"data.mix": [{"path": "more.npz", "weight": 0.5}]},
        {"data.sampler": "balanced"},
        {"data.sampler": "balanced", "data.mix": [{"path": "more.npz", "weight": 0.5}], "data.subset": 0.6},
    ],
)
def test_tensors_and_loader_serve_the_same_bits_and_a_run_is_resumed(changes: dict[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "more.npz"
    np.savez(file, x=np.arange(100, dtype=np.uint8).repeat(784).reshape(100, 28, 28), y=np.arange(100) % 10)
    if "data.mix" in changes:
        changes = {**changes, "data.mix": [{**each, "path": str(file)} for each in changes["data.mix"]]}
    recipe = digits(changes)
    one, other = ready(recipe).train, ready(recipe.override({"data.in_memory": False})).train
    assert (type(one), type(other)) == (TensorBatches, LoaderBatches)
    for epoch in (0, 1):
        for first, second in zip(one.epoch(epoch), other.epoch(epoch), strict=True):
            assert torch.equal(first.inputs, second.inputs)
            assert torch.equal(first.targets, second.targets)
    whole, cut = train(recipe, tmp_path / "whole"), train(recipe, tmp_path / "cut", stop_at(15))
    resume(cut.directory)
    assert whole.history.error is None
    assert same(weights(whole.directory), weights(cut.directory))


def test_what_data_holds_out_is_not_trained_on_by_mixing_it_in(own: Any, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"data\.mix\.0: is the dataset of \[data\] itself"):
        ready(own({"count": 40}))
    assert any(str(each).startswith("data.mix.0: is the dataset") for each in check(own({"count": 40})).problems)
    ready(own({"count": 41}))  # another one of the same function


def test_columns_of_tables_are_mixed_by_their_names(tmp_path: Path) -> None:
    rows = [(number * 0.5, 1000 + number * 0.7, number % 2) for number in range(20)]
    texts = {
        "first": ["x,y,target", *(f"{x},{y},{t}" for x, y, t in rows)],
        "turned": ["y,x,target", *(f"{y},{x},{t}" for x, y, t in rows)],
        "strange": ["x,z,target", *(f"{x},{y},{t}" for x, y, t in rows)],
        "words": ["text,label", *(f"a{x} b,{t}" for x, _, t in rows)],
    }
    for name, lines in texts.items():
        (tmp_path / f"{name}.csv").write_text("\n".join(lines))

    def mixed(name: str, kind: str = "auto") -> Prepared:
        mix = [{"path": str(tmp_path / f"{name}.csv"), "format": kind}]
        data = {"path": str(tmp_path / "first.csv"), "mix": mix}
        layers = [{"name": "Linear", "out_features": "classes"}]
        return ready(Recipe.from_values({"data": data, "model": {"layers": layers}}))

    inputs = torch.cat([batch.inputs for batch in mixed("turned").train.epoch(0)])
    assert bool((inputs[:, 0] < 100).all())
    assert bool((inputs[:, 1] >= 1000).all())
    with pytest.raises(DataError, match="column 'y': is not among the columns of numbers of each table"):
        mixed("strange")
    with pytest.raises(DataError, match="their samples can't be encoded alike"):
        mixed("words", "text")


def test_balanced_weights_count_what_is_drawn(own: Any) -> None:
    alone, beside = (ready(own(*mix)).facts.class_counts for mix in ((), ({"count": 100, "weight": 0.1},)))
    assert alone is None  # a person's own dataset is only read for it where the loss asks
    assert beside is None
    balanced = own({"count": 100, "weight": 0.1}).override({"loss.class_weights": "balanced"})
    plain = own().override({"loss.class_weights": "balanced"})
    counts, before = (ready(each).facts.class_counts for each in (balanced, plain))
    assert counts is not None
    assert before is not None
    assert [now - then for now, then in zip(counts, before, strict=True)] == [9, 1]


def test_balanced_classes_come_equally_often_as_many_samples_an_epoch(own: Any) -> None:
    for more in ({}, {"in_memory": False}):
        balanced, plain = ready(own(sampler="balanced", **more)).train, ready(own(**more)).train
        seen = torch.cat([batch.targets for batch in balanced.epoch(0)])
        assert torch.bincount(seen).tolist() == [10, 10]
        assert len(torch.cat([batch.targets for batch in plain.epoch(0)])) == len(seen)
        assert torch.bincount(torch.cat([batch.targets for batch in plain.epoch(0)])).tolist() != [10, 10]


def test_only_classes_are_balanced() -> None:
    problems = check(line({"data.sampler": "balanced"})).problems
    assert "data.sampler: balanced is by class, and a regression has none" in str(problems[0])
    assert check(line()).problems == ()


def test_both_ways_to_balance_at_once_are_said() -> None:
    both = {"data.sampler": "balanced", "loss.class_weights": "balanced"}
    assert any("are both balanced" in note for note in ready(digits(both)).notes)
    assert not any("balanced" in note for note in ready(digits({"data.sampler": "balanced"})).notes)
