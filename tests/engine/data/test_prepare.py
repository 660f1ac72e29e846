"""From a recipe to three sets of batches that share no sample."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from engine.data.choosing.splits import split
from engine.data.prepare import Facts, Prepared, describe, part_sizes, prepare
from engine.data.samples import Loaded, Samples
from engine.data.serving.batches import Batches, TensorBatches
from engine.data.serving.loader import LoaderBatches
from engine.data.sources import Source, find
from engine.errors import DataError, StudioError
from engine.recipe import Data, Recipe, Split
from presets import load as preset

CPU = torch.device("cpu")


def ready(name: str, **changes: Any) -> Prepared:
    return prepare(changed(name, **changes), CPU, lambda what, done, total: None)


def changed(name: str, **changes: Any) -> Recipe:
    return preset(name).recipe.override({key.replace("__", "."): value for key, value in changes.items()})


def mine(
    folder: Path, task: str = "regression", sample: str = "[float(i), 2.0], i", made: str = "D(20)", **more: Any
) -> Recipe:
    """A recipe on a person's own dataset; `more` goes into its `[data]`."""
    file = folder / "numbers.py"
    file.write_text(
        "class D:\n    classes = ['a', 'b']\n    def __init__(self, count, of=0): self.count, self.of = count, of\n"
        f"    def __len__(self): return self.count\n    def __getitem__(self, i): return {sample}\n"
        f"def make(): return {made}\n",
        encoding="utf-8",
    )
    values = {"task": task, "data": {"python": f"{file}:make", "batch_size": 4, **more}, "loss": {"name": "MSELoss"}}
    return Recipe.from_values(values)


def everything(batches: Batches | None) -> tuple[Tensor, Tensor]:
    assert batches is not None
    served = list(batches.epoch(0))
    return torch.cat([batch.inputs for batch in served]), torch.cat([batch.targets for batch in served])


def refusal(recipe: Recipe) -> str:
    """What is said before anything is loaded; loading says the same."""
    with pytest.raises(StudioError) as early:
        describe(recipe)
    with pytest.raises(StudioError) as late:
        prepare(recipe, CPU, lambda what, done, total: None)
    assert str(early.value) == str(late.value)
    return str(early.value)


def source(**sizes: int) -> Source:
    return Source("numbers", "Numbers.", "regression", (1,), 1, sizes, "made")


def numbered(**sizes: int) -> Loaded:
    parts = {name: Samples(torch.zeros(count, 1), torch.zeros(count, 1)) for name, count in sizes.items()}
    return Loaded(source(**sizes), parts)


SHARES = (
    st.tuples(st.floats(1e-6, 1), st.floats(0, 1), st.floats(0, 1))
    .map(lambda each: [share / max(1.0, sum(each)) for share in each])
    .map(lambda each: Split(train=each[0], val=each[1], test=each[2]))
)


@settings(max_examples=200, deadline=None)
@given(SHARES, st.integers(1, 60), st.integers(0, 9))
def test_parts_of_a_split_share_no_sample_and_have_the_sizes_foretold(shares: Split, count: int, own: int) -> None:
    sizes = {"train": count, "test": own} if own else {"all": count}
    data = Data(name="line", split=shares)
    parts = split(numbered(**sizes), data, [])
    taken = {name: set() if index is None else set(index.tolist()) for name, (_, index) in parts.items()}
    drawn = [name for name, (_, index) in parts.items() if index is not None]
    assert sum(len(taken[name]) for name in drawn) == len(set.union(*(taken[name] for name in drawn))) <= count
    real = {name: own if name not in drawn else len(taken[name]) for name in parts}
    assert dict(part_sizes(source(**sizes), data)) == real
    for name in () if own else drawn:
        assert abs(real[name] - count * getattr(shares, name)) <= 1.5


def test_two_halves_of_an_odd_number_share_no_sample() -> None:
    data = Data(name="line", split=Split(train=1e-10, val=0.5, test=0.5))
    assert part_sizes(source(all=3), data) == {"train": 0, "val": 2, "test": 1}


