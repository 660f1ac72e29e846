"""A recipe is a file and an object, the same thing in two forms; whatever is wrong with it is said in words."""

from __future__ import annotations

import datetime
import math
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import RecipeError
from engine.printable import printable
from engine.recipe import Recipe, format_value, parse_override, parse_value
from presets import Preset, presets

SMALL = """
[data]
name = "mnist5k"

[[model.layers]]
name = "Flatten"
[[model.layers]]
name = "Linear"
out_features = "classes"
"""

# What TOML can hold. Lone surrogates are not text in UTF-8.
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
SCALARS = st.one_of(
    st.booleans(), st.integers(), st.integers(min_value=10**30), st.floats(), TEXT, st.dates(), st.datetimes()
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3), max_leaves=6
)
KEYS = st.sampled_from(
    [
        *Recipe.model_fields,
        *("name", "lr", "every", "split", "train", "val", "seed", "layers", "zoo", "python", "options", "batch_size"),
        *("transforms", "epochs", "precision", "checkpoint_every", "clip_grad_norm", "device", "0", "1", "-1", "9"),
    ]
)
DOTTED = st.lists(KEYS | TEXT, min_size=1, max_size=4).map(".".join)


def attempt(make: Callable[[], Recipe]) -> Recipe | RecipeError:
    try:
        return make()
    except RecipeError as error:
        return error


def small() -> Recipe:
    return Recipe.from_toml(SMALL)


def refusal(**changes: Any) -> str:
    """What is said of the small recipe with `section__key=value`."""
    with pytest.raises(RecipeError) as caught:
        small().override({key.replace("__", "."): value for key, value in changes.items()})
    return str(caught.value)


@pytest.mark.parametrize("preset", presets(), ids=lambda preset: preset.name)
def test_preset_written_as_toml_reads_back_as_the_same_recipe(preset: Preset) -> None:
    assert Recipe.from_toml(preset.recipe.to_toml()) == preset.recipe


def test_a_changed_recipe_is_another_recipe() -> None:
    # The twin of the round trip: equality sees a difference deep inside.
    assert small().override({"model.layers.1.bias": False}) != small()


def test_values_that_are_empty_for_torch_survive_the_file() -> None:
    recipe = small().override(
        {"scheduler": {"name": "MultiStepLR", "milestones": []}, "data.options": {"prefix": "", "columns": {}}}
    )
    assert Recipe.from_toml(recipe.to_toml()) == recipe


def test_empty_settings_of_ours_are_left_out_of_the_file() -> None:
    written = tomllib.loads(small().to_toml())
    assert "title" not in written
    assert written["data"].keys().isdisjoint({"python", "options", "augment"})


def test_defaults_are_filled_in_where_the_file_is_silent() -> None:
    assert small().training.epochs == 10
    assert tomllib.loads(small().to_toml())["optimizer"] == {
        "name": "AdamW",
        "lr": 0.001,
        "weight_decay_on_norms": False,
        "backbone_lr_factor": 1.0,
    }


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(KEYS | TEXT, VALUES, max_size=4))
def test_any_values_make_a_recipe_or_a_recipe_error(values: dict[str, Any]) -> None:
    made = attempt(lambda: Recipe.from_values({"data": {"name": "mnist5k"}, **values}, "mine.toml"))
    if isinstance(made, RecipeError):
        where = made.where.removeprefix("mine.toml").removeprefix(": ")
        assert any(where.startswith(printable(key)) for key in values)


@settings(max_examples=200, deadline=None)
@given(DOTTED, VALUES | st.none())
def test_any_override_makes_a_recipe_or_an_error_that_names_its_key(key: str, value: Any) -> None:
    made = attempt(lambda: small().override({key: value}, "mine.toml"))
    if isinstance(made, RecipeError):
        assert made.where.startswith("mine.toml")
        assert printable(key.split(".")[0]) in made.where


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(TEXT.filter(lambda key: key != "name"), VALUES, max_size=3))
def test_any_parameters_of_torch_survive_the_file(parameters: dict[str, Any]) -> None:
    recipe = Recipe.from_values({"data": {"name": "mnist5k"}, "loss": {"name": "CrossEntropyLoss", **parameters}})
    back = Recipe.from_toml(recipe.to_toml())
    assert repr(_comparable(back.loss.parameters)) == repr(_comparable(recipe.loss.parameters))


def _comparable(value: Any) -> Any:
    """TOML knows neither the sign of a NaN nor which of two equal hours is meant."""
    if isinstance(value, dict):
        return {key: _comparable(item) for key, item in sorted(value.items())}
    if isinstance(value, (list, tuple)):
        return [_comparable(item) for item in value]
    if isinstance(value, datetime.datetime):
        return value.replace(fold=0)
    return "nan" if isinstance(value, float) and math.isnan(value) else value


