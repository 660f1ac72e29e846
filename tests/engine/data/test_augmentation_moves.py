"""Flips and crops: each sample's own, every outcome as likely, bytes or floats, one step or many in one gather."""

# C channels · H height · W width

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from engine.data.augmentation.augment import Augment
from engine.data.serving.batches import Finish
from engine.data.transforms import fixed
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


def windows(padded: Tensor, height: int, width: int) -> list[Tensor]:
    return [
        padded[:, top : top + height, left : left + width]
        for top in range(padded.shape[1] - height + 1)
        for left in range(padded.shape[2] - width + 1)
    ]


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
    possible = windows(F.pad(PICTURE, [padding] * 4), *size)
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
    possible = windows(F.pad(PICTURE, [left, right, top, bottom]), 6, 6)
    chosen = which(augment("RandomCrop", size=6, padding=padding)(MANY[:500], 0), possible)
    assert set(chosen) == set(range(len(possible)))


FILLED: list[dict[str, Any]] = [
    {"padding_mode": "reflect"},
    {"padding_mode": "symmetric"},
    {"padding_mode": "edge"},
    {"fill": 0.5},
    {"fill": [0.125, 0.25, 0.75]},
    {"fill": [0.7]},
]


@pytest.mark.parametrize("filled", FILLED, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [(6, 6), (7, 4)])
def test_what_lies_beyond_the_border_is_torchvisions(
    filled: dict[str, Any], dtype: torch.dtype, size: tuple[int, int]
) -> None:
    picture = PICTURE.to(dtype)
    possible = windows(functional.pad(picture, [3, 2, 1, 4], **filled), *size)
    make = augment("RandomCrop", size=list(size), padding=[3, 2, 1, 4], **filled)
    chosen = which(make(picture.expand(600, 3, 6, 6), 0), possible)
    assert not make.draws_globally
    assert set(chosen) == set(range(len(possible)))


@pytest.mark.parametrize("padding", [None, 1])
def test_a_sample_that_is_too_small_is_padded_if_asked_to(padding: int | None) -> None:
    parameters: dict[str, Any] = {"size": [9, 5], "padding": padding, "pad_if_needed": True}
    parameters = {name: value for name, value in parameters.items() if value is not None}
    transform = v2.RandomCrop(**parameters)
    around = transform.make_params([PICTURE])["padding"]
    possible = windows(functional.pad(PICTURE, around), 9, 5)
    assert set(which(augment("RandomCrop", **parameters)(MANY[:800], 0), possible)) == set(range(len(possible)))


def test_a_sample_that_is_too_small_is_refused() -> None:
    with pytest.raises(ValueError, match=r"crop size \(9, 5\) is larger than padded input image size \(8, 8\)"):
        augment("RandomCrop", size=[9, 5], padding=1)(MANY[:2], 0)
    with pytest.raises(ValueError, match="too large to reflect 6 pixels"):
        augment("RandomCrop", size=6, padding=6, padding_mode="reflect")(MANY[:2], 0)


@pytest.mark.parametrize(("name", "dimension"), [("RandomHorizontalFlip", -1), ("RandomVerticalFlip", -2)])
@pytest.mark.parametrize("probability", [0.0, 0.3, 1.0])
def test_each_sample_is_flipped_or_not(name: str, dimension: int, probability: float) -> None:
    chosen = which(augment(name, p=probability)(MANY, 0), [PICTURE, PICTURE.flip(dimension)])
    assert -1 not in chosen
    assert sum(chosen) / len(chosen) == pytest.approx(probability, abs=0.04)


def test_two_steps_of_one_kind_draw_apart() -> None:
    twice = Augment([part("RandomHorizontalFlip"), part("RandomHorizontalFlip")])(MANY[:200], 0)
    # With the same draws the second flip would undo the first everywhere.
    assert 50 < sum(which(twice, [PICTURE, PICTURE.flip(-1)])) < 150


CROP_AND_FLIP = [part("RandomCrop", size=5, padding=2), part("RandomHorizontalFlip"), part("RandomVerticalFlip")]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_moves_in_one_gather_are_those_one_after_the_other(seed: int) -> None:
    """What lies outside of the first crop is still outside after the second."""
    steps = [*CROP_AND_FLIP, part("RandomCrop", size=[6, 7], padding=2), part("RandomHorizontalFlip")]
    still = part("RandomInvert", p=0)  # keeps a step's place in the recipe, by which it gets its seed
    batch = torch.rand(50, 3, 6, 8)
    alone = batch
    for index, step in enumerate(steps):
        alone = Augment([still] * index + [step])(alone, seed)
    assert torch.equal(Augment(steps)(batch, seed), alone)
    assert not torch.equal(Augment([still, *steps])(batch, seed), alone)


def test_fillings_that_differ_are_not_mixed() -> None:
    steps = [part("RandomCrop", size=6, padding=6, fill=0.25), part("RandomCrop", size=18, padding=6, fill=0.75)]
    values = set(Augment(steps)(torch.zeros(50, 1, 6, 6), 0).unique().tolist())
    assert values == {0.0, 0.25, 0.75}


NORMALIZE = part("Normalize", mean=[0.49, 0.48, 0.45], std=[0.25, 0.24, 0.26])


@pytest.mark.parametrize(
    "steps",
    [
        CROP_AND_FLIP,
        [part("RandomCrop", size=5, padding=2, padding_mode="reflect")],
        [part("RandomCrop", size=5, padding=2, fill=0.5), part("RandomHorizontalFlip")],
        [*CROP_AND_FLIP, part("ColorJitter", brightness=0.5), part("RandomVerticalFlip")],
        [part("RandomPerspective")],
    ],
    ids=lambda steps: "+".join(step.name for step in steps),
)
def test_bytes_that_are_moved_before_they_become_floats_are_the_same_floats(steps: list[Part]) -> None:
    raw = torch.randint(0, 256, (40, 3, 6, 6), dtype=torch.uint8)
    before = raw.clone()
    finish = Finish(fixed([NORMALIZE]), Augment(steps))
    later = v2.Normalize(**NORMALIZE.parameters)(Augment(steps)(raw.float() / 255, 7))
    assert torch.equal(finish.inputs(raw, 7), later)
    assert torch.equal(raw, before)
    assert not torch.equal(finish.inputs(raw, 8), later)


@pytest.mark.parametrize("steps", [[], [part("RandomHorizontalFlip", p=0)], [part("RandomInvert", p=0)]])
def test_a_dataset_of_floats_is_not_written_into(steps: list[Part]) -> None:
    dataset = torch.rand(8, 3, 6, 6)
    before = dataset.clone()
    results = Finish(fixed([NORMALIZE]), Augment(steps)).inputs(dataset, 0)
    assert torch.equal(dataset, before)
    assert torch.equal(results, v2.Normalize(**NORMALIZE.parameters)(before))


def test_grey_bytes_become_coloured_by_three_means() -> None:
    raw = torch.randint(0, 256, (4, 1, 6, 6), dtype=torch.uint8)
    results = Finish(fixed([NORMALIZE])).inputs(raw)
    assert torch.equal(results, v2.Normalize(**NORMALIZE.parameters)(raw.float() / 255))
    assert results.shape == (4, 3, 6, 6)
