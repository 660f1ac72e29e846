"""What a run does not come to is said in its log."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from small_runs import line, train

from engine.training.in_vain import in_vain


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"training.average.decay": 0.5}, "training.average:"),
        ({"training.average": {"kind": "swa", "start": 2}}, "training.average.start:"),
        ({"training.average": {"kind": "swa", "start": 1}}, ""),
        ({"training.early_stopping.metric": "r2"}, "training.early_stopping:"),
        ({"training.early_stopping": {"metric": "r2", "patience": 1}}, ""),
        ({"training.nan_lr_factor": 0.1}, "training.nan_lr_factor:"),
        ({"training.nan_lr_factor": 0.1, "training.on_nan": "rollback"}, ""),
        ({"optimizer.warmup": "11 steps"}, "optimizer.warmup: the run ends with step 10"),
        ({"optimizer.warmup": "2 epochs"}, ""),
        ({}, ""),
    ],
)
def test_a_setting_without_effect_is_told_and_no_other(changes: dict[str, Any], key: str) -> None:
    said = in_vain(line(changes), 5)
    assert len(said) == bool(key)
    assert all(text.startswith(key) for text in said)


def test_it_stands_in_the_log_of_the_run(root: Path) -> None:
    job = train(line({"optimizer.warmup": "3 epochs"}), root)
    assert any("optimizer.warmup: the run ends with step 10" in text for text in job.history.log)