SHARES = "data.split: train + val + test is"


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("optimizer.lr", "fast", "optimizer.lr: 'fast' is not a number. Try a number such as 0.01."),
        ("optimizer.lr", True, "optimizer.lr: 'True' is not a number."),
        ("optimizer.lr", "0.1", "optimizer.lr: '0.1' is not a number."),
        ("optimizer.lr", math.inf, "optimizer.lr: 'inf' is not a finite number."),
        ("optimizer.lr", 0, "optimizer.lr: '0"),
        ("data.batch_size", True, "data.batch_size: 'True' is not a whole number."),
        ("data.batch_size", 64.0, "data.batch_size: '64.0' is not a whole number."),
        ("data.batch_size", 0, "data.batch_size: '0'"),
        ("data.drop_last", 1, "data.drop_last: '1' is not true or false. Try true or false."),
        ("training.compile", 1, "training.compile: 1 is a number. Try true."),
        ("training.compile", "max", "training.compile: 'max' should be False, True or 'reduce-overhead'."),
        ("training.channels_last", 0, "training.channels_last: 0 is a number. Try true."),
        ("training.channels_last", "always", "training.channels_last: 'always' should be 'auto', True or False."),
        ("title", 7, "title: '7' is not text. Put it in quotes."),
        ("training.precision", "fp8", "training.precision: 'fp8' should be 'fp32', 'tf32', 'bf16' or 'fp16'"),
        ("training.checkpoint_every", "soon", "training.checkpoint_every: 'soon' is not a duration. Try \"1 epoch\""),
        ("data.split.train", math.nan, "data.split.train: 'nan' is not a finite number."),
        (
            "data.split.val",
            0.2,
            f"{SHARES} 0.8 + 0.2 + 0.1 = 1.1. Make it at most 1: lower train to 0.7, or the others.",
        ),
        ("data.split.test", 0.9, f"{SHARES} 0.8 + 0.1 + 0.9 = 1.8. Make it at most 1: lower val or test."),
        ("data.name", None, "data: needs one dataset. Set one of name, path and python."),
        ("model.zoo", "resnet18", "model: has layers and zoo. Keep one of them."),
        ("model.options", {"width": 2}, "model: has options, which only zoo and python take. Remove them."),
        ("model.layers.0.name", None, "model.layers.0.name: is missing. Add it."),
        ("data", "mnist5k", "data: 'mnist5k' should be"),
        ("training.epochs", datetime.date(2026, 1, 1), "training.epochs: a date is not a whole number."),
    ],
)
def test_a_wrong_value_is_named_with_its_key_and_a_remedy(key: str, value: object, said: str) -> None:
    with pytest.raises(RecipeError) as caught:
        small().override({key: value}, "mine.toml")
    assert str(caught.value).startswith(f"mine.toml: {said}")


def test_a_whole_number_is_a_number() -> None:
    assert small().override({"optimizer.lr": 1}).optimizer.lr == 1.0


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("optimiser", "optimizer"),
        ("data.batchsize", "batch_size"),
        ("data.split.vall", "val"),
        ("model.layer", "layers"),
        ("training.epoch", "epochs"),
    ],
)
def test_an_unknown_key_names_the_nearest(key: str, meant: str) -> None:
    with pytest.raises(RecipeError, match=f"{key}: is not a setting. Did you mean '{meant}'?"):
        small().override({key: 1})


def test_an_unknown_key_like_none_lists_those_there_are() -> None:
    assert "Known here: train, val, test, seed, how, by, folds, fold." in refusal(data__split__qqq=1)


def test_parameters_of_torch_are_not_for_the_recipe_to_know() -> None:
    assert small().override({"optimizer.betas": [0.9, 0.99]}).optimizer.parameters["betas"] == [0.9, 0.99]


def test_override_reaches_into_lists() -> None:
    recipe = small().override({"model.layers.1.out_features": 64})
    assert recipe.model.layers[1].parameters == {"out_features": 64}
    assert small().model.layers[1].parameters == {"out_features": "classes"}


def test_override_by_none_brings_the_default_back() -> None:
    recipe = small().override({"training.epochs": 3, "optimizer.momentum": 0.9})
    without = recipe.override({"training.epochs": None, "optimizer.momentum": None})
    assert without == small()


def test_override_by_none_of_what_is_not_there_changes_nothing() -> None:
    assert small().override({"scheduler.gamma": None, "scheduler": None, "title": None}) == small()


def test_override_makes_a_section_that_was_absent() -> None:
    recipe = small().override({"scheduler.name": "StepLR", "scheduler.step_size": 2})
    assert recipe.scheduler is not None
    assert recipe.scheduler.parameters == {"step_size": 2}


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("model.layers.7.bias", "model.layers.7: there is no item 7. There are 2 of them."),
        ("model.layers.first.bias", "model.layers.first: there is no item first."),
        ("model.layers.1", "model.layers.1: names a whole list item. Name a key of it: model.layers.1.name."),
        ("training.epochs.more", "training.epochs.more: training.epochs is a value and has no keys."),
    ],
)
def test_an_override_that_leads_nowhere_says_where_it_ends(key: str, said: str) -> None:
    with pytest.raises(RecipeError) as caught:
        small().override({key: 1})
    assert said in str(caught.value)


