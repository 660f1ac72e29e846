"""What a Python file can't say is refused or told, and not left out in silence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
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


def test_a_schedule_that_ends_inside_another_is_refused_by_its_place() -> None:
    inner = [{"name": "ConstantLR"}, {"name": "OneCycleLR", "max_lr": 0.1, "total_steps": 4}]
    scheduler = {"name": "SequentialLR", "milestones": [3], "schedulers": inner}
    with pytest.raises(RecipeError, match=r"scheduler\.schedulers\.1: OneCycleLR with a length of its own"):
        python_file(digits({"scheduler": scheduler}), "digits")


def test_transforms_that_hold_others_are_written_with_all_that_they_hold(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text("def darker(pictures):\n    assert pictures.ndim == 4\n    return pictures / 2\n")
    np.savez(tmp_path / "white.npz", transformation_matrix=np.eye(784) * 3, mean_vector=np.zeros(784))
    own = {"name": "Lambda", "lambd": f"{tmp_path}/own.py:darker"}
    white = dict.fromkeys(("transformation_matrix", "mean_vector"), f"{tmp_path}/white.npz")
    changes = {
        "data.augment": [
            {"name": "RandomApply", "p": 1.0, "transforms": [own, {"name": "JPEG", "quality": 90}]},
            {"name": "RandomChoice", "p": [1, 0], "transforms": [{"name": "Identity"}, {"name": "RandomInvert"}]},
        ],
        "data.transforms": [{"name": "Compose", "transforms": [own, {"name": "LinearTransformation", **white}]}],
    }
    code = python_file(digits(changes), "digits")
    assert "v2.RandomChoice([v2.Identity(), v2.RandomInvert()], p=(1, 0))" in code
    assert "- data.augment: RandomApply draws alike, but other numbers" in " ".join(code.split())
    exported: dict[str, Any] = {"__name__": "exported", "__file__": str(tmp_path / "digits.py")}
    exec(compile(code, "digits.py", "exec"), exported)
    picture = torch.full((2, 1, 28, 28), 0.8)
    assert torch.allclose(exported["augmented"](picture, 0), picture / 2, atol=0.01)
    assert torch.allclose(exported["transformed"](picture), picture * 1.5)


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
