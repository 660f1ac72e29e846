"""Datasets that are chosen in the studio: with a form of their options, by a typed name, and with a model that fits."""

from __future__ import annotations

from pathlib import Path

import pytest
from studio_driver import Studio, studio
from textual.widgets import Input

from presets import load
from tui.dialogs.data.find_file import FindFileScreen, listed
from tui.dialogs.edit_part import EditPartScreen
from tui.dialogs.pick import PickScreen
from tui.widgets.field import Field


def notices(opened: Studio) -> str:
    return "\n".join(each.message for each in opened.app._notifications)


async def choose(opened: Studio, typed: str) -> None:
    await opened.press("o")
    await opened.until(lambda: isinstance(opened.app.screen, PickScreen), "the datasets")
    opened.app.screen.query_one(Input).value = typed
    await opened.press("enter")


async def accept_form(opened: Studio, **values: str) -> None:
    await opened.until(lambda: isinstance(opened.app.screen, EditPartScreen), "the options")
    for field in opened.app.screen.query(Field):
        if field.key in values:
            field.query_one(Input).value = values[field.key]
    await opened.press("enter")


async def test_a_dataset_is_chosen_with_its_options_and_a_model_that_fits_in_one_step_of_undo(tmp_path: Path) -> None:
    async with studio(tmp_path, recipe=load("digits-cnn").recipe) as opened:
        await opened.press("3")
        before, draft = opened.screen.draft.recipe, opened.screen.draft
        await choose(opened, "line")
        await accept_form(opened, slope="steep")
        assert isinstance(opened.app.screen, EditPartScreen), "a wrong value loses nothing"
        assert "'steep' does not fit. Try 2.0." in opened.text("#edit-help")
        assert draft.recipe == before
        await accept_form(opened, slope="3")
        await opened.until(lambda: opened.screen.checked.recipe.data.name == "line", "the check")
        assert (draft.recipe.data.options, opened.screen.checked.problems) == ({"slope": 3}, ())
        assert "The model was for pictures: now there is a small one for a table." in notices(opened)
        model = draft.recipe.model
        await opened.press("e")
        await accept_form(opened, points="50")
        assert draft.recipe.data.options == {"slope": 3, "points": 50}
        await opened.press("u", "u")
        assert draft.recipe == before
        await opened.press("U")
        assert draft.recipe.model == model, "the step and what came with it are one again"


async def test_a_dataset_of_the_hub_is_typed_in_and_fitted_to_when_it_is_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = pytest.importorskip("datasets", reason="the extra huggingface is not installed")
    monkeypatch.setenv("TORCH_TUI_DATA", str(tmp_path / "data"))
    columns = {"x": [float(n) for n in range(40)], "label": [n % 2 for n in range(40)]}
    features = hub.Features({"x": hub.Value("float32"), "label": hub.ClassLabel(names=["a", "b"])})
    monkeypatch.setattr(hub, "load_dataset", lambda *arguments: hub.Dataset.from_dict(columns, features=features))
    async with studio(tmp_path, recipe=load("digits-cnn").recipe) as opened:
        await opened.press("3")
        before, draft = opened.screen.draft.recipe, opened.screen.draft
        await choose(opened, "hf:someone/numbers")
        await opened.until(lambda: "learned" in str(opened.app.screen.query(".dialog").first().border_title))
        await opened.press("enter")
        await accept_form(opened, config="2021")
        await opened.until(lambda: opened.screen.checked.recipe.data.name == "hf:someone/numbers", "the check")
        assert (draft.recipe.data.options, draft.recipe.model) == ({"config": "2021"}, before.model)
        await opened.press("d")
        await opened.until(lambda: opened.screen.checked.source is not None, "the download")
        assert opened.screen.checked.problems == ()
        assert draft.recipe.data.transforms[0].name == "Standardize"
        await opened.press("u")
        assert draft.recipe == before


async def test_a_function_is_a_path_that_is_completed_and_its_mistakes_are_said_with_their_line(tmp_path: Path) -> None:
    file = tmp_path / "data.py"
    file.write_text("def broken():\n    return [][3]\n\n\ndef bright():\n    pass\n", encoding="utf-8")
    assert [entry.name for entry in listed(f"{file}:br", hidden=False).entries] == ["broken", "bright"]
    assert listed(f"{file}:dark", hidden=False).wrong
    async with studio(tmp_path / "runs", recipe=load("line-fit").recipe) as opened:
        await opened.press("3")
        before = opened.screen.draft.recipe
        await choose(opened, f"{file}:bro")
        await opened.until(lambda: isinstance(opened.app.screen, FindFileScreen), "the files")
        await opened.until(lambda: "broken" in opened.page(), "the functions")
        await opened.press("tab", "enter")
        await opened.until(lambda: isinstance(opened.app.screen, PickScreen), "the task")
        await opened.press("enter")
        await opened.until(lambda: "data.py:2: broken fails: IndexError" in notices(opened), "the mistake")
        assert opened.screen.draft.recipe == before


async def test_a_form_that_comes_again_begins_in_the_option_that_the_remedy_names(tmp_path: Path) -> None:
    file = tmp_path / "said.jsonl"
    file.write_text("".join(f'{{"body": "{i % 2} a b", "topic": "t{i % 2}", "n": {i}}}\n' for i in range(30)), "utf-8")

    def begun() -> str:
        focused = opened.app.focused
        return next((field.key for field in opened.app.screen.query(Field) if focused in field.walk_children()), "")

    async with studio(tmp_path) as opened:
        await opened.press("3", "O")
        await opened.until(lambda: isinstance(opened.app.screen, FindFileScreen), "the files")
        opened.app.screen.query_one(Input).value = str(file)
        await opened.press("enter")
        for _ in ("format", "task"):
            await opened.until(lambda: isinstance(opened.app.screen, PickScreen), "a question")
            await opened.press("enter")
            await opened.pilot.pause(0.1)
        await opened.until(begun, "the options")
        assert begun() != "text"
        await opened.press("enter")
        await opened.until(lambda: begun() == "text", "the option that is named")
        await accept_form(opened, text="body")
        await opened.until(lambda: begun() == "label", "the next")
