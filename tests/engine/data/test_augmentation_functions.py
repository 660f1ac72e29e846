"""With the same parameters every sample comes out as torchvision makes it of that sample alone."""

# B batch · C channels · H height · W width

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from engine.data.augmentation.augment import STEPS, Augment
from engine.data.augmentation.steps import Vectorised
from engine.recipe import Part

SHAPES = [(3, 16, 16), (1, 13, 18), (3, 19, 11)]
TYPES = [torch.float32, torch.float64]
ONE = [1.0]
Row = list[float]


def step_of(name: str, **parameters: Any) -> Vectorised:
    step = STEPS[name](getattr(v2, name)(**parameters))
    assert isinstance(step, Vectorised)
    return step


def pictures(shape: tuple[int, int, int], dtype: torch.dtype, count: int = 9) -> Tensor:
    return torch.rand(count, *shape, generator=torch.Generator().manual_seed(5), dtype=dtype)


def drawn_and_made(step: Vectorised, inputs: Tensor) -> tuple[list[Row], Tensor]:
    """The parameters of each sample, and what the step makes of the batch with them."""
    drawn = step.draw(len(inputs), inputs.shape[1:], torch.Generator().manual_seed(3))
    before = inputs.clone()
    results = step.apply(inputs, drawn)
    assert torch.equal(before, inputs), "a step must not write into what it is given"
    return drawn.tolist(), results


def same(ours: Tensor, theirs: Tensor, unlike: float = 0.0) -> bool:
    """Whether at most the share `unlike` of the values differ: nearest neighbours may fall to either side of a tie."""
    differ = (ours - theirs).abs() > 1e-4
    return ours.shape == theirs.shape and ours.dtype == theirs.dtype and differ.float().mean().item() <= unlike


def affine(sample: Tensor, row: Row, **options: Any) -> Tensor:
    angle, across, down, scale, *shear = row
    translate = [int(across), int(down)]
    return functional.affine(sample, angle, translate, scale, shear, **options)


def rotated(sample: Tensor, row: Row, **options: Any) -> Tensor:
    return functional.rotate(sample, row[0], **options)


def resized(sample: Tensor, row: Row, **options: Any) -> Tensor:
    return functional.resized_crop(sample, *map(int, row), **options)


def jittered(sample: Tensor, row: Row, *names: str) -> Tensor:
    factors, order = row[: len(names)], row[len(names) :]
    for number in map(int, order):
        sample = getattr(functional, f"adjust_{names[number]}")(sample, factors[number])
    return sample


AFFINE = {"degrees": 40, "translate": [0.2, 0.3], "scale": [0.6, 1.5], "shear": [-15, 15, -10, 20]}
GEOMETRY: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("RandomAffine", AFFINE, {}),
    ("RandomAffine", {**AFFINE, "shear": 20}, {"interpolation": "bilinear"}),
    ("RandomAffine", {"degrees": 0, "translate": [0.3, 0.3]}, {"fill": 0.4, "center": [3, 4]}),
    ("RandomAffine", AFFINE, {"interpolation": "bilinear", "fill": 0.7, "center": [2.0, 9.5]}),
    ("RandomRotation", {"degrees": [-170, 90]}, {}),
    ("RandomRotation", {"degrees": 60}, {"interpolation": "bilinear", "fill": [0.3]}),
    ("RandomRotation", {"degrees": 60}, {"interpolation": "bilinear", "fill": None, "center": [0, 0]}),
    ("RandomRotation", {"degrees": [90, 90]}, {"interpolation": "bilinear"}),
]


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("name", "drawn", "options"), GEOMETRY)
def test_each_sample_is_turned_as_torchvision_turns_it(
    name: str, drawn: dict[str, Any], options: dict[str, Any], shape: tuple[int, int, int], dtype: torch.dtype
) -> None:
    inputs = pictures(shape, dtype)
    rows, results = drawn_and_made(step_of(name, **drawn, **options), inputs)
    alone = {"RandomAffine": affine, "RandomRotation": rotated}[name]
    # torchvision's class fills with 0 where nothing is said, its function with nothing.
    options = {"fill": 0, **options}
    nearest = options.get("interpolation") != "bilinear"
    for sample, row, result in zip(inputs, rows, results, strict=True):
        assert same(result, alone(sample, row, **options), unlike=0.01 if nearest else 0)
    assert not same(results[0], alone(inputs[0], rows[1], **options), unlike=0.01) or rows[0] == rows[1]


def test_a_colour_to_fill_with_is_put_outside() -> None:
    inputs, fill = pictures((3, 12, 9), torch.float32), [0.1, 0.5, 0.9]
    rows, results = drawn_and_made(step_of("RandomAffine", degrees=45, fill=fill, interpolation="bilinear"), inputs)
    for sample, row, result in zip(inputs, rows, results, strict=True):
        assert same(result, affine(sample, row, fill=fill, interpolation="bilinear"))
    with pytest.raises(ValueError, match="3 values do not fit 1 channels"):
        step_of("RandomAffine", degrees=45, fill=fill)(inputs[:, :1], 0)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("antialias", [True, False])
@pytest.mark.parametrize("size", [[7, 9], [24, 20], [16, 16]])
def test_each_sample_is_cropped_and_resized_as_torchvision_does_it(
    size: list[int], antialias: bool, shape: tuple[int, int, int], dtype: torch.dtype
) -> None:
    inputs = pictures(shape, dtype)
    rows, results = drawn_and_made(step_of("RandomResizedCrop", size=size, antialias=antialias), inputs)
    for sample, row, result in zip(inputs, rows, results, strict=True):
        assert same(result, resized(sample, row, size=size, antialias=antialias))
    assert not same(results[0], resized(inputs[0], rows[1], size=size, antialias=antialias))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("value", [0.0, 0.3, "each"])
