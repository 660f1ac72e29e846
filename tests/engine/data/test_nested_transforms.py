"""Transforms that hold others: each sample by its own draw, as torchvision draws; masks follow; errors by path."""

# B batch · C channels · H height · W width

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision.transforms import v2

from engine.data.augmentation.augment import Augment, check_for_masks
from engine.data.serving.mixing import MIXES
from engine.data.transforms import fixed, transforms
from engine.errors import RecipeError
from engine.recipe import Data, Part, Recipe
from engine.recipe.parts import HOLDERS, LAST, inside, moved, place, rows

Values = dict[str, Any]


def one(name: str, **parameters: Any) -> Values:
    return {"name": name, **parameters}


def augment(*steps: Values) -> Augment:
    return Augment([Part.model_validate(step) for step in steps])


def several(name: str, *steps: Values, **parameters: Any) -> Values:
    return {"name": name, **parameters, "transforms": list(steps)}


INVERT, SOLARIZE = one("RandomInvert", p=1.0), one("RandomSolarize", threshold=0.3, p=1.0)
POSTERIZE, FLIP = one("RandomPosterize", bits=1, p=1.0), one("RandomHorizontalFlip")
PICTURE = torch.tensor([0.1, 0.25, 0.6, 0.95]).view(1, 2, 2).expand(3, 2, 2)
theirs: dict[str, Callable[[], Any]] = {
    "RandomInvert": lambda: v2.RandomInvert(p=1.0),
    "RandomSolarize": lambda: v2.RandomSolarize(threshold=0.3, p=1.0),
    "RandomPosterize": lambda: v2.RandomPosterize(bits=1, p=1.0),
    "RandomHorizontalFlip": v2.RandomHorizontalFlip,
    "Grayscale": lambda: v2.Grayscale(3),
}


def of_torchvision(step: Values) -> Any:
    if "transforms" not in step:
        return theirs[step["name"]]()
    held = [of_torchvision(each) for each in step["transforms"]]
    return getattr(v2, step["name"])(held, **({"p": step["p"]} if "p" in step else {}))


def outcomes(pictures: Tensor) -> Counter[tuple[float, ...]]:
    return Counter(tuple(round(value, 3) for value in each.flatten().tolist()) for each in pictures)


@pytest.mark.parametrize(
    "step",
    [
        several("RandomApply", INVERT, FLIP, p=0.3),
        several("RandomChoice", INVERT, SOLARIZE, FLIP, p=[1.0, 2.0, 3.0]),
        several("RandomChoice", INVERT, SOLARIZE),
        several("RandomOrder", INVERT, SOLARIZE, POSTERIZE),
        several("Compose", FLIP, SOLARIZE),
        several("RandomChoice", several("RandomApply", several("RandomOrder", INVERT, SOLARIZE), p=0.6), POSTERIZE),
    ],
    ids=lambda step: str(step["name"]),
)
def test_every_outcome_is_as_likely_as_by_torchvision_sample_by_sample(step: Values) -> None:
    expected = of_torchvision(step)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        wanted = outcomes(torch.stack([expected(PICTURE) for _ in range(600)]))
    found = outcomes(augment(step)(PICTURE.expand(6000, 3, 2, 2), 1))
    assert set(found) == set(wanted)
    for outcome, count in wanted.items():
        share = found[outcome] / 6000
        assert abs(count / 600 - share) < 5 * (share * (1 - share) / 600) ** 0.5 + 1e-9


def test_neighbours_draw_apart_and_a_seed_decides_them_all() -> None:
    step = augment(several("RandomApply", one("RandomInvert"), one("ColorJitter", brightness=0.9), p=0.5))
    batch = torch.rand(1, 1, 9, 9).expand(2000, 1, 9, 9)
    made = step(batch, 3)
    changed = (made != batch).flatten(1).any(1)
    assert 900 < int(changed.sum()) < 1100
    assert 400 < int((changed[1:] & changed[:-1]).sum()) < 600
    assert len(outcomes(made[changed])) > int(changed.sum()) / 2, "what is held draws for each sample, too"
    assert torch.equal(made, step(batch, 3))
    assert not torch.equal(made, step(batch, 4))
    assert not step.draws_globally
    assert augment(several("RandomApply", one("RandomPerspective"))).draws_globally


