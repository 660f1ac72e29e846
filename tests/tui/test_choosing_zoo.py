"""Choosing a model of the zoo in the studio: one step of undo, whatever was asked on the way."""

from __future__ import annotations

from pathlib import Path

import pytest
from studio_driver import Studio, studio
from textual.widgets import Input, OptionList

from engine.recipe import Model, Recipe
from engine.recipe.tree import removed
from presets import load
from tui.dialogs.pick import PickScreen
from tui.draft import Draft
from tui.panes.model import ModelPane

DIGITS = load("digits-mlp").recipe


def has_choices(opened: Studio) -> bool:
    """Whether a dialog is there with all it has: a screen is the app's before its children are."""
    lists = opened.app.screen.query(OptionList) if isinstance(opened.app.screen, PickScreen) else ()
    return any(each.option_count for each in lists)


async def choose(opened: Studio, *words: str) -> None:
    """Answer one dialog after the other, each by a part of a name."""
    for word in words:
        await opened.until(lambda: has_choices(opened), f"a dialog for {word}", pause=0.02)
        dialog = opened.app.screen
        dialog.query_one(Input).value = word
        await opened.pilot.pause()
        await opened.press("enter")
        await opened.until(lambda asked=dialog: opened.app.screen is not asked, "the next", pause=0.02)


@pytest.mark.parametrize(
    ("answers", "model", "backbone"),
    [
        (("resnet18", "scratch"), Model(zoo="resnet18"), 1.0),
        (
            ("resnet18", "IMAGENET1K_V1", "the head alone", "never"),
            Model(zoo="resnet18", weights="IMAGENET1K_V1", freeze="backbone"),
            1.0,
        ),
        (
            ("resnet18", "IMAGENET1K_V1", "first blocks", "layer2", "after 3"),
            Model(zoo="resnet18", weights="IMAGENET1K_V1", freeze=3, unfreeze_at=3),
            1.0,
        ),
        (("resnet18", "IMAGENET1K_V1", "slower"), Model(zoo="resnet18", weights="IMAGENET1K_V1"), 0.1),
    ],
)
async def test_model_weights_and_what_learns_are_one_step_of_undo(
    tmp_path: Path, answers: tuple[str, ...], model: Model, backbone: float
) -> None:
    async with studio(tmp_path, recipe=DIGITS) as opened:
        opened.screen.query_one(ModelPane).query_one("#layers").focus()
        await opened.press("z")
        await choose(opened, *answers)
        await opened.until(lambda: opened.screen.draft.recipe.model.zoo, "the model")
        recipe = opened.screen.draft.recipe
        assert recipe.model == model
        assert recipe.optimizer.backbone_lr_factor == backbone
        await opened.until(
            lambda: opened.screen.checked and opened.screen.checked.recipe == recipe, "the check of the new model"
        )
        assert opened.screen.checked is not None
        assert opened.screen.checked.problems == ()
        assert opened.screen.checked.rows[-1].name == "fc: Linear"
        await opened.press("u")
        assert opened.screen.draft.recipe == DIGITS


async def test_the_picker_shows_size_work_and_accuracy_and_escape_changes_nothing(tmp_path: Path) -> None:
    async with studio(tmp_path, recipe=DIGITS) as opened:
        opened.screen.query_one(ModelPane).query_one("#layers").focus()
        await opened.press("z")
        await opened.until(lambda: has_choices(opened), "the models")
        opened.app.screen.query_one(Input).value = "resnet50"
        await opened.pilot.pause()
        page = opened.page()
        assert "25.6M    4.1G 80.9%" in page
        assert "25,557,032 parameters" in page
        assert "IMAGENET1K_V1  acc@1 76.1, 98 MB" in page
        await choose(opened, "resnet50")
        await opened.until(lambda: "on this machine" in opened.page() or "↓ 98 MB" in opened.page(), "the weights")
        await opened.until(lambda: has_choices(opened), "the weights")
        await opened.press("escape")
        assert not isinstance(opened.app.screen, PickScreen)
        assert opened.screen.draft.recipe == DIGITS


def test_a_zoo_model_takes_the_place_of_layers_and_options() -> None:
    draft = Draft(
        "x", Recipe.from_values({"data": {"name": "CIFAR10"}, "model": {"zoo": "vgg11", "options": {"a": 1}}})
    )
    draft.choose_zoo("resnet18", "DEFAULT", 2, 1)
    assert draft.recipe.model == Model(zoo="resnet18", weights="DEFAULT", freeze=2, unfreeze_at=1)
    assert draft.undo()
    assert draft.recipe.model.options == {"a": 1}


def test_editing_a_layer_keeps_what_is_frozen() -> None:
    draft = Draft("x", DIGITS.override({"model.freeze": 1}))
    draft.set_layers(removed(draft.recipe.model.layers, (2,)))
    assert draft.recipe.model.freeze == 1