def test_the_split_depends_on_its_seed_alone() -> None:
    def test_part(seed: int) -> list[int]:
        index = split(numbered(all=50), Data(name="line", split=Split(seed=seed)), [])["test"][1]
        assert index is not None
        return index.tolist()

    first = test_part(0)
    torch.manual_seed(99)
    assert test_part(0) == first
    assert test_part(1) != first


def test_a_test_set_of_its_own_is_kept_whole_and_the_rest_shared_out() -> None:
    notes: list[str] = []
    parts = split(numbered(train=90, test=7), Data(name="MNIST", split=Split(train=0.8, val=0.1, test=0.1)), notes)
    sizes = {name: len(part) if index is None else len(index) for name, (part, index) in parts.items()}
    assert sizes == {"train": 80, "val": 10, "test": 7}
    assert parts["test"][1] is None
    assert "split.test has no effect" in notes[0]
    silent: list[str] = []
    split(numbered(train=90, test=7), Data(name="MNIST", split=Split(train=0.9, val=0.1, test=0.0)), silent)
    assert silent == []


def test_data_without_a_part_to_train_on_is_refused(tmp_path: Path) -> None:
    recipe = mine(tmp_path, made="{'test': D(5)}")
    with pytest.raises(DataError, match=r"has no part to train on\. Give it a 'train' part"):
        prepare(recipe, CPU, lambda what, done, total: None)


def test_a_split_that_leaves_nothing_to_train_on_is_refused() -> None:
    with pytest.raises(DataError, match=r"data\.split\.train: leaves no sample to train on"):
        ready("line-fit", data__split={"train": 1e-9, "val": 0.5, "test": 0.5})


def test_digits_sorted_by_class_are_shuffled_before_they_are_split() -> None:
    data = ready("digits-mlp")
    for batches, each in ((data.train, 400), (data.val, 50), (data.test, 50)):
        counts = torch.bincount(everything(batches)[1], minlength=10)
        assert counts.min() > each * 0.6
        assert counts.max() < each * 1.4
    first = next(iter(data.train.epoch(0))).targets
    assert len(set(first.tolist())) == 10


def test_parts_of_real_data_share_no_sample() -> None:
    data = ready("breast-cancer-mlp", data__transforms=[])
    rows = [tuple(row) for batches in (data.train, data.val, data.test) for row in everything(batches)[0].tolist()]
    assert len(rows) == len(set(rows)) == 569  # all of them: 0.7, 0.15 and 0.15 are everything


def test_foretold_sizes_are_those_served() -> None:
    for name in ("digits-mlp", "diabetes-mlp", "breast-cancer-mlp", "line-fit"):
        recipe = preset(name).recipe
        data = ready(name)
        assert data.val is not None
        assert data.test is not None
        served = {"train": data.train.samples, "val": data.val.samples, "test": data.test.samples}
        assert served == part_sizes(describe(recipe)[0], recipe.data)


def test_an_option_that_changes_the_size_is_foretold() -> None:
    recipe = changed("line-fit", data__options={"points": 50})
    assert part_sizes(describe(recipe)[0], recipe.data) == {"train": 40, "val": 5, "test": 5}


def test_a_part_without_a_share_is_absent() -> None:
    data = ready("line-fit", data__split={"train": 0.5, "val": 0.0, "test": 0.0})
    assert (data.val, data.test, data.train.samples) == (None, None, 500)


def test_columns_are_standardized_by_the_training_samples_alone() -> None:
    raw, ours = ready("diabetes-mlp", data__transforms=[]), ready("diabetes-mlp")
    train, _ = everything(raw.train)
    mean, std = train.mean(0), train.std(0, correction=0)
    for before, after in ((raw.train, ours.train), (raw.val, ours.val), (raw.test, ours.test)):
        assert torch.allclose(everything(after)[0], (everything(before)[0] - mean) / std, atol=1e-4)
    # The twin: measured on themselves, the test samples would have mean 0.
    assert everything(ours.test)[0].mean(0).abs().max() > 1e-2