def test_what_stood_beside_it_draws_as_it_did() -> None:
    batch = torch.rand(40, 3, 6, 6)
    steps = one("ColorJitter", brightness=0.5), one("RandomVerticalFlip")
    beside = augment(*steps, several("RandomApply", INVERT, p=0.0))
    assert torch.equal(augment(*steps)(batch, 5), beside(batch, 5))


@pytest.mark.parametrize(
    "step",
    [
        several("RandomApply", one("RandomHorizontalFlip", p=1.0), one("RandomCrop", size=6, padding=1)),
        several("RandomChoice", one("RandomHorizontalFlip", p=1.0), INVERT, one("RandomVerticalFlip")),
        several("RandomOrder", FLIP, one("RandomCrop", size=6, padding=2), one("GaussianBlur", kernel_size=1)),
        several("Compose", several("RandomApply", FLIP, p=0.7), one("RandomCrop", size=4)),
    ],
    ids=lambda step: str(step["name"]),
)  # fmt: skip
def test_masks_follow_what_is_held(step: Values) -> None:
    check_for_masks(Data(name="x", augment=(Part.model_validate(step),)))
    masks = torch.randint(1, 9, (300, 6, 6), generator=torch.Generator().manual_seed(0))
    pictures, moved_masks = augment(step).with_masks(masks.unsqueeze(1) / 10, masks, 2)
    pictures = pictures.squeeze(1)
    there = moved_masks > 0  # what is filled in is no class
    same = (pictures - moved_masks / 10).abs() < 1e-5
    inverted = (1 - pictures - moved_masks / 10).abs() < 1e-5
    assert bool((same | inverted)[there].all())
    assert not torch.equal(moved_masks, masks)


