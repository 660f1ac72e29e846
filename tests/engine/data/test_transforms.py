"""Fixed transforms are the same for every sample; augmentation draws anew for each."""

# B batch · C channels · H height · W width

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from engine.data.transforms import Augment, Standardize, fixed, is_random, transforms
from engine.errors import RecipeError
from engine.recipe import Part


def part(name: str, **parameters: Any) -> Part:
    return Part(name=name, **parameters)


def augment(name: str, **parameters: Any) -> Augment:
    return Augment([part(name, **parameters)])


# One picture of which every pixel is another, many times.
PICTURE = torch.arange(1, 1 + 3 * 6 * 6, dtype=torch.float32).reshape(3, 6, 6) / 200
MANY = PICTURE.expand(2000, 3, 6, 6)


def which(results: Tensor, possible: list[Tensor]) -> list[int]:
    """Of each result the number of the possible one that it is; -1 for none."""
    return [next((i for i, each in enumerate(possible) if torch.equal(result, each)), -1) for result in results]


def is_uniform(chosen: list[int], of: int) -> bool:
    """A chi-square test at about five standard deviations."""
    expected = len(chosen) / of
    counts = Counter(chosen)
    statistic = sum((counts[i] - expected) ** 2 / expected for i in range(of))
    return statistic <= of - 1 + 5 * (2 * (of - 1)) ** 0.5


CROPS = [
    ({"size": 4}, 0, (4, 4)),
    ({"size": [3, 5]}, 0, (3, 5)),
    ({"size": 6, "padding": 1}, 1, (6, 6)),
    ({"size": 6}, 0, (6, 6)),
]


@pytest.mark.parametrize(("parameters", "padding", "size"), CROPS)
def test_each_sample_gets_one_of_the_possible_crops_all_of_them_equally_often(
    parameters: dict[str, Any], padding: int, size: tuple[int, int]
) -> None:
    padded = F.pad(PICTURE, [padding] * 4)
    height, width = size
    possible = [
        padded[:, top : top + height, left : left + width]
        for top in range(padded.shape[1] - height + 1)
        for left in range(padded.shape[2] - width + 1)
    ]
    chosen = which(augment("RandomCrop", **parameters)(MANY, 0), possible)
    assert -1 not in chosen
    assert is_uniform(chosen, len(possible))


def test_a_crop_that_is_not_uniform_would_be_noticed() -> None:
    assert not is_uniform([0] * 1000 + [1] * 500, 2)
    assert which(PICTURE.flip(-1)[None], [PICTURE]) == [-1]


@pytest.mark.parametrize("padding", [[1, 2], [0, 1, 2, 3]])
def test_sides_may_be_padded_differently(padding: list[int]) -> None:
    # torchvision says left, top, right, bottom; two numbers are left/right and top/bottom.
    left, top, right, bottom = padding if len(padding) == 4 else padding * 2
    padded = F.pad(PICTURE, [left, right, top, bottom])
    possible = [
        padded[:, row : row + 6, column : column + 6]
        for row in range(top + bottom + 1)
        for column in range(left + right + 1)
    ]
    chosen = which(augment("RandomCrop", size=6, padding=padding)(MANY[:500], 0), possible)
    assert set(chosen) == set(range(len(possible)))


@pytest.mark.parametrize(("name", "dimension"), [("RandomHorizontalFlip", -1), ("RandomVerticalFlip", -2)])
@pytest.mark.parametrize("probability", [0.0, 0.3, 1.0])
def test_each_sample_is_flipped_or_not(name: str, dimension: int, probability: float) -> None:
    chosen = which(augment(name, p=probability)(MANY, 0), [PICTURE, PICTURE.flip(dimension)])
    assert -1 not in chosen
    assert sum(chosen) / len(chosen) == pytest.approx(probability, abs=0.04)


def test_a_crop_with_another_filling_is_drawn_sample_by_sample() -> None:
    results = augment("RandomCrop", size=6, padding=2, padding_mode="reflect")(MANY[:30], 0)
    assert results.shape == (30, 3, 6, 6)
    assert (results > 0).all()  # no black border
    assert len({tuple(result.flatten().tolist()) for result in results}) > 5


