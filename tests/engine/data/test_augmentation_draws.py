"""What is drawn for the samples of a batch is distributed as torchvision's draws, one call a sample."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from engine.data.augmentation.augment import STEPS, Augment
from engine.data.augmentation.steps import Vectorised
from engine.recipe import Part

COUNT = 3000
SHAPE = (3, 32, 45)
PICTURE = torch.zeros(SHAPE)
Row = list[float]


def alike(ours: np.ndarray, theirs: np.ndarray) -> bool:
    """A two-sample Kolmogorov–Smirnov test of each column and of each product of two, at five standard deviations.

    The products show whether the columns depend on each other alike. For whole numbers the test is stricter still.
    """
    centre = theirs.mean(0)
    pairs = [(ours[:, i], theirs[:, i]) for i in range(ours.shape[1])]
    for i, j in itertools.combinations(range(ours.shape[1]), 2):
        pairs.append(tuple((rows[:, i] - centre[i]) * (rows[:, j] - centre[j]) for rows in (ours, theirs)))
    return all(_distance(*pair) <= _limit(*map(len, pair)) for pair in pairs)


def _distance(first: np.ndarray, second: np.ndarray) -> float:
    # Rounded: numbers that differ by the last bit of a float32 are the same draw.
    first, second = np.sort(np.round(first, 5)), np.sort(np.round(second, 5))
    both = np.concatenate((first, second))
    shares = [np.searchsorted(each, both, side="right") / len(each) for each in (first, second)]
    return float(np.abs(shares[0] - shares[1]).max())


def _limit(first: int, second: int) -> float:
    chance = 5.7e-7  # outside of five standard deviations
    return float(np.sqrt(-np.log(chance / 2) / 2 * (first + second) / (first * second)))


def our_draws(name: str, parameters: dict[str, Any], seed: int = 0, count: int = COUNT) -> np.ndarray:
    step = STEPS[name](getattr(v2, name)(**parameters))
    assert isinstance(step, Vectorised)
    drawn = step.draw(count, torch.Size(SHAPE), torch.Generator().manual_seed(seed))
    assert drawn.device.type == "cpu"
    return drawn.double().numpy()


def their_draws(transform: Any, row: Callable[[Any, dict[str, Any]], Row]) -> np.ndarray:
    before = torch.get_rng_state()
    torch.manual_seed(1)
    rows = [row(transform, transform.make_params([PICTURE])) for _ in range(COUNT)]
    torch.set_rng_state(before)
    return np.array(rows, dtype=float)


def affine(transform: Any, drawn: dict[str, Any]) -> Row:
    return [drawn["angle"], *drawn["translate"], drawn["scale"], *drawn["shear"]]


def rectangle(transform: Any, drawn: dict[str, Any]) -> Row:
    return [drawn["top"], drawn["left"], drawn["height"], drawn["width"]]


def erased(transform: Any, drawn: dict[str, Any]) -> Row:
    if torch.rand(1) >= transform.p or drawn["v"] is None:
        return [0.0] * 4
    return [drawn["i"], drawn["j"], drawn["h"], drawn["w"]]


def jitter(transform: Any, drawn: dict[str, Any]) -> Row:
    names = [name for name in ("brightness", "contrast", "saturation", "hue") if getattr(transform, name) is not None]
    numbers = [("brightness", "contrast", "saturation", "hue").index(name) for name in names]
    order = [numbers.index(int(number)) for number in drawn["fn_idx"] if int(number) in numbers]
    return [*(drawn[f"{name}_factor"] for name in names), *order]


def whether(transform: Any, drawn: dict[str, Any]) -> Row:
    return [float(torch.rand(1) < transform.p)]


AFFINE = {"degrees": [-20, 50], "translate": [0.2, 0.3], "scale": [0.7, 1.4], "shear": [-10, 20, -5, 15]}
ERASING = {"p": 0.7, "scale": [0.1, 0.8], "ratio": [0.2, 4.0]}
CASES: list[tuple[str, dict[str, Any], Callable[[Any, dict[str, Any]], Row]]] = [
    ("RandomAffine", AFFINE, affine),
    ("RandomAffine", {"degrees": 10, "shear": 5}, affine),
    ("RandomRotation", {"degrees": 30}, lambda transform, drawn: [drawn["angle"]]),
    ("RandomResizedCrop", {"size": 8}, rectangle),
    ("RandomResizedCrop", {"size": 8, "scale": [0.5, 1.0], "ratio": [1.3, 3.0]}, rectangle),  # many do not fit
    ("RandomResizedCrop", {"size": 8, "scale": [0.9, 1.0], "ratio": [2.0, 3.0]}, rectangle),  # none does: the middle
    ("RandomErasing", {}, erased),
    ("RandomErasing", ERASING, erased),
    ("ColorJitter", {"brightness": 0.5, "contrast": 0.4, "saturation": [0.5, 3], "hue": 0.2}, jitter),
    ("ColorJitter", {"contrast": 2, "hue": [-0.1, 0.4]}, jitter),
    ("RandomGrayscale", {"p": 0.2}, whether),
    ("RandomInvert", {}, whether),
    ("GaussianBlur", {"kernel_size": 3, "sigma": [0.5, 2]}, lambda transform, drawn: drawn["sigma"][:1]),
    ("RandomChannelPermutation", {}, lambda transform, drawn: drawn["permutation"].tolist()),
]


@pytest.mark.parametrize(("name", "parameters", "row"), CASES)
def test_the_parameters_have_torchvisions_distribution(name: str, parameters: dict[str, Any], row: Any) -> None:
    assert alike(our_draws(name, parameters), their_draws(getattr(v2, name)(**parameters), row))


OTHERS: list[tuple[str, dict[str, Any], dict[str, Any], Any]] = [
    ("RandomAffine", AFFINE, {**AFFINE, "scale": [0.7, 1.3]}, affine),
    ("RandomAffine", AFFINE, {**AFFINE, "translate": [0.2, 0.25]}, affine),
    ("RandomResizedCrop", {"size": 8}, {"size": 8, "ratio": [0.9, 1.1]}, rectangle),
    ("RandomErasing", ERASING, {**ERASING, "p": 0.6}, erased),
    ("ColorJitter", {"brightness": 0.5}, {"brightness": 0.6}, jitter),
]


@pytest.mark.parametrize(("name", "parameters", "other", "row"), OTHERS)
def test_a_slightly_different_distribution_would_be_noticed(
    name: str, parameters: dict[str, Any], other: dict[str, Any], row: Any
) -> None:
    assert not alike(our_draws(name, parameters), their_draws(getattr(v2, name)(**other), row))


def test_columns_that_depend_on_each_other_otherwise_would_be_noticed() -> None:
    ours = our_draws("RandomResizedCrop", {"size": 8})
    theirs = ours.copy()
    theirs[:, 3] = np.random.default_rng(0).permutation(theirs[:, 3])  # widths that do not go with the heights
    assert not alike(ours, theirs)


@pytest.mark.parametrize(("name", "parameters", "row"), CASES)
def test_each_sample_draws_for_itself_and_again_the_same(name: str, parameters: dict[str, Any], row: Any) -> None:
    drawn = our_draws(name, parameters)
    assert np.array_equal(drawn, our_draws(name, parameters))
    moving = drawn[:, drawn.std(0) > 0]
    if not moving.size:
        return  # always the middle
    assert not np.array_equal(drawn, our_draws(name, parameters, seed=1))
    neighbours = [np.corrcoef(column[:-1], column[1:])[0, 1] for column in moving.T]
    assert np.abs(neighbours).max() < 5 / np.sqrt(COUNT)


def test_every_order_of_the_colours_is_drawn_equally_often() -> None:
    drawn = our_draws("ColorJitter", {"brightness": 0.5, "contrast": 0.4, "saturation": 0.3, "hue": 0.2}, count=24_000)
    counts = np.unique(drawn[:, 4:], axis=0, return_counts=True)[1]
    assert len(counts) == 24
    assert ((counts - 1000) ** 2 / 1000).sum() < 23 + 5 * np.sqrt(46)


@pytest.mark.parametrize("clip", [True, False])
def test_noise_is_distributed_as_torchvisions(clip: bool) -> None:
    inputs = torch.full((20, 1, 10, 15), 0.8)
    parameters: dict[str, Any] = {"mean": 0.05, "sigma": 0.2, "clip": clip}
    ours = Augment([Part(name="GaussianNoise", **parameters)])(inputs, 0)
    torch.manual_seed(0)
    theirs = functional.gaussian_noise(inputs, **parameters)
    other = functional.gaussian_noise(inputs, **{**parameters, "mean": 0.1})
    columns = [each.reshape(-1, 1).numpy() for each in (ours, theirs, other)]
    assert alike(columns[0], columns[1])
    assert not alike(columns[0], columns[2])
    assert not torch.equal(ours[0], ours[1])