@pytest.mark.parametrize(
    ("held", "said"),
    [
        (one("RandomRotation", degrees=9), r"data\.augment\.0\.transforms\.1: RandomRotation can't be done to a mask"),
        (one("CenterCrop", size=6), r"data\.augment\.0\.transforms\.1: CenterCrop would not do to the mask"),
        (one("Lambda", lambd="a.py:f"), r"data\.augment\.0\.transforms\.1: what Lambda does with the pixels"),
    ],
)
def test_what_would_part_from_its_mask_is_refused_however_deep(held: Values, said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        check_for_masks(Data(name="x", augment=(Part.model_validate(several("RandomOrder", FLIP, held)),)))


@pytest.mark.parametrize(
    ("step", "said"),
    [
        (several("RandomApply", FLIP, one("ColorJitter", brightnes=1)), r"0\.transforms\.1\.brightnes: .*'brightness'"),
        (several("RandomOrder", several("RandomApply", one("Flop"))), r"0\.transforms\.0\.transforms\.0\.name: torch"),
        (several("RandomApply"), r"0\.transforms: RandomApply needs transforms\. Add at least one"),
        (several("RandomApply", FLIP, p=2), r"0\.p: 2 is no chance\. Write one from 0 to 1"),
        (several("RandomChoice", FLIP, INVERT, p=[1.0]), r"0\.p: has 1 numbers, and RandomChoice holds 2\. Write 2"),
        (several("RandomChoice", FLIP, p=[-1.0]), r"0\.p: \[-1\.0\] are no chances"),
        (several("RandomChoice", FLIP, INVERT, p=[0.0, 0.0]), r"0\.p: \[0\.0, 0\.0\] are no chances"),
        (several("RandomApply", one("MixUp")), r"0\.transforms\.0: MixUp mixes the samples of a batch"),
        (several("RandomApply", one("Standardize")), r"0\.transforms\.0: Standardize draws nothing\. Put it"),
        (several("RandomApply", one("FiveCrop", size=3)), r"0\.transforms\.0: FiveCrop makes several pictures"),
        (several("RandomApply", one("RandomZoomOut")), r"0\.transforms\.0: RandomZoomOut gives each sample a size"),
        (several("Compose", one("Grayscale")), r"0: Compose draws nothing\. Put it into data\.transforms"),
        ({"name": "RandomApply", "transforms": "RandomInvert"}, r"0\.transforms: is not a list"),
        ({"name": "RandomApply", "transforms": ["RandomInvert"]}, r"0\.transforms\.0: has no name"),
        ({"name": "RandomInvert", "transforms": [FLIP]}, r"0\.transforms: is not a parameter of RandomInvert"),
    ],
)
def test_what_is_wrong_is_named_by_its_path(step: Values, said: str) -> None:
    with pytest.raises(RecipeError, match=rf"data\.augment\.{said}"):
        augment(step)


def test_ways_of_several_sizes_are_refused_before_a_training_and_one_size_behind_them_mends_it() -> None:
    blank = torch.zeros(2, 1, 8, 8)
    with pytest.raises(RecipeError, match=r"augment\.0: makes 1×8×8 and 1×4×4 of samples of 1×8×8"):
        augment(several("RandomApply", one("RandomCrop", size=4))).trial(blank)
    with pytest.raises(RecipeError, match=r"augment\.0\.transforms\.1: does not fit samples of 1×8×8: Required crop"):
        augment(several("RandomChoice", FLIP, one("RandomCrop", size=9))).trial(blank)
    zoomed = several("Compose", several("RandomApply", one("RandomZoomOut"), p=0.5), one("Resize", size=[8, 8]))
    assert augment(zoomed).trial(blank).shape[1:] == (1, 8, 8)
    assert augment(zoomed)(torch.rand(9, 1, 8, 8), 0).shape == (9, 1, 8, 8)


def test_a_compose_of_fixed_transforms_is_what_it_holds() -> None:
    batch = torch.rand(2, 3, 8, 8)
    parts = [one("Grayscale"), one("Normalize", mean=[0.5], std=[0.5])]
    (crop, *nested) = fixed([Part(**one("CenterCrop", size=4)), Part(**several("Compose", several("Compose", *parts)))])
    flat = fixed([Part(**each) for each in parts])
    assert len(nested) == 2
    assert torch.equal(nested[1](nested[0](crop(batch))), flat[1](flat[0](crop(batch))))
    with pytest.raises(RecipeError, match=r"data\.transforms\.0\.transforms\.1: RandomInvert draws at random"):
        fixed([Part(**several("Compose", one("Grayscale"), INVERT))])


def test_they_are_nested_to_a_depth_that_everything_can_follow() -> None:
    def deep(levels: int) -> Values:
        return several("RandomApply", deep(levels - 1), p=1.0) if levels else INVERT

    values = {"data": {"name": "mnist5k", "augment": [deep(20)]}}
    recipe = Recipe.from_toml(Recipe.from_values(values).to_toml())
    assert torch.equal(Augment(recipe.data.augment)(torch.zeros(2, 1, 2, 2), 0), torch.ones(2, 1, 2, 2))
    with pytest.raises(RecipeError, match=r"data\.augment: are nested more than 32 deep"):
        Recipe.from_values({"data": {"name": "mnist5k", "augment": [deep(40)]}})


def test_the_studio_knows_before_torch_is_loaded_which_hold_others() -> None:
    assert {name for name, entry in transforms().items() if entry.container} == HOLDERS
    assert set(MIXES) == LAST


def test_what_mixes_samples_is_put_and_kept_behind_all_others() -> None:
    flip, mix = Part(**FLIP), Part(name="MixUp")
    holder = Part(**several("RandomApply", INVERT))
    assert place([flip, flip], (0,), mix) == (2,)
    assert place([flip, mix], (2,), flip) == (1,)
    assert place([flip, flip], (1,), flip) == (1,)
    assert moved([mix, holder], (0,), 1) == ([holder, mix], (1,))


def test_a_step_is_moved_into_those_that_hold_others_and_out_again() -> None:
    parts = [Part(**FLIP), Part(**several("RandomApply", INVERT))]
    into, path = moved(parts, (0,), 1)
    assert path == (0, 0)
    assert [each.name for each in inside(into[0])] == ["RandomHorizontalFlip", "RandomInvert"]
    assert [(path, part and part.name) for path, part in rows(into)][-1] == ((0, 2), None)
    out, path = moved(into, path, -1)
    assert path == (0,)
    assert list(out) == parts


def test_those_that_hold_one_another_are_tried_as_quickly_as_they_are_many() -> None:
    step = FLIP
    for _ in range(20):
        step = several("RandomOrder", step)
    began = time.thread_time()
    assert augment(step).trial(torch.rand(2, 1, 4, 4)).shape == (2, 1, 4, 4)
    assert time.thread_time() - began < 1, "the two orders of each, in each order of those above, would be a million"
