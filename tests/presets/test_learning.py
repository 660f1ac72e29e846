"""What each preset whose data is bundled must learn. Measured over four seeds; the least value seen is beside each."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_runs import train

import presets


@pytest.mark.parametrize(
    ("name", "metric", "least"),
    [
        ("digits-mlp", "accuracy", 0.90),  # 0.946
        ("digits-cnn", "accuracy", 0.96),  # 0.974
        ("digits-resnet", "accuracy", 0.94),  # 0.962
        ("digits-gru", "accuracy", 0.90),  # 0.930
        ("digits-transformer", "accuracy", 0.85),  # 0.890
        ("breast-cancer-mlp", "accuracy", 0.93),  # 0.965
        ("diabetes-mlp", "r2", 0.3),  # 0.548
        ("line-fit", "r2", 0.97),  # 0.993
    ],
)
def test_a_preset_learns_what_its_issue_promises(name: str, metric: str, least: float, root: Path) -> None:
    job = train(presets.load(name).recipe.override({"training.device": "cpu"}), root)

    assert job.history.error is None
    assert job.history.summary is not None
    assert job.history.summary.test[metric] >= least


def test_a_preset_that_learns_nothing_misses_its_threshold(root: Path) -> None:
    recipe = presets.load("digits-mlp").recipe.override({"optimizer.lr": 1e-30, "training.epochs": 1})

    job = train(recipe.override({"training.device": "cpu"}), root)

    assert job.history.summary is not None
    assert job.history.summary.test["accuracy"] < 0.3
