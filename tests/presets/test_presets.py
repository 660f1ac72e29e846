"""Every recipe that ships can be read as a tutorial and trained as it is."""

from __future__ import annotations

from pathlib import Path

import pytest

import presets as package
from engine.check import check
from engine.data.sources import find
from engine.errors import RecipeError
from presets import DEFAULT, Preset, load, presets

FOLDER = Path(package.__file__).parent


def test_every_file_is_a_preset() -> None:
    assert {preset.path for preset in presets()} == set(FOLDER.rglob("*.toml"))
    assert len(presets()) >= 9


def test_names_are_unique() -> None:
    names = [preset.name for preset in presets()]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("preset", presets(), ids=lambda preset: preset.name)
def test_a_preset_checks_without_problems(preset: Preset) -> None:
    assert [str(problem) for problem in check(preset.recipe).problems] == []


@pytest.mark.parametrize("preset", presets(), ids=lambda preset: preset.name)
def test_a_preset_says_what_it_teaches(preset: Preset) -> None:
    assert preset.path.read_text(encoding="utf-8").startswith("# ")
    assert 10 < len(preset.recipe.title) <= 50
    assert 20 < len(preset.recipe.about) <= 100
    assert preset.recipe.about.endswith(".")


@pytest.mark.parametrize("preset", presets(), ids=lambda preset: preset.name)
def test_a_preset_that_downloads_says_so_where_it_is_read(preset: Preset) -> None:
    downloads = find(preset.recipe.data.name).origin == "download"
    assert ("downloaded once" in preset.path.read_text(encoding="utf-8")) == downloads


@pytest.mark.parametrize("preset", presets(), ids=lambda preset: preset.name)
def test_no_setting_of_a_preset_is_without_effect(preset: Preset) -> None:
    if "test" in find(preset.recipe.data.name).sizes:
        assert preset.recipe.data.split.test == 0


def test_the_default_comes_first_and_needs_no_network() -> None:
    first = presets()[0]
    assert first.name == DEFAULT
    assert find(first.recipe.data.name).ready


def test_in_each_family_what_ships_stands_before_what_downloads() -> None:
    families = [preset.family for preset in presets()]
    assert families == sorted(families, key=families.index)
    for family in set(families):
        sizes = [find(p.recipe.data.name).download_mb for p in presets() if p.family == family]
        assert sizes == sorted(sizes)


def test_a_preset_is_found_by_its_name() -> None:
    preset = load("digits-cnn")
    assert (preset.family, preset.path.name) == ("vision", "digits-cnn.toml")


def test_an_unknown_preset_names_the_nearest() -> None:
    with pytest.raises(RecipeError, match=r"digit-cnn: is no preset and no recipe file\. Did you mean 'digits-cnn'\?"):
        load("digit-cnn")
    with pytest.raises(RecipeError, match=r"See: torch-tui presets\."):
        load("qqqqq")