def test_a_recipe_keeps_its_values_from_those_who_read_them() -> None:
    recipe = small().override({"data.transforms": [{"name": "Normalize", "mean": [0.1], "std": [0.3]}]})
    recipe.data.transforms[0].parameters["mean"].append(7.0)
    recipe.values()["data"]["transforms"][0]["std"].append(7.0)
    assert recipe.data.transforms[0].parameters == {"mean": [0.1], "std": [0.3]}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0.1", 0.1),
        ("1e-3", 0.001),
        ("64", 64),
        ("true", True),
        ("True", True),
        ("none", None),
        ("None", None),
        ("[0.9, 0.99]", [0.9, 0.99]),
        ('{ name = "Normalize" }', {"name": "Normalize"}),
        ('"64"', "64"),
        ("cuda:0", "cuda:0"),
        ("2 h", "2 h"),
        ("2020-99-99", "2020-99-99"),
        ("[" * 5000, "[" * 5000),
        ("9" * 5000, "9" * 5000),
    ],
)
def test_text_becomes_the_value_a_person_means(text: str, value: object) -> None:
    read = parse_value(text)
    assert read == value
    assert type(read) is type(value)


@settings(max_examples=300, deadline=None)
@given(VALUES | st.none())
def test_formatted_value_parses_back(value: Any) -> None:
    back = parse_value(format_value(value))
    assert _numbers(back) == _numbers(value)


def _numbers(value: Any) -> Any:
    """Values to compare: a float may be written as the whole number that it is."""
    if isinstance(value, dict):
        return {key: _numbers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_numbers(item) for item in value]
    if isinstance(value, float) and math.isnan(value):
        return "nan"
    return (isinstance(value, bool), value)


def test_short_values_are_written_short() -> None:
    shown = [format_value(v) for v in (0.001, 1.0, True, None, "classes", [0.13, 0.31], ["a", "b"])]
    assert shown == ["0.001", "1", "true", "none", "classes", "[0.13, 0.31]", "['a', 'b']"]


def test_override_text_is_read_as_key_and_value() -> None:
    assert parse_override(" optimizer.lr = 0.1 ") == ("optimizer.lr", 0.1)
    assert parse_override("title=a=b") == ("title", "a=b")


@pytest.mark.parametrize("text", ["optimizer.lr", "=3", " =3", ""])
def test_override_text_without_a_key_is_refused(text: str) -> None:
    with pytest.raises(RecipeError, match="is not KEY=VALUE"):
        parse_override(text)


def test_python_files_are_found_from_the_folder_of_the_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "mine.toml").write_text(
        '[data]\npython = "data.py:make"\n[model]\npython = "../nets.py:Net"\n', encoding="utf-8"
    )
    monkeypatch.chdir(tmp_path)
    recipe = Recipe.load("project/mine.toml")
    assert recipe.data.python == f"{tmp_path}/project/data.py:make"
    assert recipe.model.python == f"{tmp_path}/nets.py:Net"


def test_an_absolute_python_file_stays_where_it_is(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text('[data]\npython = "/opt/data.py:make"\n', encoding="utf-8")
    assert Recipe.load(tmp_path / "mine.toml").data.python == "/opt/data.py:make"


def test_a_path_with_a_null_byte_is_no_crash(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text('[data]\npython = "\\u0000:make"\n', encoding="utf-8")
    assert "\0" in Recipe.load(tmp_path / "mine.toml").data.python


def test_a_missing_file_is_named() -> None:
    with pytest.raises(RecipeError, match=r"nowhere/mine\.toml: No such file or directory\. Check the path\."):
        Recipe.load("nowhere/mine.toml")


def test_a_folder_is_no_recipe(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="Is a directory"):
        Recipe.load(tmp_path)


def test_a_file_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    (tmp_path / "latin.toml").write_bytes('title = "Größe"'.encode("latin-1"))
    with pytest.raises(RecipeError, match=r"latin\.toml: is not UTF-8 text"):
        Recipe.load(tmp_path / "latin.toml")


@pytest.mark.parametrize(
    "text",
    [
        "title = ",
        "[data]\n[data]",
        "data = " + "[" * 5000,
        "data = " + "{a=" * 3000,
        "[training]\nepochs = " + "9" * 5000,
        "a = 1\na = 2",
    ],
    ids=["cut", "twice", "deep list", "deep table", "huge number", "key twice"],
)
def test_what_is_not_toml_is_said_to_be_so(text: str) -> None:
    with pytest.raises(RecipeError, match=r"mine\.toml: is not TOML"):
        Recipe.from_toml(text, "mine.toml")


@pytest.mark.parametrize("key", ["epochs", "accumulate", "seed"])
def test_numbers_too_large_to_count_with_are_refused(key: str) -> None:
    # Hexadecimal has no limit on its digits, and Python refuses to print so many.
    with pytest.raises(RecipeError, match=f"training.{key}: a number of thousands of digits"):
        Recipe.from_toml(f"{SMALL}\n[training]\n{key} = 0x{'f' * 5000}")


def test_a_long_wrong_value_is_cut_short() -> None:
    assert len(refusal(optimizer__lr="x" * 10_000)) < 150


def test_a_recipe_without_data_says_so() -> None:
    with pytest.raises(RecipeError, match=r"data: is missing\. Add it\."):
        Recipe.from_toml('title = "nothing"')
