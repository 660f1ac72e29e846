"""The draft: every edit makes a valid recipe or leaves it as it was, and can be taken back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.check import check
from engine.data.sources import find
from engine.errors import RecipeError
from engine.recipe import Layer, tree
from presets import load
from tui.draft import Draft


def draft(name: str = "digits-mlp") -> Draft:
    return Draft(name, load(name).recipe)


def test_a_wrong_value_leaves_the_recipe_and_its_past_as_they_were() -> None:
    desk = draft()
    before = desk.recipe
    with pytest.raises(RecipeError, match=r"training\.epochs"):
        desk.set("training.epochs", -3)
    assert desk.recipe is before
    assert not desk.edited


def test_typing_on_in_one_field_is_one_step_of_undo() -> None:
    desk = draft()
    for epochs in (1, 12, 125):
        desk.set("training.epochs", epochs)
    desk.set("training.seed", 4)
    desk.undo()
    assert desk.recipe.training.epochs == 125
    desk.undo()
    assert desk.recipe == load("digits-mlp").recipe
    assert not desk.undo()


def test_redo_makes_the_edit_again_until_something_else_is_edited() -> None:
    desk = draft()
    desk.set_layers(tree.removed(desk.recipe.model.layers, (2,)))
    shorter = desk.recipe
    desk.undo()
    assert desk.redo()
    assert desk.recipe == shorter
    desk.undo()
    desk.set("training.seed", 9)
    assert not desk.redo()


def test_another_task_renames_the_outputs_of_nested_layers_too() -> None:
    desk = draft()
    layers = desk.recipe.model.layers
    desk.set_layers(tree.wrapped(layers, (3,), Layer(name="Sequential")))
    desk.choose_data(find("diabetes"), {"name": "diabetes"})
    assert desk.recipe.model.layers[-1].layers[0].parameters["out_features"] == "targets"
    assert check(desk.recipe).problems == ()


def test_another_dataset_of_another_task_brings_its_loss_and_its_outputs() -> None:
    desk = draft()
    desk.choose_data(find("diabetes"), {"name": "diabetes"})
    assert (desk.recipe.task, desk.recipe.loss.name) == ("regression", "MSELoss")
    assert desk.recipe.model.layers[-1].parameters["out_features"] == "targets"
    assert check(desk.recipe).problems == ()
    desk.choose_data(find("CIFAR10"), {"name": "CIFAR10"})
    assert check(desk.recipe).problems == ()
    assert desk.recipe.model.layers[-1].parameters["out_features"] == "classes"


def test_another_optimizer_keeps_what_it_has_too_and_drops_the_rest() -> None:
    desk = draft()
    desk.choose_part("optimizer", "Adam", ["lr", "betas", "weight_decay"])
    assert desk.recipe.optimizer.parameters == {"lr": 0.01}


def test_a_scheduler_can_be_taken_out_and_keeps_its_pace_when_replaced() -> None:
    desk = draft("fashion-cnn")
    desk.choose_part("scheduler", "ExponentialLR", ["gamma"])
    assert desk.recipe.scheduler is not None
    assert desk.recipe.scheduler.every == "step"
    desk.choose_part("scheduler", None)
    assert desk.recipe.scheduler is None


NAMES = ["ReLU", "Dropout", *sorted(tree.CONTAINERS)]
EDITS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(0, 20), st.sampled_from(NAMES)),
        st.tuples(st.just("wrap"), st.integers(0, 20), st.sampled_from(sorted(tree.CONTAINERS))),
        st.tuples(st.sampled_from(["remove", "double", "unwrap"]), st.integers(0, 20), st.none()),
        st.tuples(st.just("move"), st.integers(0, 20), st.sampled_from([-1, 1])),
        st.tuples(st.just("set"), st.integers(1, 500), st.none()),
        st.tuples(st.just("data"), st.integers(0, 0), st.sampled_from(["diabetes", "mnist5k", "CIFAR10", "line"])),
    ),
    max_size=25,
)


def edited(layers: tree.Tree, kind: str, index: int, what: object) -> tree.Tree:
    """The layers after one edit at the `index`-th row; the same where there is no such row."""
    paths = [path for path, _ in tree.walk(layers)]
    if index >= len(paths):
        return tree.inserted(layers, (len(layers),), Layer(name=str(what))) if kind == "add" else layers
    path = paths[index]
    made = {
        "add": lambda: tree.inserted(layers, path, Layer(name=str(what))),
        "wrap": lambda: tree.wrapped(layers, path, Layer(name=str(what))),
        "remove": lambda: tree.removed(layers, path),
        "double": lambda: tree.inserted(layers, path, tree.at(layers, path)),
        "unwrap": lambda: tree.unwrapped(layers, path) if tree.at(layers, path).layers else layers,
        "move": lambda: tree.moved(layers, path, 1 if what == 1 else -1)[0],
    }
    return made[kind]()


@given(EDITS)
def test_any_edits_then_undoing_them_all_is_the_start_and_redoing_them_the_end(edits: list) -> None:  # type: ignore[type-arg]
    desk = draft()
    start = desk.recipe
    for kind, index, what in edits:
        if kind == "set":
            desk.set("data.batch_size", index)
        elif kind == "data":
            desk.choose_data(find(what), {"name": what})
        else:
            desk.set_layers(edited(desk.recipe.model.layers, kind, index, what))
    end = desk.recipe
    while desk.undo():
        pass
    assert desk.recipe == start
    while desk.redo():
        pass
    assert desk.recipe == end


def test_a_crop_has_the_size_of_the_pictures_that_are_chosen() -> None:
    desk = draft("cifar10-fast")
    crop = next(part for part in desk.recipe.data.augment if part.name == "RandomCrop")
    assert crop.parameters["size"] == 32
    desk.choose_data(find("mnist5k"), {"name": "mnist5k"})
    crop = next(part for part in desk.recipe.data.augment if part.name == "RandomCrop")
    assert crop.parameters["size"] == 28
    assert not [problem for problem in check(desk.recipe).problems if "augment" in problem.where]
    desk.choose_data(find("breast_cancer"), {"name": "breast_cancer"})
    assert desk.recipe.data.augment == ()


def test_a_mend_brings_layers_and_settings_in_one_step() -> None:
    desk = draft()
    before = desk.recipe
    assert desk.untouched
    desk.mend(before.model.layers[:1], {"data.on_bad_sample": "skip"})
    assert (len(desk.recipe.model.layers), desk.recipe.data.on_bad_sample) == (1, "skip")
    assert not desk.untouched, "another model is the person's own work"
    desk.undo()
    assert desk.recipe == before
    desk.choose_zoo("resnet18")
    desk.mend(before.model.layers, {})
    assert (desk.recipe.model.zoo, desk.recipe.model.layers) == ("", before.model.layers)
