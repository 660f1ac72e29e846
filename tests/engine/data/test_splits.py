"""Splits by class, by group, by time and in folds: what they promise, whatever the data."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from engine.data.choosing.splits import split
from engine.data.samples import Loaded, Samples
from engine.data.sources import Source
from engine.errors import DataError, RecipeError
from engine.recipe import Data, Split

NAMES = ("train", "val", "test")


def source(task: str = "classification", **sizes: int) -> Source:
    classes = tuple(f"class{number}" for number in range(50))
    return Source("things", "Things.", task, (1,), 50, sizes, "yours", classes)  # type: ignore[arg-type]


def labelled(labels: list[int], task: str = "classification", **columns: object) -> Loaded:
    count = len(labels)
    given_columns = {name: np.array(values) for name, values in columns.items()}
    samples = Samples(torch.zeros(count, 1), torch.tensor(labels), (), given_columns)
    return Loaded(source(task, all=count), {"all": samples})


def drawn(
    loaded: Loaded, how: str, notes: list[str] | None = None, subset: float = 1.0, **more: object
) -> dict[str, Tensor]:
    """The numbers that each part has."""
    data = Data(name="line", split=Split(how=how, **more), subset=subset)  # type: ignore[arg-type]
    parts = split(loaded, data, [] if notes is None else notes)
    return {name: torch.arange(len(part)) if index is None else index for name, (part, index) in parts.items()}


def assert_disjoint(parts: dict[str, Tensor], count: int) -> None:
    taken = torch.cat([parts[name] for name in NAMES])
    assert len(taken.unique()) == len(taken)
    assert len(taken) == 0 or (int(taken.min()) >= 0 and int(taken.max()) < count)


SHARES = st.sampled_from([(0.8, 0.1, 0.1), (0.5, 0.25, 0.25), (0.6, 0.4, 0.0), (0.7, 0.0, 0.3), (0.5, 0.2, 0.1)])
LABELS = st.lists(st.integers(0, 6), min_size=1, max_size=80)


@settings(max_examples=150, deadline=None)
@given(LABELS, SHARES, st.integers(0, 99))
def test_a_stratified_split_gives_each_class_its_shares(
    labels: list[int], shares: tuple[float, ...], seed: int
) -> None:
    train, val, test = shares
    parts = drawn(labelled(labels), "stratified", train=train, val=val, test=test, seed=seed)
    assert_disjoint(parts, len(labels))
    classes = torch.tensor(labels)
    for label in set(labels):
        count = labels.count(label)
        have = {name: int((classes[parts[name]] == label).sum()) for name in NAMES}
        if train + val + test == pytest.approx(1):
            assert have["train"] >= 1, "a class that nothing is learnt of"
            assert sum(have.values()) == count
        if count == 1:
            assert have["val"] == have["test"] == 0
    if min(map(labels.count, set(labels))) >= 4:
        for name, share in zip(NAMES, shares, strict=True):
            for label in set(labels):
                have_of = int((classes[parts[name]] == label).sum())
                assert abs(have_of - labels.count(label) * share) < 2, "more than rounding"


def test_the_twin_a_random_split_does_not_keep_the_shares_of_rare_classes() -> None:
    labels = [0] * 90 + [1] * 10
    classes = torch.tensor(labels)

    def rare(how: str) -> set[int]:
        return {int((classes[drawn(labelled(labels), how, seed=seed)["test"]] == 1).sum()) for seed in range(8)}

    assert rare("stratified") == {1}
    assert len(rare("random")) > 1


def test_a_class_with_one_sample_is_trained_on_and_said() -> None:
    notes: list[str] = []
    parts = drawn(labelled([0] * 10 + [7] + [1] * 10), "stratified", notes, train=0.4, val=0.3, test=0.3)
    assert 10 in parts["train"].tolist()
    assert "class7 has one sample, which is trained on" in notes[0]
    silent: list[str] = []
    drawn(labelled([0] * 10 + [1] * 10), "stratified", silent)
    assert silent == []


def test_a_small_share_to_train_on_has_a_sample_of_each_class() -> None:
    labels = [0] * 1000 + [1] * 10 + [2] * 3 + [3]
    train = drawn(labelled(labels), "stratified", train=0.01, val=0.1, test=0.1)["train"]
    assert torch.bincount(torch.tensor(labels)[train]).tolist() == [7, 1, 1, 1]
    fewer = drawn(labelled(labels), "stratified", train=0.003, val=0.1, test=0.1)["train"]
    assert len(fewer) == 3


def test_only_classes_are_stratified() -> None:
    with pytest.raises(RecipeError, match=r"data\.split\.how: stratified is by class, and a regression has none"):
        drawn(labelled([0, 1, 2], "regression"), "stratified")


@settings(max_examples=150, deadline=None)
@given(st.lists(st.integers(0, 12), min_size=3, max_size=80), SHARES, st.integers(0, 99))
def test_no_group_is_in_two_parts(groups: list[int], shares: tuple[float, ...], seed: int) -> None:
    train, val, test = shares
    loaded = labelled([0] * len(groups), patient=groups)
    parts = drawn(loaded, "grouped", by="patient", train=train, val=val, test=test, seed=seed)
    assert_disjoint(parts, len(groups))
    numbers = torch.tensor(groups)
    have = {name: set(numbers[parts[name]].tolist()) for name in NAMES}
    assert not have["train"] & have["val"] | have["train"] & have["test"] | have["val"] & have["test"]
    wanted = [name for name, share in zip(NAMES, shares, strict=True) if round(len(groups) * share)]
    if train + val + test == pytest.approx(1):
        assert sum(len(parts[name]) for name in NAMES) == len(groups)
        if len(set(groups)) >= len(wanted):
            assert all(have[name] for name in wanted), "a part stays empty though there are groups enough"


def test_groups_meet_the_shares_as_well_as_they_allow() -> None:
    groups = [number for number in range(100) for _ in range(10)]
    loaded = labelled([0] * 1000, "regression", patient=[f"p{number}" for number in groups])
    notes: list[str] = []
    parts = drawn(loaded, "grouped", notes, by="patient")
    assert {name: len(parts[name]) for name in NAMES} == {"train": 800, "val": 100, "test": 100}
    assert notes == ["split by patient: 100 groups, train 800 · val 100 · test 100"]
    # The twin: drawn at random every patient would be in training.
    assert len({groups[number] for number in drawn(loaded, "random")["train"].tolist()}) == 100


def test_an_ordered_split_tests_on_what_comes_last() -> None:
    times = torch.randperm(100, generator=torch.Generator().manual_seed(3))
    loaded = labelled([0] * 100, "regression", day=times.tolist())
    parts = drawn(loaded, "ordered", by="day")
    assert times[parts["train"]].max() < times[parts["val"]].min()
    assert times[parts["val"]].max() < times[parts["test"]].min()
    as_they_come = drawn(loaded, "ordered")
    assert as_they_come["test"].tolist() == list(range(90, 100))
    assert as_they_come["train"].tolist() == list(range(80))
    partly = drawn(loaded, "ordered", train=0.3, val=0.1, test=0.1)
    assert (partly["train"].tolist(), partly["test"].tolist()) == (list(range(30)), list(range(90, 100)))


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from(["random", "stratified", "ordered", "grouped"]), st.integers(20, 80), st.integers(2, 6),
    st.sampled_from([0.0, 0.2]),
)  # fmt: skip
def test_every_sample_that_is_not_test_is_validated_in_one_fold(how: str, count: int, folds: int, test: float) -> None:
    labels = [number % 3 for number in range(count)]
    loaded = labelled(labels, group=[number % 17 for number in range(count)])
    by = {"by": "group"} if how == "grouped" else {}
    every = [drawn(loaded, how, folds=folds, fold=fold, test=test, val=0.0, **by) for fold in range(folds)]
    held = torch.cat([parts["val"] for parts in every])
    tested = every[0]["test"]
    assert len(held.unique()) == len(held) == count - len(tested)
    for parts in every:
        assert_disjoint(parts, count)
        assert sum(len(parts[name]) for name in NAMES) == count
        assert set(parts["test"].tolist()) == set(tested.tolist()), "the test part is the same in all folds"
    sizes = [len(parts["val"]) for parts in every]
    assert max(sizes) - min(sizes) <= (1 if how != "grouped" else 2 * -(-count // 17))
    if how == "stratified":
        for label in range(3):
            of_label = [sum(labels[number] == label for number in parts["val"].tolist()) for parts in every]
            assert max(of_label) - min(of_label) <= 1


def test_more_folds_than_samples_or_groups_are_refused() -> None:
    with pytest.raises(DataError, match=r"4 samples can't be cut into 5 folds\. Lower data\.split\.folds"):
        drawn(labelled([0] * 4), "random", folds=5, test=0.0)
    with pytest.raises(DataError, match="2 groups can't be cut into 3 folds"):
        drawn(labelled([0] * 6, g=[0, 0, 0, 1, 1, 1]), "grouped", by="g", folds=3, test=0.0)


def test_a_column_that_is_not_there_is_named_with_the_nearest() -> None:
    with pytest.raises(DataError, match=r"has no column 'patinet'\. Did you mean 'patient'\?"):
        drawn(labelled([0, 1], patient=[0, 1]), "grouped", by="patinet")
    with pytest.raises(DataError, match=r"has no column 'day'\. It has none to split by"):
        drawn(labelled([0, 1]), "ordered", by="day")


def test_a_validation_set_of_its_own_is_used_and_the_rest_shared_out() -> None:
    parts = {name: Samples(torch.zeros(size, 1), torch.zeros(size)) for name, size in (("train", 90), ("val", 7))}
    loaded, notes = Loaded(source(train=90, val=7), parts), list[str]()
    found = drawn(loaded, "random", notes)
    assert {name: len(found[name]) for name in NAMES} == {"train": 80, "val": 7, "test": 10}
    assert "brings its own validation set: split.val has no effect" in notes[0]
    with pytest.raises(RecipeError, match="brings its own validation set"):
        drawn(loaded, "random", folds=3)


@pytest.mark.parametrize(("subset", "size"), [(1.0, 80), (0.25, 20), (1, 80), (12, 12), (0.001, 1), (500, 80)])
def test_a_subset_is_of_the_training_samples_alone(subset: float, size: int) -> None:
    loaded = labelled([number % 4 for number in range(100)])
    whole, notes = drawn(loaded, "random"), list[str]()
    part = drawn(loaded, "random", notes, subset)
    assert len(part["train"]) == size
    assert set(part["train"].tolist()) <= set(whole["train"].tolist())
    assert torch.equal(part["val"], whole["val"])
    assert torch.equal(part["test"], whole["test"])
    assert notes == (
        ["data.subset: there are only 80 training samples, all of them are trained on."] if subset == 500 else []
    )


def test_a_subset_of_a_stratified_split_keeps_the_classes_shares() -> None:
    labels = [0] * 80 + [1] * 20
    loaded, classes = labelled(labels), torch.tensor(labels)
    rare = {int(classes[drawn(loaded, "stratified", subset=20, seed=seed)["train"]].sum()) for seed in range(6)}
    assert rare == {4}
    other = {tuple(drawn(loaded, "stratified", subset=20, seed=seed)["train"].tolist()) for seed in range(6)}
    assert len(other) == 6, "the seed draws it"


def test_the_default_split_is_the_one_it_always_was() -> None:
    parts = drawn(labelled([0] * 50), "random", seed=7)
    order = torch.randperm(50, generator=torch.Generator().manual_seed(7))
    assert torch.equal(torch.cat([parts[name] for name in NAMES]), order)