def test_a_transform_above_standardize_is_measured_too() -> None:
    data = ready("digits-mlp", data__transforms=[{"name": "Resize", "size": 7}, {"name": "Standardize"}])
    inputs, _ = everything(data.train)
    assert inputs.shape[1:] == (1, 7, 7) == data.facts.shape
    assert inputs.mean(0).abs().max() < 1e-3


def test_targets_are_standardized_by_the_training_samples_and_the_facts_say_how() -> None:
    raw, ours = ready("diabetes-mlp", data__standardize_target=False), ready("diabetes-mlp")
    mean, std = ours.facts.target_mean, ours.facts.target_std
    assert mean is not None
    assert std is not None
    train = everything(raw.train)[1]
    assert torch.allclose(mean, train.mean(0))
    assert torch.allclose(everything(ours.test)[1] * std + mean, everything(raw.test)[1], atol=1e-3)
    assert raw.facts.target_mean is None


def test_targets_that_are_all_the_same_stay_finite() -> None:
    data = ready("line-fit", data__options={"slope": 0, "noise": 0}, data__standardize_target=True)
    assert torch.isfinite(everything(data.train)[1]).all()


def test_only_training_is_augmented_and_shuffled() -> None:
    augment = [{"name": "RandomErasing", "p": 1.0}]
    plain, ours = ready("digits-mlp"), ready("digits-mlp", data__augment=augment)
    assert torch.equal(everything(plain.test)[0], everything(ours.test)[0])
    assert not torch.equal(everything(plain.train)[0], everything(ours.train)[0])
    assert ours.val is not None
    assert [b.targets.tolist() for b in ours.val.epoch(0)] == [b.targets.tolist() for b in ours.val.epoch(1)]


def test_batches_are_dropped_in_training_only() -> None:
    data = ready("line-fit", data__batch_size=300, data__drop_last=True)
    assert data.train.samples == 600
    assert len(everything(data.test)[0]) == 100


@pytest.mark.parametrize(
    ("changes", "kind"),
    [({}, TensorBatches), ({"data__in_memory": False}, LoaderBatches), ({"data__num_workers": 1}, LoaderBatches)],
)
def test_small_data_lies_on_the_device_unless_told_otherwise(changes: dict[str, Any], kind: type) -> None:
    data = ready("line-fit", **changes)
    assert type(data.train) is kind
    data.close()


def test_both_ways_serve_the_same_bits() -> None:
    one, other = ready("digits-mlp"), ready("digits-mlp", data__in_memory=False)
    for first, second in zip(one.train.epoch(1), other.train.epoch(1), strict=True):
        assert torch.equal(first.inputs, second.inputs)
        assert torch.equal(first.targets, second.targets)


def test_whole_numbers_of_ones_own_dataset_are_predicted_as_numbers(tmp_path: Path) -> None:
    data = prepare(mine(tmp_path), CPU, lambda what, done, total: None)
    inputs, targets = everything(data.train)
    assert (targets.shape, targets.dtype) == ((16, 1), torch.float32)
    assert torch.equal(inputs[:, :1], targets)
    assert data.facts == Facts((2,), 1, ("a", "b"))


def test_pictures_of_ones_own_dataset_have_the_shape_foretold(tmp_path: Path) -> None:
    sample = "__import__('PIL.Image').Image.new('RGB', (6, 4)), i % 2"
    recipe = mine(tmp_path, "classification", sample, augment=[{"name": "RandomHorizontalFlip"}])
    data = prepare(recipe, CPU, lambda what, done, total: None)
    inputs, targets = everything(data.train)
    assert tuple(inputs.shape[1:]) == (3, 4, 6) == describe(recipe)[1].shape
    assert targets.dtype == torch.int64


