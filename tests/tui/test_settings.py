"""The settings pane: every key of the recipe is there, can be found, and says what it does."""

from __future__ import annotations

import asyncio
import textwrap
from pathlib import Path

import pytest
from studio_driver import studio
from textual.events import Key
from textual.widgets import Button, Input

from presets import load
from tui.dialogs.edit_part import EditPartScreen
from tui.draft import Draft
from tui.panes.setting_texts import HELP, grouped, own_keys, setting_help
from tui.widgets.field import Field

OWN = [key for section in ("loss", "optimizer", "scheduler") for key in own_keys(section)]
OWN += [key for keys in grouped().values() for key in keys]


def flat(values: dict, prefix: str) -> set[str]:  # type: ignore[type-arg]
    keys: set[str] = set()
    for name, value in values.items():
        keys |= flat(value, f"{prefix}{name}.") if isinstance(value, dict) and value else {f"{prefix}{name}"}
    return keys


async def test_every_key_of_the_recipe_has_a_row(tmp_path: Path) -> None:
    recipe = load("fashion-cnn").recipe
    async with studio(tmp_path, recipe=recipe) as opened:
        shown = {field.key for field in opened.screen.query(Field)}
        wanted = set()
        for section in ("training", "data", "loss", "optimizer", "scheduler"):
            wanted |= flat(recipe.values()[section], f"{section}.")
        elsewhere = {
            "data.path",
            "data.format",
            "data.name",
            "data.python",
            "data.options",
            "data.standardize_target",
            "scheduler.schedulers",
        }
        elsewhere |= {f"{section}.name" for section in ("loss", "optimizer", "scheduler")}
        assert wanted - elsewhere <= shown
        assert {"optimizer.weight_decay", "optimizer.warmup", "loss.label_smoothing", "scheduler.every"} <= shown


def test_no_key_stands_under_a_heading_for_the_forgotten() -> None:
    assert "more" not in grouped(), "a new key of the recipe needs its place in setting_texts.GROUPS"


@pytest.mark.parametrize("key", OWN)
def test_a_key_of_ours_says_its_type_what_it_does_and_fits_below_the_form(key: str) -> None:
    about = setting_help(key)
    assert HELP.get(key), f"{key} has no line of help"
    assert len(textwrap.wrap(about, 34)) <= 5
    assert not about.startswith("value"), f"{about!r} names no type"


def test_choices_say_their_alternatives() -> None:
    assert setting_help("training.precision").startswith("fp32, tf32, bf16 or fp16, default fp32.")
    assert setting_help("training.average.kind").startswith("none, ema or swa, default none.")
    assert setting_help("training.compile").startswith("false, true or reduce-overhead, default false.")
    assert setting_help("training.channels_last").startswith("auto, true or false, default auto.")
    assert setting_help("training.overfit_one_batch").startswith("true or false, default false.")
    assert setting_help("training.early_stopping.patience").startswith("whole number from 0, default 0.")
    assert setting_help("training.epochs").startswith("whole number above 0, default 10.")
    assert setting_help("training.average.decay").startswith("number above 0 and below 1, default 0.999.")
    assert setting_help("training.nan_lr_factor").startswith("number above 0 and up to 1, default 0.5.")
    assert setting_help("data.num_workers").startswith("auto or whole number, default auto.")


async def test_a_nested_setting_is_typed_and_reaches_the_run(tmp_path: Path) -> None:
    recipe = load("line-fit").recipe.override({"training.epochs": 2})
    async with studio(tmp_path, recipe=recipe) as opened:
        field = next(f for f in opened.screen.query(Field) if f.key == "training.early_stopping.patience")
        field.begin()
        await opened.press("enter", "backspace", "7", "enter")
        assert opened.screen.draft.recipe.training.early_stopping.patience == 7
        assert opened.app.focused is field, "enter leaves the input for its row"
        assert not field.query(Input), "a row that nobody types into has no input"
        await opened.press("t")
        await opened.until_state("done")
        assert "patience = 7" in (next(tmp_path.iterdir()) / "recipe.toml").read_text()


async def test_none_restores_a_default_whose_name_is_none(tmp_path: Path) -> None:
    recipe = load("line-fit").recipe.override({"training.average.kind": "ema"})
    async with studio(tmp_path, recipe=recipe) as opened:
        field = next(f for f in opened.screen.query(Field) if f.key == "training.average.kind")
        field.begin()
        await opened.press("enter", *["backspace"] * 3, *"none", "enter")
        assert opened.screen.draft.recipe.training.average.kind == "none"
        assert not field.error


async def test_a_cleared_field_waits_for_what_is_typed_and_shows_the_default_when_it_is_left(tmp_path: Path) -> None:
    async with studio(tmp_path) as opened:
        field = next(f for f in opened.screen.query(Field) if f.key == "training.epochs")
        field.begin()
        await opened.press("enter", "backspace", "backspace", "5")
        assert opened.screen.draft.recipe.training.epochs == 5
        await opened.press("backspace", "enter")
        assert opened.screen.draft.recipe.training.epochs == 10
        assert field.value == 10


