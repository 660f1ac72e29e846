"""All of torchvision.transforms.v2: each changes pictures as the recipe says, or is refused with the reason."""

# B batch · C channels · H height · W width

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torchvision.transforms import v2

from engine.check import check
from engine.data.augmentation.augment import Augment
from engine.data.preview import View, before_after, fitting
from engine.data.preview.fitting import _TRIED
from engine.data.serving.mixing import Mixing
from engine.data.transforms import draws, fixed, transforms
from engine.data.transforms.unfit import VARYING, unfit
from engine.errors import DataError, RecipeError
from engine.recipe import Part, Recipe, steps_name_files
from engine.recipe.parts import HOLDERS

ALL = sorted(
    name
    for name, target in vars(v2).items()
    if isinstance(target, type) and issubclass(target, v2.Transform) and target is not v2.Transform
)
FOR_PICTURES = [name for name in ALL if unfit(transforms()[name]) is None]
FLIP = {"name": "RandomHorizontalFlip"}
OWN = """
def darker(pictures):
    pictures *= 0.5
    return pictures

def first(pictures):
    return pictures[:1]

def whole(pictures):
    return (pictures * 255).byte()

def broken(pictures):
    return {}["depth"]

def number(pictures):
    return 5
"""


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A recipe's folder with functions and whitening of the person's own."""
    (tmp_path / "own.py").write_text(OWN)
    generator = torch.Generator().manual_seed(0)
    matrix, mean = torch.rand(48, 48, generator=generator), torch.rand(48, generator=generator)
    np.savez(tmp_path / "white.npz", transformation_matrix=matrix.numpy(), mean_vector=mean.numpy())
    np.save(tmp_path / "mean.npy", mean.numpy())
    torch.save({"transformation_matrix": matrix}, tmp_path / "matrix.pt")
    return tmp_path


def needed(name: str, own: Path) -> dict[str, Any]:
    """Values for what the transform must be given."""
    if name in HOLDERS:
        return {"transforms": [FLIP]}
    if name == "ElasticTransform":
        return {"sigma": 0.5}  # its filter is as wide as eight of them, and may not be wider than the picture
    known = {
        **_TRIED,
        "lambd": f"{own}/own.py:darker",
        "transformation_matrix": f"{own}/white.npz",
        "mean_vector": f"{own}/white.npz",
        "quality": 50,
        "size": [4, 4],
    }
    return {each.name: known[each.name] for each in transforms()[name].parameters if each.required}


@pytest.mark.parametrize("name", FOR_PICTURES)
@pytest.mark.filterwarnings("ignore")
def test_what_is_for_pictures_makes_a_batch_of_floats(name: str, own: Path) -> None:
    part = Part.model_validate({"name": name, **needed(name, own)})
    if name in VARYING:
        with pytest.raises(RecipeError, match="gives each sample a size of its own"):
            Augment([part])
        part = Part(name="Compose", transforms=[part.model_dump(), {"name": "Resize", "size": [4, 4]}])
    batch = torch.rand(5, 3, 4, 4, generator=torch.Generator().manual_seed(1))
    if name in ("MixUp", "CutMix"):
        made, _ = Mixing([part], 10)(batch, torch.arange(5), 0)
    else:
        made = Augment([part])(batch, 0) if draws(part, "here") else fixed([part])[0](batch)
    assert made.shape == (5, 1 if name == "Grayscale" else 3, *((6, 6) if name == "Pad" else (4, 4)))
    assert made.dtype == torch.float32


def test_what_is_not_is_refused_with_the_reason_and_the_rest_is_offered(own: Path) -> None:
    refused = sorted(set(ALL) - set(FOR_PICTURES))
    assert {"FiveCrop", "TenCrop", "ToImage", "ToDtype", "ClampBoundingBoxes", "UniformTemporalSubsample"} <= set(
        refused
    )
    for name in refused:
        for make in (Augment, fixed):
            with pytest.raises(RecipeError, match=rf"data\.\w+\.0: {name} .*(pictures?|films|tensors)"):
                make([Part(name=name)])
    with warnings.catch_warnings(action="ignore"):
        view = View(Recipe.from_values({"data": {"name": "mnist5k"}}))
        offered = {entry.name for place in ("", "augment") for entry, _ in fitting(view, inside=place)}  # type: ignore[arg-type]
    assert offered & set(ALL) == set(FOR_PICTURES) - {"Grayscale"}, "digits are grey already"


def test_a_function_of_ones_own_is_called_on_whole_batches_and_its_failures_are_told(own: Path) -> None:
    batch = torch.rand(3, 1, 4, 4)
    kept = batch.clone()
    (darker,) = fixed([Part(name="Lambda", lambd=f"{own}/own.py:darker")])
    assert torch.equal(darker(batch), kept * 0.5)
    assert torch.equal(batch, kept), "what it is given may be the dataset"
    for function, said in (
        (
            "first",
            r"data\.transforms\.0\.lambd: first returned a tensor of shape \(1, 1, 4, 4\)\. It is given floats \(3,",
        ),
        ("number", r"data\.transforms\.0\.lambd: number returned an int\. It is given"),
        ("whole", r"data\.transforms\.0\.lambd: whole returned numbers of type uint8"),
        ("broken", r"data\.transforms\.0\.lambd: .*own\.py:13: broken fails: KeyError: 'depth'\. Mend the function"),
    ):
        (step,) = fixed([Part(name="Lambda", lambd=f"{own}/own.py:{function}")])
        with pytest.raises(DataError, match=said):
            step(batch)
    with pytest.raises(RecipeError, match=r"data\.transforms\.0\.lambd: there is no file"):
        fixed([Part(name="Lambda", lambd=f"{own}/gone.py:darker")])


def test_files_of_transforms_are_seen_from_the_recipe_and_shown_in_the_preview(own: Path) -> None:
    text = """
        model = { layers = [{ name = "Flatten" }, { name = "Linear", out_features = "classes" }] }
        [data]
        name = "mnist5k"
        augment = [{ name = "RandomApply", p = 1.0, transforms = [{ name = "Lambda", lambd = "own.py:%s" }] }]
    """
    (own / "recipe.toml").write_text(text % "darker")
    recipe = Recipe.load(own / "recipe.toml")
    assert not os.path.samefile(Path.cwd(), own)
    assert steps_name_files(recipe), "R loads them anew"
    assert not steps_name_files(recipe.override({"data.augment": [FLIP]}))
    before, after = before_after(View(recipe), recipe.data.augment, (), [0], 0)[0]
    assert before.picture is not None
    assert after.picture is not None
    assert abs(after.picture.max() - before.picture.max() / 2) <= 1
    (own / "recipe.toml").write_text(text % "broken")
    (problem,) = check(Recipe.load(own / "recipe.toml")).problems
    assert "data.augment.0.transforms.0.lambd: " in str(problem)
    assert "own.py:13: broken fails: KeyError" in str(problem)


def test_a_matrix_comes_from_a_file_and_does_what_torchvisions_does(own: Path) -> None:
    arrays = {key: torch.from_numpy(value) for key, value in np.load(own / "white.npz").items()}
    batch = torch.rand(5, 3, 4, 4)
    expected = v2.LinearTransformation(**arrays)(batch)
    for matrix, mean in (("white.npz", "white.npz"), ("matrix.pt", "mean.npy")):
        values = {"transformation_matrix": f"{own}/{matrix}", "mean_vector": f"{own}/{mean}"}
        (step,) = fixed([Part.model_validate({"name": "LinearTransformation", **values})])
        assert torch.allclose(step(batch), expected, atol=1e-4)
    with pytest.raises(ValueError, match="the matrix is for 48 numbers a sample, and these have 3×5×4"):
        step(torch.rand(5, 3, 5, 4))


@pytest.mark.parametrize(
    ("matrix", "mean", "said"),
    [
        ("gone.npz", "mean.npy", r"transformation_matrix: .*gone\.npz: no such file"),
        ("mean.npy", "mean.npy", "transformation_matrix is 48 and must be square"),
        ("white.npz", "white.csv", r"mean_vector: .*white\.csv: is no file of numbers: \.npy, \.npz, \.pt"),
        ("white.npz", "matrix.pt", "mean_vector has 48×48 numbers, and the matrix is 48×48"),
        ("own.pt", "mean.npy", r"transformation_matrix: .*own\.pt: "),
    ],
)
def test_a_file_that_holds_something_else_is_named(own: Path, matrix: str, mean: str, said: str) -> None:
    (own / "own.pt").write_text(OWN)
    values = {"transformation_matrix": f"{own}/{matrix}", "mean_vector": f"{own}/{mean}"}
    with pytest.raises(RecipeError, match=rf"data\.transforms\.0: LinearTransformation refuses its parameters: {said}"):
        fixed([Part.model_validate({"name": "LinearTransformation", **values})])