def test_the_shape_after_the_transforms_is_known_before_anything_is_loaded() -> None:
    transforms = [{"name": "Grayscale", "num_output_channels": 3}, {"name": "Resize", "size": [14, 10]}]
    _, facts = describe(changed("digits-mlp", data__transforms=transforms))
    assert facts.shape == (3, 14, 10)


@pytest.mark.parametrize(
    ("name", "changes", "said"),
    [
        ("digits-mlp", {"data.name": "mnist6k"}, "data.name: there is no dataset 'mnist6k'. Did you mean 'mnist5k'?"),
        ("digits-mlp", {"task": "regression"}, "task: 'regression' does not fit mnist5k. It is for classification."),
        ("line-fit", {"data.options.point": 3}, "data.options.point: is not an option of line."),
        (
            "diabetes-mlp",
            {"data.transforms": [{"name": "Resize", "size": 3}]},
            "data.transforms: does not fit samples of 10:",
        ),
        (
            "digits-mlp",
            {"data.augment": [{"name": "RandomCrop", "size": 40}]},
            "data.augment.0: does not fit samples of 1×28×28: Required crop size",
        ),
        (
            "digits-mlp",
            {"data.augment": [{"name": "RandomCrop", "size": 20}]},
            "data.augment: makes 1×20×20 of samples that validation sees as 1×28×28. Give the crop that size",
        ),
        (
            "digits-mlp",
            {"data.transforms": [{"name": "FiveCrop", "size": 5}]},
            "data.transforms.0: FiveCrop makes",
        ),
        ("digits-mlp", {"data.augment": [{"name": "Resize", "size": 5}]}, "data.augment.0: Resize draws nothing."),
        (
            "line-fit",
            {"data.split.how": "stratified"},
            "data.split.how: stratified is by class, and a regression has none",
        ),
        ("digits-mlp", {"data.standardize_target": True}, "data.standardize_target: is for regression on a dataset in"),
    ],
)
def test_what_does_not_fit_the_data_is_named(name: str, changes: dict[str, Any], said: str) -> None:
    assert refusal(preset(name).recipe.override(changes)).startswith(said)


def test_a_column_to_split_by_is_looked_for_before_the_start(tmp_path: Path) -> None:
    by_day = {"split": {"how": "ordered", "by": "day"}}
    assert "data.split.by: make: has no column 'day'. It has none to split by." in refusal(mine(tmp_path, **by_day))


def test_what_must_be_measured_is_not_for_ones_own_dataset(tmp_path: Path) -> None:
    standardize = mine(tmp_path, transforms=[{"name": "Standardize"}])
    assert "data.transforms.0: Standardize needs a dataset in memory. Use Normalize." in refusal(standardize)
    assert "data.standardize_target: is for regression" in refusal(mine(tmp_path, standardize_target=True))


def test_describing_loads_no_download() -> None:
    found, facts = describe(preset("mnist-cnn").recipe)
    assert found == find("MNIST")
    assert facts == Facts((1, 28, 28), 10, found.classes)


def test_many_pictures_are_measured_piece_by_piece_to_the_same_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = torch.randint(0, 255, (50, 3, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    np.savez(tmp_path / "made.npz", x=pictures.numpy(), y=np.arange(50) % 2)
    layers = [{"name": "Flatten"}, {"name": "Linear", "out_features": "classes"}]
    data = {"path": str(tmp_path / "made.npz"), "transforms": [{"name": "Standardize"}]}
    recipe = Recipe.from_values({"data": data, "model": {"layers": layers}})

    def first() -> torch.Tensor:
        batches = prepare(recipe, torch.device("cpu"), lambda what, done, total: None).train
        return next(iter(batches.epoch(0))).inputs

    whole = first()
    monkeypatch.setattr("engine.data.standardising._LARGE", 1)
    monkeypatch.setattr("engine.data.standardising._TOGETHER", 7)
    assert torch.allclose(first(), whole, atol=1e-5)
