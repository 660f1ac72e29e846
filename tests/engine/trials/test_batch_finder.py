"""The largest batch that fits, found by real steps; memory is made to run out artificially."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_runs import digits, line, python_file
from test_trial import silent

from engine.errors import TrainingError
from engine.recipe import Recipe
from engine.training.control import Control, Stopped
from engine.trials.batch_finder import BatchSizes, Size, find_batch_size

SCARCE = """
import torch
class Mine(torch.nn.Linear):
    def forward(self, inputs):
        if len(inputs) > {}:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return super().forward(inputs)
def make():
    return Mine(1, 1)
"""


def scarce(folder: Path, most: int) -> Recipe:
    mine = {"python": python_file(folder, SCARCE.format(most)) + ":make"}
    return line({"model": mine, "data.options": {"points": 1000}})


def test_the_first_size_that_does_not_fit_is_told(tmp_path: Path) -> None:
    told: list[int] = []

    found = find_batch_size(scarce(tmp_path, 64), silent, look=lambda size: told.append(size.samples))

    assert found.too_large == 128
    assert [size.samples for size in found.sizes] == told == [1, 2, 4, 8, 16, 32, 64]
    assert all(size.seconds > 0 and size.peak_bytes is None for size in found.sizes)
    assert found.recommended in told


def test_the_settings_keep_the_effective_batch_and_fit(tmp_path: Path) -> None:
    found = find_batch_size(scarce(tmp_path, 64), silent)

    for batch, parts in ((64, 1), (65, 2), (128, 2), (256, 4), (1, 1)):
        assert found.settings(batch) == {"data.batch_size": batch, "training.accumulate": parts}
        assert -(-batch // parts) <= 64


def test_when_all_fit_none_is_too_large() -> None:
    found = find_batch_size(line(), silent, largest=8)

    assert found.too_large is None
    assert [size.samples for size in found.sizes] == [1, 2, 4, 8]


def test_the_largest_batch_is_all_of_the_training_data() -> None:
    for limits in ({}, {"training.limit_batches": 1}, {"training.overfit_one_batch": True}):
        found = find_batch_size(line(limits), silent)

        assert found.too_large is None
        assert [size.samples for size in found.sizes[-2:]] == [128, 160]
        for batch in (129, 160, 1000):
            assert found.settings(batch)["training.accumulate"] == 1, "no batch has more than all that there is"


def test_a_model_with_batch_norm_begins_with_two() -> None:
    for largest, sizes in ((4, [2, 4]), (1, [2])):
        found = find_batch_size(digits(), silent, largest=largest)

        assert [size.samples for size in found.sizes] == sizes


def test_the_recipes_own_accumulation_is_left_out(tmp_path: Path) -> None:
    recipe = scarce(tmp_path, 16).override({"training.accumulate": 4})

    assert find_batch_size(recipe, silent).too_large == 32


def test_when_not_one_sample_fits_it_fails_with_the_breakdown(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"not even a single sample fits \(weights"):
        find_batch_size(scarce(tmp_path, 0), silent)


def test_the_smallest_that_is_about_as_fast_as_the_fastest_is_recommended() -> None:
    sizes = [Size(1, 1.0, None), Size(2, 1.0, None), Size(4, 1.05, None), Size(8, 2.0, None), Size(16, 4.1, None)]

    assert BatchSizes(sizes, None).recommended == 4


def test_a_control_stops_it() -> None:
    control = Control()

    with pytest.raises(Stopped):
        find_batch_size(line(), silent, control=control, look=lambda size: control.stop())