async def test_what_is_typed_is_not_replaced_by_what_stood_there_a_key_before(tmp_path: Path) -> None:
    async with studio(tmp_path) as opened:
        field = next(f for f in opened.screen.query(Field) if f.key == "training.epochs")
        field.begin()
        await opened.press("enter", "4", "5")
        field.put(304)  # a form shown late, as over a slow line that brings several keys in one piece
        await opened.press("6", "enter")
        assert opened.screen.draft.recipe.training.epochs == field.value == 30456


async def test_a_dialog_left_twice_leaves_the_studio_on_the_screen(tmp_path: Path) -> None:
    async with studio(tmp_path) as opened:
        await opened.press("2", "enter")
        assert isinstance(opened.app.screen, EditPartScreen)
        for _ in range(3):
            opened.app.post_message(Key("enter", None))
        await opened.until(lambda: not isinstance(opened.app.screen, EditPartScreen), "the dialog's end")
        await opened.press("2")
        assert opened.app.screen is opened.screen
        assert opened.screen.focused is not None


async def test_the_filter_leaves_what_has_the_word_under_its_heading_and_escape_brings_all_back(tmp_path: Path) -> None:
    async with studio(tmp_path) as opened:
        await opened.press("4", "slash", *"patience")
        fields = opened.screen.query("#settings-form Field")
        assert [f.key for f in fields if f.display] == ["training.early_stopping.patience"]
        headings = [str(h.content) for h in opened.screen.query("#settings-form .section") if h.display]
        assert headings == ["stop early"]
        await opened.press("enter")
        assert isinstance(opened.app.focused, Field)
        await opened.press("down", "down")
        assert opened.app.focused.key == "training.early_stopping.patience", "the arrows left what is in sight"
        await opened.press("slash", "escape")
        assert all(f.display for f in fields)


async def test_escape_in_a_field_leaves_the_field_and_keeps_the_filter(tmp_path: Path) -> None:
    async with studio(tmp_path) as opened:
        await opened.press("4", "slash", *"seed", "enter", "enter", "escape")
        assert opened.screen.query_one("#settings-filter").display
        await opened.press("escape")
        assert not opened.screen.query_one("#settings-filter").display


async def test_the_arrows_reach_every_setting_and_stay_in_the_form(tmp_path: Path) -> None:
    async with studio(tmp_path) as opened:
        await opened.press("4")
        rows = [row for row in opened.screen.query("#settings-form *") if isinstance(row, (Field, Button))]
        assert opened.app.focused is rows[0]
        for row in rows[1:]:  # without waiting for all to be painted, as opened.press would
            opened.app.post_message(Key("down", None))
            async with asyncio.timeout(30):
                while opened.app.focused is not row:
                    await asyncio.sleep(0)
        await opened.press("down")
        assert opened.app.focused is rows[-1]


def test_another_optimizer_keeps_our_own_settings_and_drops_what_torch_does_not_know_there() -> None:
    desk = Draft("x", load("digits-mlp").recipe)
    desk.set_together({"optimizer.warmup": "1 epoch", "optimizer.backbone_lr_factor": 0.1, "optimizer.momentum": 0.5})
    desk.choose_part("optimizer", "AdamW", ["lr", "betas"])
    optimizer = desk.recipe.optimizer
    assert (optimizer.warmup, optimizer.backbone_lr_factor) == ("1 epoch", 0.1)
    assert "momentum" not in optimizer.parameters
    desk.set("loss.class_weights", "balanced")
    desk.choose_part("loss", "NLLLoss", ["weight"])
    assert desk.recipe.loss.class_weights == "balanced"


def test_a_list_of_schedulers_goes_with_the_scheduler_that_takes_none() -> None:
    desk = Draft("x", load("fashion-cnn").recipe)
    parts = [{"name": "LinearLR"}, {"name": "StepLR", "step_size": 5}]
    desk.choose_part("scheduler", "ChainedScheduler", ["schedulers"])
    desk.set("scheduler.schedulers", parts)
    desk.choose_part("scheduler", "SequentialLR", ["schedulers", "milestones"])
    assert desk.recipe.scheduler is not None
    assert len(desk.recipe.scheduler.schedulers) == 2
    desk.choose_part("scheduler", "StepLR", ["step_size"])
    assert desk.recipe.scheduler.schedulers == ()


async def test_keys_in_one_piece_go_to_the_field_or_dialog_that_the_first_opens(tmp_path: Path) -> None:
    async with studio(tmp_path) as opened:
        field = next(f for f in opened.screen.query(Field) if f.key == "training.epochs")
        field.begin()
        await opened.pilot.pause()
        for key in ("enter", "4", "t", "backspace", "5", "enter", "2", "down", "enter", "t"):
            opened.app.post_message(Key(key, key if len(key) == 1 else None))
        await opened.until(lambda: isinstance(opened.app.screen, EditPartScreen), "the layer's dialog")
        await opened.until(lambda: any(each.value.endswith("t") for each in opened.app.screen.query(Input)), "the t")
        assert opened.screen.draft.recipe.training.epochs == 3045
        assert opened.app.desk.job is None, "t is a letter of what was typed"
