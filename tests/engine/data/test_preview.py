"""A look at a dataset shows what is there."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from engine.data.preview import Preview, preview
from engine.recipe import Recipe
from presets import load as preset


def mine(folder: Path, sample: str, count: int = 20, classes: int = 2, task: str = "classification") -> Preview:
    file = folder / "things.py"
    file.write_text(
        f"import numpy as np\nclass D:\n    classes = [f'class {{c}}' for c in range({classes})]\n"
        f"    def __len__(self): return {count}\n    def __getitem__(self, i): return {sample}\n",
        encoding="utf-8",
    )
    values: Mapping[str, Any] = {"task": task, "data": {"python": f"{file}:D"}}
    return preview(Recipe.from_values(values))


def test_digits_are_counted_and_one_of_each_is_shown() -> None:
    look = preview(preset("digits-mlp").recipe)
    assert look.sizes == {"train": 4000, "val": 500, "test": 500}
    assert list(look.counts) == list("0123456789")
    assert sum(look.counts.values()) == look.counted == 4000
    assert [sample.label for sample in look.samples] == list("0123456789")
    for sample in look.samples:
        assert sample.row is None
        assert sample.picture is not None
        assert (sample.picture.shape, sample.picture.dtype) == ((28, 28), np.uint8)
        assert sample.picture.max() > 200
    assert (look.dtype, look.least, look.greatest) == ("uint8", 0.0, 255.0)
    assert look.nbytes == 5000 * (28 * 28 + 8)


def test_only_training_samples_are_counted() -> None:
    half = preset("digits-mlp").recipe.override({"data.split": {"train": 0.5, "val": 0.0, "test": 0.5}})
    assert sum(preview(half).counts.values()) == 2500


def test_of_a_table_rows_are_shown_with_their_class() -> None:
    look = preview(preset("breast-cancer-mlp").recipe)
    assert len(look.samples) == 10
    assert {sample.label for sample in look.samples} == {"malignant", "benign"}
    assert all(s.picture is None and s.row is not None and s.row.shape == (30,) for s in look.samples)
    assert set(look.counts) == {"malignant", "benign"}


def test_of_a_regression_numbers_are_shown_and_nothing_is_counted() -> None:
    look = preview(preset("line-fit").recipe)
    assert look.counts == {}
    assert len(look.samples) == 10
    for sample in look.samples:
        assert sample.row is not None
        assert float(sample.label) == pytest.approx(2 * sample.row[0], abs=0.6)


def test_pictures_in_colour_have_their_channels_last(tmp_path: Path) -> None:
    look = mine(tmp_path, "np.full((3, 4, 6), i, dtype=np.uint8), i % 2")
    picture = look.samples[0].picture
    assert picture is not None
    assert (picture.shape, picture.dtype) == ((4, 6, 3), np.uint8)
    assert look.nbytes == 0


def test_pictures_of_floats_are_stretched_over_their_range(tmp_path: Path) -> None:
    look = mine(tmp_path, "np.linspace(-1, 1, 12).reshape(1, 3, 4), i % 2")
    picture = look.samples[0].picture
    assert picture is not None
    assert (picture.shape, picture.min(), picture.max()) == ((3, 4), 0, 255)
    assert (look.least, look.greatest) == (-1.0, 1.0)


def test_a_picture_of_one_shade_is_drawn(tmp_path: Path) -> None:
    picture = mine(tmp_path, "np.zeros((1, 3, 4)), i % 2").samples[0].picture
    assert picture is not None
    assert picture.max() == 0


def test_what_is_no_picture_is_a_row_of_its_first_numbers(tmp_path: Path) -> None:
    row = mine(tmp_path, "np.arange(200.0).reshape(5, 40), i % 2").samples[0].row
    assert row is not None
    assert row.tolist() == list(range(64))


def test_of_many_classes_ten_are_shown(tmp_path: Path) -> None:
    look = mine(tmp_path, "[float(i)], i % 15", count=100, classes=15)
    assert len(look.samples) == 10
    assert len({sample.label for sample in look.samples}) == 10
    assert len(look.counts) == 15


def test_a_class_without_a_sample_counts_zero(tmp_path: Path) -> None:
    assert mine(tmp_path, "[float(i)], 0").counts == {"class 0": 16, "class 1": 0}


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_a_few_samples_are_enough(tmp_path: Path, task: str) -> None:
    assert len(mine(tmp_path, "[float(i)], i % 2", count=3, task=task).samples) == 3


def test_of_a_large_dataset_of_ones_own_some_labels_are_counted(tmp_path: Path) -> None:
    look = mine(tmp_path, "[float(i)], i % 2", count=9000)
    assert look.sizes["train"] == 7200
    assert look.counted == sum(look.counts.values()) == 5000


def test_looking_leaves_the_random_state_alone() -> None:
    before = torch.get_rng_state()
    preview(preset("digits-mlp").recipe)
    assert torch.equal(before, torch.get_rng_state())
