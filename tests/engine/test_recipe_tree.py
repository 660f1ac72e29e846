"""Layers are edited by their paths: nothing is lost, nothing else changes, and every edit can be taken back."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import RecipeError
from engine.recipe import DEEPEST, Layer, Recipe
from engine.recipe.tree import Path, Tree, at, inserted, inside, moved, removed, replaced, unwrapped, walk, wrapped
from tui.draft import Draft

BOXES = frozenset(("Sequential", "Residual", "Parallel", "Repeat"))


def layer(name: str, *layers: Layer, **parameters: Any) -> Layer:
    return Layer.model_validate({"name": name, **parameters, "layers": layers})


LEAVES = st.builds(lambda size: layer("Linear", out_features=size), st.integers(1, 99)) | st.just(layer("ReLU"))
LAYERS = st.recursive(
    LEAVES,
    lambda inner: st.builds(
        lambda name, layers: layer(name, *layers), st.sampled_from(sorted(BOXES)), st.lists(inner, max_size=3)
    ),
    max_leaves=8,
)
TREES = st.lists(LAYERS, min_size=1, max_size=4).map(tuple)
NEW = layer("Tanh")


def paths(tree: Tree) -> list[Path]:
    return [path for path, _ in walk(tree)]


def places(tree: Tree) -> list[Path]:
    """Where a layer can be put."""
    boxes = [(), *(path for path, each in walk(tree) if each.name in BOXES)]
    return [(*box, position) for box in boxes for position in range(len(inside(tree, box)) + 1)]


@given(TREES, st.data())
def test_an_edit_leaves_the_old_layers_as_they_were(tree: Tree, data: st.DataObject) -> None:
    before = tuple(each.model_copy(deep=True) for each in tree)
    path = data.draw(st.sampled_from(paths(tree)))
    inserted(tree, data.draw(st.sampled_from(places(tree))), NEW)
    removed(tree, path)
    replaced(tree, path, NEW)
    wrapped(tree, path, layer("Residual"))
    unwrapped(tree, path)
    moved(tree, path, data.draw(st.sampled_from([-1, 1])))
    assert tree == before


@given(TREES, st.data())
def test_what_is_inserted_is_there_and_can_be_removed(tree: Tree, data: st.DataObject) -> None:
    path = data.draw(st.sampled_from(places(tree)))
    longer = inserted(tree, path, NEW)
    assert at(longer, path) == NEW
    assert len(paths(longer)) == len(paths(tree)) + 1
    assert removed(longer, path) == tree


@given(TREES, st.data())
def test_what_is_removed_can_be_put_back(tree: Tree, data: st.DataObject) -> None:
    path = data.draw(st.sampled_from(paths(tree)))
    shorter = removed(tree, path)
    assert shorter != tree
    assert inserted(shorter, path, at(tree, path)) == tree


@given(TREES, st.data())
def test_a_layer_that_is_wrapped_can_be_unwrapped(tree: Tree, data: st.DataObject) -> None:
    path = data.draw(st.sampled_from(paths(tree)))
    inside_another = wrapped(tree, path, layer("Repeat", NEW, times=3))
    assert at(inside_another, (*path, 0)) == at(tree, path)
    assert at(inside_another, path).parameters == {"times": 3}
    assert unwrapped(inside_another, path) == tree


@given(TREES, st.data(), st.sampled_from([-1, 1]))
def test_a_move_and_one_back_is_no_move(tree: Tree, data: st.DataObject, by: int) -> None:
    path = data.draw(st.sampled_from(paths(tree)))
    there, now = moved(tree, path, by)
    assert at(there, now) == at(tree, path)
    if now != path:
        assert moved(there, now, -by) == (tree, path)


@given(TREES, st.data())
def test_moves_lead_to_every_place(tree: Tree, data: st.DataObject) -> None:
    tree = inserted(tree, data.draw(st.sampled_from(places(tree))), NEW)
    path = next(path for path, each in walk(tree) if each == NEW)
    while True:
        tree, up = moved(tree, path, -1)
        if up == path:
            break
        path = up
    seen = {path}
    while True:
        tree, down = moved(tree, path, 1)
        if down == path:
            break
        path = down
        seen.add(path)
    assert seen == set(places(removed(tree, path)))


def test_a_path_that_leads_nowhere_is_refused() -> None:
    tree = (layer("Sequential", layer("ReLU")),)
    for path in ((1,), (0, 1), (0, 0, 0), (-1,)):
        with pytest.raises(IndexError):
            removed(tree, path)
    with pytest.raises(IndexError):
        inserted(tree, (0, 2), NEW)


@settings(max_examples=60, deadline=None)
@given(TREES, st.data())
def test_any_edits_and_as_many_undos_are_the_start(tree: Tree, data: st.DataObject) -> None:
    def table(layers: Tree) -> list[dict[str, Any]]:
        return [each.model_dump() for each in layers]

    start = Recipe.from_values({"data": {"name": "mnist5k"}, "model": {"layers": table(tree)}})
    draft = Draft("mine", start)
    met = [draft.recipe]
    for _ in range(data.draw(st.integers(1, 6))):
        now = draft.recipe.model.layers
        known = paths(now)
        edits = [inserted(now, data.draw(st.sampled_from(places(now))), NEW)]
        if known:
            path = data.draw(st.sampled_from(known))
            edits += [removed(now, path), wrapped(now, path, layer("Sequential")), unwrapped(now, path)]
            edits += [moved(now, path, 1)[0], inserted(now, path, at(now, path))]
        draft.set_together({"model.layers": table(data.draw(st.sampled_from(edits)))})
        if draft.recipe != met[-1]:
            met.append(draft.recipe)
    for recipe in reversed(met):
        assert draft.recipe == recipe
        assert draft.undo() is (recipe is not met[0])
    assert draft.recipe == start
    for recipe in met[1:]:
        assert draft.redo()
        assert draft.recipe == recipe
    assert not draft.redo()


@settings(max_examples=40, deadline=None)
@given(TREES)
def test_nested_layers_survive_a_recipe_file(tree: Tree) -> None:
    recipe = Recipe.from_values(
        {"data": {"name": "mnist5k"}, "model": {"layers": [each.model_dump() for each in tree]}}
    )
    assert Recipe.from_toml(recipe.to_toml()).model.layers == tree


@pytest.mark.parametrize("depth", [DEEPEST, DEEPEST + 1, 300, 50_000])
def test_layers_nested_too_deep_are_refused_and_no_others(depth: int) -> None:
    values: dict[str, Any] = {"name": "ReLU"}
    for _ in range(depth):
        values = {"name": "Sequential", "layers": [values]}
    table = {"data": {"name": "mnist5k"}, "model": {"layers": [values]}}
    if depth == DEEPEST:
        recipe = Recipe.from_values(table)
        assert Recipe.from_toml(recipe.to_toml()) == recipe
        return
    with pytest.raises(RecipeError, match=r"model\.layers: are nested more than 32 deep\. Take some out"):
        Recipe.from_values(table)