STEPS = [
    part("RandomCrop", size=4),
    part("RandomHorizontalFlip"),
    part("RandomVerticalFlip"),
    part("ColorJitter", brightness=0.5, contrast=0.5),
    part("RandomRotation", degrees=30),
    part("RandomErasing", p=0.5),
    part("GaussianNoise", sigma=0.2),
    part("RandomResizedCrop", size=4),
]


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.name)
def test_a_seed_decides_the_draw_of_every_sample(step: Part) -> None:
    make = Augment([step])
    batch = MANY[:40]
    results = make(batch, 1)
    assert torch.equal(results, make(batch, 1))
    assert not torch.equal(results, make(batch, 2))
    assert len({tuple(result.flatten().tolist()) for result in results}) > 1


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.name)
def test_augmenting_leaves_the_random_state_alone(step: Part) -> None:
    before = torch.get_rng_state()
    Augment([step])(MANY[:4], 1)
    assert torch.equal(before, torch.get_rng_state())


def test_two_steps_of_one_kind_draw_apart() -> None:
    twice = Augment([part("RandomHorizontalFlip"), part("RandomHorizontalFlip")])(MANY[:200], 0)
    # With the same draws the second flip would undo the first everywhere.
    assert 50 < sum(which(twice, [PICTURE, PICTURE.flip(-1)])) < 150


def test_no_steps_are_nothing() -> None:
    assert not Augment([])
    assert augment("RandomHorizontalFlip")


@pytest.mark.parametrize(
    "name", ["RandomCrop", "ColorJitter", "AutoAugment", "RandomErasing", "GaussianNoise", "MixUp"]
)
def test_what_draws_is_no_fixed_transform(name: str) -> None:
    assert is_random(transforms()[name])
    needed = {"RandomCrop": {"size": 3}}.get(name, {})
    with pytest.raises(RecipeError, match=rf"data\.transforms\.0: {name} draws at random\. Put it into data\.augment"):
        fixed([part(name, **needed)])


@pytest.mark.parametrize("name", ["Normalize", "Resize", "CenterCrop", "Grayscale", "Pad", "Standardize"])
def test_what_draws_nothing_is_no_augmentation(name: str) -> None:
    needed = {
        "Normalize": {"mean": [0.5], "std": [0.5]},
        "Resize": {"size": 3},
        "CenterCrop": {"size": 3},
        "Pad": {"padding": 1},
    }
    with pytest.raises(RecipeError, match=rf"data\.augment\.0: {name} draws nothing\. Put it into data\.transforms"):
        augment(name, **needed.get(name, {}))


def test_fixed_transforms_treat_all_samples_alike() -> None:
    normalize, pad = fixed([part("Normalize", mean=[0.1, 0.2, 0.3], std=[0.5, 0.5, 0.5]), part("Pad", padding=2)])
    assert torch.allclose(normalize(MANY[:2])[1], (PICTURE - torch.tensor([0.1, 0.2, 0.3]).view(3, 1, 1)) / 0.5)
    assert pad(MANY[:2]).shape == (2, 3, 10, 10)


def test_an_unknown_transform_or_parameter_is_named() -> None:
    with pytest.raises(
        RecipeError, match=r"data\.transforms\.1\.name: torch has no transform 'Normalise' .*'Normalize'"
    ):
        fixed([part("Grayscale"), part("Normalise")])
    with pytest.raises(RecipeError, match=r"data\.augment\.0\.pading: is not a parameter of RandomCrop.*'padding'"):
        augment("RandomCrop", size=3, pading=2)
    with pytest.raises(RecipeError, match=r"data\.transforms\.0\.mean: 'grey' is not"):
        fixed([part("Normalize", mean="grey", std=[1.0])])


def test_only_transforms_that_a_recipe_can_write_down_are_offered() -> None:
    assert {"Lambda", "Compose", "RandomApply", "RandomChoice", "Transform"}.isdisjoint(transforms())
    assert len(transforms()) > 40


def test_standardized_columns_have_mean_0_and_deviation_1() -> None:
    inputs = torch.randn(500, 3) * torch.tensor([1.0, 100.0, 0.01]) + torch.tensor([0.0, 5000.0, -1.0])
    standardize = Standardize()
    standardize.fit(inputs)
    results = standardize(inputs)
    assert torch.allclose(results.mean(0), torch.zeros(3), atol=1e-4)
    assert torch.allclose(results.std(0, correction=0), torch.ones(3), atol=1e-4)


def test_a_constant_column_is_centred_and_keeps_its_scale() -> None:
    standardize = Standardize()
    standardize.fit(torch.full((10, 1), 7.0))
    assert standardize(torch.tensor([[7.0], [9.0]])).tolist() == [[0.0], [2.0]]
