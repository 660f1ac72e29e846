"""A recipe on other data: what fits stays, what can be mended is, and only what nobody made gives way."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from engine.check import check
from engine.data.sources import Source, described, find
from engine.other_data import adapted, on_data
from engine.recipe import Data, Recipe
from presets import load

DIGITS = find("mnist5k")


def chosen(preset: str, name: str, **options: object) -> Recipe:
    source = described(Data(name=name, options=options))
    return on_data(load(preset).recipe, source, {"name": name, "options": options})


@pytest.mark.parametrize(("preset", "name"), [("digits-cnn", "CIFAR10"), ("digits-mlp", "breast_cancer")])
def test_a_model_that_takes_the_data_stays_whatever_it_was_made_for(preset: str, name: str) -> None:
    recipe = chosen(preset, name)
    assert adapted(recipe, DIGITS) is None
    assert check(recipe).problems == ()


def test_a_model_for_larger_pictures_is_mended_and_every_mend_is_told_even_of_one_that_a_person_made() -> None:
    recipe = chosen("cifar10-fast", "Food101", size=24)
    for keep in (False, True):
        found = adapted(recipe, DIGITS, keep=keep)
        assert found is not None
        assert found.said == "The model is fitted to Food101: make the kernel 2 (MaxPool2d). u takes it all back."
        assert check(found.recipe).problems == ()


def test_a_model_for_pictures_gives_way_to_one_for_a_table_unless_a_person_made_it() -> None:
    recipe = chosen("digits-cnn", "breast_cancer")
    found = adapted(recipe, DIGITS)
    assert found is not None
    assert check(found.recipe).problems == ()
    assert adapted(recipe, DIGITS, keep=True) is None
    assert check(recipe).fixes[0].gives_up, "then it is proposed"


def test_what_transforms_hold_follows_from_the_data_too() -> None:
    held = [{"name": "RandomCrop", "size": 28}, {"name": "RandomInvert"}]
    constants = {"name": "Normalize", "mean": [0.13], "std": [0.31]}
    nested = [
        {"name": "Compose", "transforms": [constants]},
        {"name": "Compose", "transforms": [{"name": "RGB"}, constants]},
        {"name": "LinearTransformation", "transformation_matrix": "white.npz", "mean_vector": "white.npz"},
    ]
    changes = {"data.augment": [{"name": "RandomChoice", "transforms": held}], "data.transforms": nested}
    data = on_data(load("digits-mlp").recipe.override(changes), find("CIFAR10"), {"name": "CIFAR10"}).data
    assert data.augment[0].parameters["transforms"] == [{"name": "RandomCrop", "size": 32}, {"name": "RandomInvert"}]
    assert [part.parameters["transforms"] for part in data.transforms] == [[{"name": "RGB"}]]


def test_transforms_follow_from_a_function_whose_samples_are_known_late(tmp_path: Path) -> None:
    file = tmp_path / "rows.py"
    file.write_text("class Rows(list):\n    classes = 'ab'\n\n\ndef rows():\n    return Rows([([0.5, 2.0], 0)] * 9)\n")
    recipe = load("fashion-cnn").recipe
    assert recipe.data.augment, "or there is nothing to leave out"
    unknown = Source("rows", "", "classification", (), 0, {}, "yours")
    found = adapted(on_data(recipe, unknown, {"python": f"{file}:rows"}), DIGITS, unknown=True)
    assert found is not None
    assert "Transforms and augmentation follow from the data." in found.said
    assert (found.recipe.data.transforms, found.recipe.data.augment) == ((), ())
    assert check(found.recipe).problems == ()


def test_what_is_made_of_sound_is_made_of_other_sound_too() -> None:
    recipe = load("digits-cnn").recipe.override({"data.transforms": [{"name": "LogMelSpectrogram"}]})
    sound = replace(DIGITS, name="words", shape=(1, 8000), rate=8000)
    assert on_data(recipe, sound, {"path": "words"}).data.transforms == recipe.data.transforms
    assert on_data(recipe, replace(sound, rate=0), {"path": "words"}).data.transforms == ()
