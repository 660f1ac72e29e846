"""Every step of augmentation: decided by its seed alone, another draw for each sample, no draw from the process."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from engine.data.augmentation.augment import MOVES, STEPS, Augment
from engine.data.serving.batches import Finish
from engine.data.transforms import fixed
from engine.recipe import Part


def part(name: str, **parameters: Any) -> Part:
    return Part(name=name, **parameters)


VECTORISED = [
    part("RandomCrop", size=4),
    part("RandomHorizontalFlip"),
    part("RandomVerticalFlip"),
    part("ColorJitter", brightness=0.5, contrast=0.5),
    part("RandomRotation", degrees=30),
    part("RandomAffine", degrees=30),
    part("RandomErasing", p=0.9),
    part("RandomErasing", p=0.9, value="random"),
    part("GaussianNoise", sigma=0.2),
    part("GaussianBlur", kernel_size=3),
    part("RandomResizedCrop", size=4),
    part("RandomGrayscale", p=0.5),
    part("RandomInvert"),
    part("RandomSolarize", threshold=0.3),
    part("RandomPosterize", bits=2),
    part("RandomAutocontrast"),
    part("RandomEqualize"),
    part("RandomAdjustSharpness", sharpness_factor=2.0),
    part("RandomChannelPermutation"),
]
# By torchvision, sample by sample: what is not vectorised, and options that are not.
OTHERS = [
    part("RandomPerspective", p=0.9),
    part("RandomResizedCrop", size=4, interpolation="bicubic"),
    part("RandomRotation", degrees=[-30, 30], interpolation="nearest", expand=True, center=[3, 3]),
    part("RandomCrop", size=4, padding=[-1, 0, 0, 0]),
]
BATCH = (torch.arange(1, 1 + 3 * 6 * 6, dtype=torch.float32).reshape(3, 6, 6) / 200).expand(40, 3, 6, 6)


def results_of(step: Part, seed: int) -> Tensor:
    return Augment([step])(BATCH, seed)


def name_of(step: Part) -> str:
    return step.name


def test_every_vectorised_step_is_tested_here() -> None:
    assert {step.name for step in VECTORISED} == {*MOVES, *STEPS}


@pytest.mark.parametrize("step", [step for step in VECTORISED + OTHERS if "expand" not in step.parameters], ids=name_of)
def test_a_seed_decides_the_draw_of_every_sample(step: Part) -> None:
    results = results_of(step, 1)
    assert torch.equal(results, results_of(step, 1))
    assert not torch.equal(results, results_of(step, 2))
    assert len({tuple(result.flatten().tolist()) for result in results}) > 1


@pytest.mark.parametrize("step", VECTORISED + OTHERS[:2], ids=name_of)
def test_augmenting_leaves_the_random_state_alone(step: Part) -> None:
    before = torch.get_rng_state()
    results_of(step, 1)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("step", VECTORISED, ids=name_of)
def test_what_is_vectorised_draws_from_its_own_seed_whatever_the_process_has_drawn(step: Part) -> None:
    assert not Augment([step]).draws_globally
    results = results_of(step, 1)
    torch.rand(7)
    assert torch.equal(results, results_of(step, 1))


@pytest.mark.parametrize("step", OTHERS, ids=name_of)
def test_what_is_not_vectorised_is_said_to_draw_globally(step: Part) -> None:
    assert Augment([step]).draws_globally
    assert Augment([part("RandomHorizontalFlip"), step]).draws_globally


def test_options_that_are_not_covered_go_through_torchvision() -> None:
    batch = torch.rand(30, 3, 6, 6)
    assert Augment([part("RandomRotation", degrees=[90, 90], expand=True)])(batch[:, :, :4], 0).shape == (30, 3, 6, 4)
    assert Augment([part("RandomCrop", size=4, padding=[-1, 0, 0, 0])])(batch, 0).shape == (30, 3, 4, 4)


def test_two_steps_of_one_kind_draw_apart() -> None:
    batch = torch.rand(200, 1, 2, 2)
    twice = Augment([part("RandomInvert"), part("RandomInvert")])(batch, 0)
    # With the same draws the second would undo the first everywhere.
    unchanged = torch.isclose(twice, batch).all((1, 2, 3)).sum().item()
    assert 50 < unchanged < 150


def test_no_steps_are_nothing() -> None:
    assert not Augment([])
    assert Augment([part("RandomHorizontalFlip")])
    assert Augment([])(BATCH, 0) is BATCH


def test_a_colour_jitter_without_parameters_changes_nothing() -> None:
    assert torch.equal(results_of(part("ColorJitter"), 0), BATCH)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
@pytest.mark.parametrize("step", VECTORISED, ids=name_of)
def test_a_gpu_is_not_waited_for_and_draws_what_the_cpu_draws(step: Part) -> None:
    raw = torch.randint(0, 256, (64, 3, 6, 6), dtype=torch.uint8)
    finish = Finish(fixed([part("Normalize", mean=[0.5], std=[0.25])]), Augment([step]))
    on_gpu = raw.cuda()
    finish.inputs(on_gpu, 0)  # the first sends the constants
    torch.cuda.set_sync_debug_mode("error")
    try:
        results = finish.inputs(on_gpu, 1)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    if step.name != "GaussianNoise" and step.parameters.get("value") != "random":  # these are drawn on the device
        differ = (results.cpu() - finish.inputs(raw, 1)).abs() > 1e-2
        assert differ.float().mean() < 0.01  # a nearest neighbour may fall to either side of a tie


def test_what_takes_bytes_alone_is_given_them_and_floats_come_back() -> None:
    pictures = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    changed = Augment([Part.model_validate({"name": "JPEG", "quality": 30})])(pictures, 0)
    assert changed.dtype == torch.float32
    assert 0.0 < float((changed - pictures).abs().mean()) < 0.3
    assert float(changed.max()) <= 1.0
