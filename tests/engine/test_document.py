"""A recipe's file keeps the person's hand: what was not changed stays byte for byte, and it reads as what was meant."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import RecipeError
from engine.recipe import Recipe
from engine.recipe.document import fresh, updated
from engine.recipe.document.statements import blocks_of, text_of
from presets import Preset, load, presets

MINE = """\
# My own recipe.

title = 'Mine'   # single quotes

# --- data ---

[data] # which
name = "line"
options = { slope = 2.0, points = 1000 } # few
split.train = 0.7
split.val   = 0.2
augment = [
    # first this
    { name = "RandomCrop", size = 32 },   # then
    { name = "RandomHorizontalFlip" }   # that
]

# the model
[[model.layers]]
name = "Sequential" # a block
  # inside
  [[model.layers.layers]]
  name = "Linear" # wide
  out_features = 10
  [[model.layers.layers]]
  name = "ReLU"

# apart

# the last
[[model.layers]]
name = "Linear"
out_features = "targets"

[optimizer]
lr = 1e-2 # by hand
"""

LAYERS = st.sampled_from(
    [
        {"name": "Flatten"},
        {"name": "Linear", "out_features": 7},
        {"name": "Dropout", "p": 0.25},
        {"name": "ReLU"},
        {"name": "Sequential", "layers": [{"name": "Linear", "out_features": 3}, {"name": "ReLU"}]},
    ]
)
PARTS = st.sampled_from(
    [
        {"name": "Normalize", "mean": [0.1], "std": [0.2]},
        {"name": "RandomCrop", "size": 32, "padding": 4},
        {"name": "RandomRotation", "degrees": [-10.0, 10.0]},
        {"name": "RandomErasing", "value": 'it\'s "so"'},
    ]
)
SETTINGS: dict[str, st.SearchStrategy[Any]] = {
    "title": st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
    "data.batch_size": st.integers(1, 99),
    "data.split.train": st.sampled_from([0.1, 0.5]),
    "data.split.seed": st.integers(0, 3),
    "data.options": st.sampled_from([{}, {"points": 10}, {"a b": {"c.d": [1, 2.0, True]}}]),
    "data.drop_last": st.booleans(),
    "loss": st.sampled_from([{"name": "MSELoss"}, {"name": "CrossEntropyLoss", "label_smoothing": 0.2}]),
    "optimizer.lr": st.sampled_from([0.1, 0.001, 1e-5]),
    "optimizer.momentum": st.sampled_from([None, 0.5]),
    "optimizer.warmup": st.sampled_from(["", "3 steps"]),
    "scheduler": st.sampled_from(
        [None, {"name": "StepLR", "step_size": 2}, {"name": "SequentialLR", "schedulers": [{"name": "ConstantLR"}]}]
    ),
    "training.epochs": st.integers(1, 99),
    "training.average.kind": st.sampled_from(["none", "ema"]),
    "training.early_stopping.patience": st.integers(0, 2),
}


@st.composite
def edits(draw: st.DrawFn, recipe: Recipe) -> Recipe:
    """The recipe after some edits such as the studio makes."""
    for _ in range(draw(st.integers(1, 4))):
        kind = draw(st.sampled_from(["set", "layers", "transforms", "augment"]))
        if kind == "set":
            key = draw(st.sampled_from(sorted(SETTINGS)))
            recipe = recipe.override({key: draw(SETTINGS[key])})
            continue
        values = recipe.values()
        at = values["model"] if kind == "layers" else values["data"]
        if kind == "layers" and values["model"]["zoo"]:
            continue
        at[kind] = _shuffled(draw, list(at[kind]), LAYERS if kind == "layers" else PARTS)
        recipe = Recipe.from_values(values)
    return recipe


def _shuffled(draw: st.DrawFn, items: list[Any], new: st.SearchStrategy[Any]) -> list[Any]:
    """A list after an item was added, removed, moved or changed, or its own list was."""
    kind = draw(st.sampled_from(["add", "remove", "move", "change"]))
    place = draw(st.integers(0, max(len(items) - 1, 0)))
    if kind == "add" or not items:
        return [*items[:place], draw(new), *items[place:]]
    item = items.pop(place)
    if kind == "move":
        items.insert(draw(st.integers(0, len(items))), item)
    elif kind == "change" and "layers" in item:
        items.insert(place, {**item, "layers": _shuffled(draw, list(item["layers"]), new)})
    elif kind == "change":
        items.insert(place, {**item, "bias": draw(st.booleans())})
    return items


def changed(text: str, *settings: tuple[str, Any]) -> tuple[list[str], list[str]]:
    """The lines that go and those that come when the settings are changed."""
    before = Recipe.from_toml(text)
    after = before.override(dict(settings))
    return difference(text, updated(text, before, after))


def difference(text: str, other: str) -> tuple[list[str], list[str]]:
    lines = list(difflib.ndiff(text.splitlines(), other.splitlines()))
    return [line[2:] for line in lines if line[0] == "-"], [line[2:] for line in lines if line[0] == "+"]


def assert_untouched(text: str, before: Recipe, written: str, after: Recipe) -> None:
    """Every section that both recipes have alike stands in the file as it stood, comments included."""
    for block in blocks_of(text)[1:]:
        section = str(block.address[0])
        if getattr(before, section) == getattr(after, section):
            assert block.lead + block.header + "".join(line.text for line in block.body).rstrip("\n") in written


def moved(recipe: Recipe, *order: int) -> Recipe:
    """The recipe with its layers in another order, or without some."""
    values = recipe.values()
    values["model"]["layers"] = [values["model"]["layers"][place] for place in order]
    return Recipe.from_values(values)


@pytest.mark.parametrize("preset", presets(), ids=lambda preset: preset.name)
@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_any_edits_of_a_shipped_file_read_back_as_what_was_meant(preset: Preset, data: st.DataObject) -> None:
    text = preset.path.read_text(encoding="utf-8")
    after = data.draw(edits(preset.recipe))
    written = updated(text, preset.recipe, after)
    assert Recipe.from_toml(written) == after
    assert_untouched(text, preset.recipe, written, after)


@given(data=st.data())
@settings(max_examples=150, deadline=None)
def test_any_edits_of_a_file_written_by_hand_read_back_and_can_be_taken_back(data: st.DataObject) -> None:
    before = Recipe.from_toml(MINE)
    after = data.draw(edits(before))
    text = updated(MINE, before, after)
    assert Recipe.from_toml(text) == after
    assert Recipe.from_toml(updated(text, after, before)) == before
    assert_untouched(MINE, before, text, after)
    for comment in ("# My own recipe.", "# --- data ---", "[data] # which"):
        assert comment in text


@pytest.mark.parametrize("text", [MINE, MINE.replace("\n", "\r\n"), MINE.rstrip("\n")], ids=["lf", "crlf", "no end"])
def test_without_an_edit_the_file_keeps_every_byte(text: str) -> None:
    recipe = Recipe.from_toml(text)
    assert updated(text, recipe, recipe) == text
    assert text_of(blocks_of(text), "\n") == text


def test_a_changed_value_changes_its_own_characters_only() -> None:
    assert changed(MINE, ("optimizer.lr", 0.5)) == (["lr = 1e-2 # by hand"], ["lr = 0.5 # by hand"])
    assert changed(MINE, ("data.options.points", 5)) == (
        ["options = { slope = 2.0, points = 1000 } # few"],
        ["options = { slope = 2.0, points = 5 } # few"],
    )
    assert changed(MINE, ("data.split.val", 0.1)) == (["split.val   = 0.2"], ["split.val   = 0.1"])


def test_a_new_key_stands_at_the_end_of_its_table_in_the_way_its_neighbours_are_written() -> None:
    assert changed(MINE, ("optimizer.momentum", 0.9)) == ([], ["momentum = 0.9"])
    assert changed(MINE, ("data.split.test", 0.05)) == ([], ["split.test = 0.05"])
    assert changed(MINE, ("data.options.noise", 0.5))[1] == [
        "options = { slope = 2.0, points = 1000, noise = 0.5 } # few"
    ]


def test_a_new_section_stands_in_the_order_of_a_recipe_with_a_blank_line_above() -> None:
    text = load("digits-mlp").path.read_text(encoding="utf-8")
    _, come = changed(text, ("scheduler", {"name": "StepLR", "step_size": 3}))
    assert come == ["[scheduler]", 'name = "StepLR"', "step_size = 3", ""]
    recipe = Recipe.from_toml(text)
    written = updated(text, recipe, recipe.override({"scheduler": {"name": "StepLR", "step_size": 3}}))
    assert written.index("[optimizer]") < written.index("\n\n[scheduler]") < written.index("\n\n[training]")


def test_a_removed_key_and_a_removed_section_take_their_own_comments_and_nothing_else() -> None:
    text = load("cifar10-resnet18").path.read_text(encoding="utf-8")
    gone, come = changed(text, ("scheduler", None), ("optimizer.nesterov", None))
    assert [line.partition(" ")[0] for line in gone] == ["nesterov", "", "[scheduler]", "name", "every"]
    assert come == []


def test_a_layer_moves_with_its_comments_and_goes_with_them() -> None:
    text = load("digits-mlp").path.read_text(encoding="utf-8")
    recipe = Recipe.from_toml(text)
    swapped = updated(text, recipe, moved(recipe, 0, 2, 1, 3))
    assert sorted(swapped.splitlines()) == sorted(text.splitlines())
    assert '[[model.layers]]\nname = "ReLU"\n[[model.layers]]\nname = "Linear"             # in_features' in swapped

    first = updated(text, recipe, moved(recipe, 1, 2, 3))
    assert "# (1, 28, 28) becomes 784 numbers" not in first
    assert '\n\n[[model.layers]]\nname = "Linear" ' in first, "the blank line above the layers is gone"
    assert difference(text, first)[1] == []

    last = updated(text, recipe, moved(recipe, 0, 1, 2))
    assert 'name = "ReLU"\n\n[loss]' in last


def test_a_layer_whose_parameter_changes_keeps_its_comments_and_another_in_its_place_does_not() -> None:
    text = load("digits-mlp").path.read_text(encoding="utf-8")
    assert changed(text, ("model.layers.1.out_features", 64)) == (["out_features = 128"], ["out_features = 64"])
    gone, come = changed(text, ("model.layers.1.name", "Dropout"))
    assert gone[0].startswith('name = "Linear"             # in_features')
    assert come[0] == 'name = "Dropout"'


def test_layers_inside_layers_are_edited_in_their_own_indentation() -> None:
    recipe = Recipe.from_toml(MINE)
    values = recipe.values()
    linear, relu = values["model"]["layers"][0]["layers"]
    values["model"]["layers"][0]["layers"] = [linear, {"name": "Dropout", "p": 0.5}, relu]
    after = Recipe.from_values(values)
    written = (
        '  out_features = 10\n  [[model.layers.layers]]\n  name = "Dropout"\n  p = 0.5\n  [[model.layers.layers]]\n'
    )
    assert written in updated(MINE, recipe, after)
    assert difference(MINE, updated(MINE, recipe, after))[0] == []


def test_what_stands_apart_survives_the_layer_above_it() -> None:
    recipe = Recipe.from_toml(MINE)
    text = updated(MINE, recipe, moved(recipe, 1))
    assert "# apart" in text
    assert "# the model\n" not in text
    assert "# the last\n[[model.layers]]" in text
    assert "# a block" not in text


def test_items_of_an_array_of_several_lines_keep_their_lines_and_comments() -> None:
    flip, crop = {"name": "RandomHorizontalFlip"}, {"name": "RandomCrop", "size": 32}
    assert changed(MINE, ("data.augment", [crop])) == (
        ['    { name = "RandomCrop", size = 32 },   # then', '    { name = "RandomHorizontalFlip" }   # that'],
        ['    { name = "RandomCrop", size = 32 }   # then'],
    )
    assert changed(MINE, ("data.augment", [crop, flip, {"name": "RandomErasing"}])) == (
        ['    { name = "RandomHorizontalFlip" }   # that'],
        ['    { name = "RandomHorizontalFlip" },   # that', '    { name = "RandomErasing" }'],
    )
    assert changed(MINE, ("data.augment", [{**crop, "size": 30}, flip])) == (
        ['    { name = "RandomCrop", size = 32 },   # then'],
        ['    { name = "RandomCrop", size = 30 },   # then'],
    )


def test_a_model_of_layers_becomes_one_of_the_zoo_and_back() -> None:
    text = load("digits-mlp").path.read_text(encoding="utf-8")
    recipe = Recipe.from_toml(text)
    zoo = recipe.override({"model": {"zoo": "resnet18"}})
    written = updated(text, recipe, zoo)
    assert '\n\n[model]\nzoo = "resnet18"\n\n[loss]' in written
    back = updated(written, zoo, recipe)
    assert '\n\n[[model.layers]]\nname = "Flatten"\n[[model.layers]]' in back
    assert "[model]" not in back


@pytest.mark.parametrize(
    "text",
    [
        'data = { name = "line", split = { train = 0.7, val = 0.1 } }\nmodel = { layers = [{ name = "ReLU" }] }\n',
        'data.name = "line"\ndata.split.train = 0.7\nmodel.layers = [{ name = "ReLU" }]\n',
        '[data]\nname="line"\noptions={ a.b = 1, a.c = 2 }\n[data.split]\ntrain = 0.7\n[[model.layers]]\nname="ReLU"',
        '[[model.layers]]\nname = "ReLU"\n[data]\nname = "line"\n[[model.layers]]\nname = "Flatten"\n[data.split]\n',
        load("cifar10-resnet18").recipe.to_toml(),  # the recipe.toml of a run
        load("digits-cnn").recipe.to_toml(),
        "title = '''\n[data]\n# no comment'''\n[data]\nname = \"line\" # '\n\"split\" = {'train' = 0.7}\n",
    ],
)
@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_whatever_way_a_file_is_written_in_it_reads_as_what_was_meant(text: str, data: st.DataObject) -> None:
    before = Recipe.from_toml(text)
    after = data.draw(edits(before))
    assert Recipe.from_toml(updated(text, before, after)) == after


def test_a_python_file_keeps_its_relative_writing_and_a_new_one_gets_it(tmp_path: Path) -> None:
    text = '[data]\npython = "sub/mine.py:make" # mine\n[model]\npython = "/else/where.py:f"\n'
    before = Recipe.from_toml(text, folder=tmp_path)
    after = before.override({"data.batch_size": 3, "model.python": f"{tmp_path / 'net.py'}:g"})
    written = updated(text, before, after, tmp_path)
    assert 'python = "sub/mine.py:make" # mine\n' in written
    assert 'python = "net.py:g"' in written
    assert Recipe.from_toml(written, folder=tmp_path) == after
    # The twin: for a file that lies elsewhere the same words would mean another file.
    moved_away = updated(text, Recipe.from_toml(text), after, tmp_path / "else")
    assert f'python = "{tmp_path}/sub/mine.py:make" # mine\n' in moved_away


@pytest.mark.parametrize("preset", presets(), ids=lambda preset: preset.name)
def test_a_recipe_without_a_file_is_written_like_one_that_ships(preset: Preset) -> None:
    text = fresh(preset.recipe)
    assert Recipe.from_toml(text) == preset.recipe
    assert len(text) < len(preset.path.read_text(encoding="utf-8")), "defaults are written"


def test_a_text_that_does_not_say_what_it_should_is_not_taken_for_one_that_does() -> None:
    # The twin of the property: from_toml sees a file that went wrong.
    with pytest.raises(RecipeError):
        Recipe.from_toml(MINE + "[optimizer]\n")


def test_what_can_not_be_changed_in_its_place_is_written_anew_under_the_comments_at_the_top() -> None:
    text = '# top\n[data]\nname = "line"\n[model]\nlayers = [{ name = "ReLU" }, # c\n { name = "Flatten" }]\n'
    before = Recipe.from_toml(text)
    after = moved(before, 1, 0)
    written = updated(text, before, after)
    assert Recipe.from_toml(written) == after
    assert written.startswith("# top\n")
    assert "# c" not in written, "it can be changed in its place: this test needs another text"