def test_each_sample_loses_a_rectangle_of_its_own(value: Any, shape: tuple[int, int, int]) -> None:
    value = [0.1, 0.5, 0.9][: shape[0]] if value == "each" else value
    inputs = pictures(shape, torch.float32, 40)
    rows, results = drawn_and_made(step_of("RandomErasing", p=0.7, value=value), inputs)
    given = torch.tensor(value).view(-1, 1, 1)
    for sample, row, result in zip(inputs, rows, results, strict=True):
        assert torch.equal(result, functional.erase(sample, *map(int, row), v=given))
    assert sum(row[2] > 0 and row[3] > 0 for row in rows) in range(20, 38)


def test_what_is_erased_with_noise_is_normal_and_the_rest_stays() -> None:
    inputs = torch.full((400, 1, 16, 16), 9.0)
    results = Augment([Part(name="RandomErasing", p=1, value="random")])(inputs, 4)
    noise = results[results != 9]
    assert 0.05 < len(noise) / inputs.numel() < 0.3
    assert noise.mean().item() == pytest.approx(0, abs=5 / len(noise) ** 0.5)
    assert noise.std().item() == pytest.approx(1, abs=0.05)


JITTER = {"brightness": 0.6, "contrast": 0.7, "saturation": 0.8, "hue": 0.4}


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    "names", [(name,) for name in JITTER] + [("brightness", "contrast"), ("contrast", "hue"), tuple(JITTER)], ids=str
)
def test_each_sample_gets_its_own_factors_in_its_own_order(
    names: tuple[str, ...], shape: tuple[int, int, int], dtype: torch.dtype
) -> None:
    inputs = pictures(shape, dtype, 40)
    inputs[0] = 0.5  # grey has no hue
    rows, results = drawn_and_made(step_of("ColorJitter", **{name: JITTER[name] for name in names}), inputs)
    for sample, row, result in zip(inputs, rows, results, strict=True):
        assert same(result, jittered(sample, row, *names))
    if len(names) > 1 and shape[0] == 3:  # another order gives other pictures, at least where something is clipped
        other = [[*row[: len(names)], *reversed(row[len(names) :])] for row in rows]
        made = [jittered(sample, row, *names) for sample, row in zip(inputs, other, strict=True)]
        assert not same(results, torch.stack(made))


CHOSEN: list[tuple[str, dict[str, Any], Callable[[Tensor], Tensor]]] = [
    ("RandomInvert", {}, functional.invert),
    ("RandomSolarize", {"threshold": 0.6}, lambda sample: functional.solarize(sample, 0.6)),
    ("RandomPosterize", {"bits": 3}, lambda sample: functional.posterize(sample, 3)),
    ("RandomAutocontrast", {}, functional.autocontrast),
    ("RandomEqualize", {}, functional.equalize),
    ("RandomAdjustSharpness", {"sharpness_factor": 1.7}, lambda sample: functional.adjust_sharpness(sample, 1.7)),
    ("RandomGrayscale", {}, lambda sample: functional.rgb_to_grayscale(sample, len(sample))),
]


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("name", "parameters", "alone"), CHOSEN, ids=[name for name, *_ in CHOSEN])
def test_the_chosen_samples_are_changed_and_the_others_stay(
    name: str,
    parameters: dict[str, Any],
    alone: Callable[[Tensor], Tensor],
    shape: tuple[int, int, int],
    dtype: torch.dtype,
) -> None:
    inputs = pictures(shape, dtype, 30) * 0.8  # not the whole range: autocontrast has something to do
    rows, results = drawn_and_made(step_of(name, p=0.5, **parameters), inputs)
    for sample, row, result in zip(inputs, rows, results, strict=True):
        assert same(result, alone(sample) if row[0] else sample)
    assert 5 < sum(row[0] for row in rows) < 25


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("size", [[3, 3], [5, 7]])
def test_each_sample_is_blurred_by_a_width_of_its_own(
    size: list[int], shape: tuple[int, int, int], dtype: torch.dtype
) -> None:
    inputs = pictures(shape, dtype)
    rows, results = drawn_and_made(step_of("GaussianBlur", kernel_size=size, sigma=[0.3, 3.0]), inputs)
    for sample, (sigma,), result in zip(inputs, rows, results, strict=True):
        assert same(result, functional.gaussian_blur(sample, size, [sigma, sigma]))
    assert not same(results[0], functional.gaussian_blur(inputs[0], size, [rows[1][0]] * 2))


@pytest.mark.parametrize("shape", SHAPES)
def test_the_channels_of_each_sample_are_shuffled(shape: tuple[int, int, int]) -> None:
    inputs = pictures(shape, torch.float32)
    rows, results = drawn_and_made(step_of("RandomChannelPermutation"), inputs)
    for sample, row, result in zip(inputs, rows, results, strict=True):
        assert torch.equal(result, functional.permute_channels(sample, [int(number) for number in row]))
    assert shape[0] == 1 or len(set(map(tuple, rows))) > 1


def test_pictures_of_two_channels_are_refused_as_torchvision_refuses_them() -> None:
    with pytest.raises(TypeError, match="channel values are 1 or 3, but found 2"):
        step_of("ColorJitter", brightness=0.5)(torch.rand(4, 2, 5, 5), 0)
