"""What a Python file can't say is refused or told, and not left out in silence."""

from __future__ import annotations

from typing import Any

import pytest
from small_runs import digits

from engine.errors import RecipeError
from engine.export.python import python_file


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("data.split.how", "stratified"),
        ("data.split.folds", 3),
        ("data.subset", 0.5),
        ("data.mix", [{"name": "mnist5k"}]),
        ("data.sampler", "balanced"),
    ],
)
def test_what_the_file_would_draw_otherwise_is_refused_by_its_key(key: str, value: Any) -> None:
    with pytest.raises(RecipeError, match=f"{key}: can't be written as a Python file yet"):
        python_file(digits({key: value}), "digits")


def test_mixing_is_left_out_and_the_file_says_so() -> None:
    crop = {"name": "RandomCrop", "size": 28, "padding": 2}
    mixed = python_file(digits({"data.augment": [crop, {"name": "MixUp"}]}), "digits")
    plain = python_file(digits({"data.augment": [crop]}), "digits")
    assert "- data.augment: samples are not mixed by MixUp\n" in mixed
    assert mixed.replace("- data.augment: samples are not mixed by MixUp\n", "") == plain
    assert "def augmented" not in python_file(digits({"data.augment": [{"name": "MixUp"}]}), "digits")


def test_a_number_of_workers_is_told_and_the_choice_of_them_is_not() -> None:
    assert "data.num_workers: samples are read between the steps" in python_file(digits({"data.num_workers": 2}), "d")
    assert "num_workers" not in python_file(digits(), "d")
