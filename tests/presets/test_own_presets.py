"""A person's own presets are found by name beside those that ship; a broken one costs a line, never the start."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.errors import RecipeError
from engine.paths import own_presets_root
from engine.recipe import Recipe
from engine.recipe.file import RecipeFile
from presets import load, presets
from presets.own import Broken, name_problem, own_path, own_presets, remove_own, rename_own, save_own, suggested_name


def save(name: str, epochs: int = 3) -> Recipe:
    shipped = load("line-fit")
    return save_own(name, shipped.recipe.override({"training.epochs": epochs}), RecipeFile.open(shipped.path)).recipe


def test_there_are_none_at_first_and_looking_makes_no_folder() -> None:
    assert own_presets() == ()
    assert not own_presets_root().exists()


def test_the_folder_is_in_the_users_configuration_unless_a_variable_says_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_TUI_CONFIG", str(tmp_path))
    assert own_presets_root() == tmp_path / "presets"
    monkeypatch.delenv("TORCH_TUI_CONFIG")
    assert own_presets_root().parts[-2:] == ("torch-tui", "presets")


def test_a_saved_preset_is_found_by_its_name_and_has_the_comments_of_what_it_was_made_from() -> None:
    recipe = save("my-line")
    (found,) = own_presets()
    assert (found.name, found.family, found.recipe) == ("my-line", "yours", recipe)
    assert load("my-line").recipe == recipe
    assert "# made on the spot" in found.path.read_text()
    with pytest.raises(RecipeError, match="Did you mean 'my-line'"):
        load("my-lin")


def test_a_broken_one_is_listed_with_its_error_and_the_others_are_there() -> None:
    save("good")
    own_path("bad").write_text("[data]\nnames = 3\n")
    own_path("line-fit").write_text(own_path("good").read_text())
    bad, good, shadow = own_presets()
    assert isinstance(bad, Broken)
    assert "data.names: is not a setting" in str(bad.error)
    assert good.name == "good"
    assert isinstance(shadow, Broken)
    assert "has the name of a preset that ships" in str(shadow.error)
    with pytest.raises(RecipeError, match=r"bad\.toml: data\.names"):
        load("bad")
    assert load("line-fit").family == "tabular"


def test_a_folder_that_is_none_is_no_presets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "presets").write_text("a file")
    monkeypatch.setenv("TORCH_TUI_CONFIG", str(tmp_path))
    assert own_presets() == ()
    with pytest.raises(RecipeError, match="can't be written"):
        save("mine")


@pytest.mark.parametrize("name", ["a", "my-cnn", "my_cnn-2", "7", "x" * 64])
def test_names_that_can_be(name: str) -> None:
    assert name_problem(name) == ""


@pytest.mark.parametrize(
    "name", ["", "My", "a b", "-a", "a-", ".a", "a.toml", "../a", "a/b", "é", "x" * 65, "a\n", "digits-mlp"]
)
def test_names_that_can_not_be(name: str) -> None:
    assert name_problem(name)
    with pytest.raises(RecipeError):
        save(name)


@pytest.mark.parametrize(
    "name", ["digits-mlp", "My Recipe.v2", "数", "", "line-fit-branch", *(p.name for p in presets())]
)
def test_a_suggested_name_can_be_taken_as_it_is(name: str) -> None:
    first = suggested_name(name)
    assert name_problem(first) == ""
    save(first)
    assert suggested_name(name) != first


def test_removing_and_renaming() -> None:
    recipe = save("one")
    assert rename_own("one", "two") == own_path("two")
    assert [(each.name, each.recipe) for each in own_presets()] == [("two", recipe)]
    with pytest.raises(RecipeError, match="ships"):
        rename_own("two", "line-fit")
    remove_own("two")
    assert own_presets() == ()
    with pytest.raises(RecipeError, match=r"can't be removed: No such file"):
        remove_own("two")
