"""Which transforms a recipe can name, and that fixed ones are the same for every sample."""

# B batch · C channels · H height · W width

from __future__ import annotations

import inspect
import subprocess
import sys
from typing import Any

import pytest
import torch
from torchvision.transforms import v2

from engine.data.augmentation.augment import Augment
from engine.data.transforms import Normalize, Standardize, fixed, is_random, transforms
from engine.errors import RecipeError
from engine.recipe import Part


def part(name: str, **parameters: Any) -> Part:
    return Part(name=name, **parameters)


def augment(name: str, **parameters: Any) -> Augment:
    return Augment([part(name, **parameters)])


# One picture of which every pixel is another, many times.
PICTURE = torch.arange(1, 1 + 3 * 6 * 6, dtype=torch.float32).reshape(3, 6, 6) / 200
MANY = PICTURE.expand(2000, 3, 6, 6)


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


OWN = [name for name, entry in transforms().items() if entry.target.__module__.startswith("engine.")]


@pytest.mark.parametrize("name", sorted(set(OWN) & set(vars(v2))))
def test_our_own_transforms_take_what_torchvisions_take(name: str) -> None:
    """So a release of torchvision that adds a parameter is noticed here."""
    ours, theirs = (
        {
            parameter.name: tuple(parameter.default) if isinstance(parameter.default, list) else parameter.default
            for parameter in inspect.signature(target).parameters.values()
            if parameter.name != "inplace" and parameter.kind is not parameter.VAR_POSITIONAL
        }
        for target in (transforms()[name].target, getattr(v2, name))
    )
    assert ours == theirs
    assert list(ours) == list(theirs)


def test_a_recipe_that_only_normalises_and_flips_does_not_import_torchvision() -> None:
    program = """
import sys
from engine.data.augmentation.augment import Augment
from engine.data.transforms import fixed
from engine.recipe import Part
fixed([Part(name="Normalize", mean=[0.5], std=[0.5])])
Augment([Part(name="RandomHorizontalFlip"), Part(name="RandomErasing")])
assert "torchvision" not in sys.modules
fixed([Part(name="Grayscale")])
assert "torchvision" in sys.modules, "or the assertion before says nothing"
"""
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("shape", [(5, 3, 7, 9), (3, 4, 4), (2, 5, 1, 6, 6), (4, 3, 0, 2)])
@pytest.mark.parametrize(("mean", "std"), [([0.491, 0.482, 0.447], [0.247, 0.243, 0.262]), ([0.13], [0.31])])
def test_normalised_values_are_torchvisions_to_the_last_bit(
    mean: list[float], std: list[float], shape: tuple[int, ...], dtype: torch.dtype
) -> None:
    inputs = torch.rand(shape).to(dtype)
    before = inputs.clone()
    expected = v2.Normalize(mean, std)(inputs)
    ours = Normalize(mean, std)
    for _ in range(2):  # the second time with the constants that were kept
        assert torch.equal(ours(inputs), expected)
        assert torch.equal(ours(inputs.double()), v2.Normalize(mean, std)(inputs.double()))
    assert torch.equal(inputs, before)
    assert ours(inputs).dtype == dtype
    assert torch.equal(ours.in_place(inputs), expected)


def test_normalize_refuses_what_torchvisions_refuses() -> None:
    ours = Normalize([0.5], [0.5])
    with pytest.raises(TypeError, match=r"should be a float tensor\. Got torch\.uint8"):
        ours(torch.zeros(1, 2, 2, dtype=torch.uint8))
    with pytest.raises(ValueError, match="Expected tensor to be a tensor image"):
        ours(torch.zeros(2, 2))
    with pytest.raises(RecipeError, match=r"data\.transforms\.0: Normalize refuses its parameters: std .* zero"):
        fixed([part("Normalize", mean=[0.5, 0.5], std=[0.5, 0.0])])


@pytest.mark.parametrize(
    ("name", "parameters", "complaint"),
    [
        ("RandomHorizontalFlip", {"p": 1.5}, r"`p` should be .* \[0\.0, 1\.0\]"),
        ("RandomErasing", {"p": -1}, r"`p` should be"),
        ("RandomErasing", {"scale": [0.5, 1.5]}, "Scale should be between 0 and 1"),
        ("RandomErasing", {"ratio": [3.0, 1.0]}, "ratio should be two numbers, the lesser first"),
        ("RandomErasing", {"ratio": [0, 1.0]}, "ratio should be above 0"),
        ("RandomErasing", {"value": "rnd"}, "'rnd' is not"),
    ],
)
def test_values_out_of_range_are_refused(name: str, parameters: dict[str, Any], complaint: str) -> None:
    with pytest.raises(RecipeError, match=complaint):
        augment(name, **parameters)
