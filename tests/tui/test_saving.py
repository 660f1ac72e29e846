"""What a person edits can be kept: in its file, or as a preset of their own; nothing is lost without being asked."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from studio_driver import Studio, studio
from textual.widgets import Button, Input, OptionList

from engine.recipe import Recipe
from engine.recipe.file import RecipeFile
from engine.runs.directory import RunDirectory
from presets import load
from presets.own import own_path, own_presets, save_own
from tui.draft import Origin
from tui.screens.saving import SavingScreen

TEXT = load("line-fit").path.read_text(encoding="utf-8").replace("epochs = 20", "epochs = 20   # enough")
SHIPPED = "digits-mlp"


@pytest.fixture
def file(tmp_path: Path) -> RecipeFile:
    path = tmp_path / "mine.toml"
    path.write_text(TEXT, encoding="utf-8")
    return RecipeFile.open(path)


def told(opened: Studio) -> str:
    """Everything that has been said in a corner."""
    return "\n".join(f"{each.title} {each.message}" for each in opened.app._notifications)


def edit(opened: Studio, epochs: int = 7) -> None:
    opened.screen.edit(lambda: opened.screen.draft.set("training.epochs", epochs))


def names(opened: Studio) -> list[str]:
    """What the pane lists, headings included."""
    options = opened.screen.query_one("#preset-list", OptionList)
    return [str(option.prompt).split("\n")[0] for option in options.options]


def cursor(opened: Studio) -> str:
    option = opened.screen.query_one("#preset-list", OptionList).highlighted_option
    return str(option.id) if option else ""


async def asked(opened: Studio) -> list[str]:
    """The answers that a dialog offers, once there is one."""
    await opened.until(lambda: not isinstance(opened.app.screen, SavingScreen), "a dialog")
    await opened.pilot.pause()
    return [str(button.id).removeprefix("answer-") for button in opened.app.screen.query(Button)]


async def answer(opened: Studio, name: str) -> None:
    await asked(opened)
    await opened.pilot.click(f"#answer-{name}")
    await opened.pilot.pause()


async def save_as(opened: Studio, name: str) -> None:
    await asked(opened)
    opened.app.screen.query_one(Input).value = name
    await opened.press("enter")


async def said(opened: Studio, words: str) -> None:
    await opened.until(lambda: words in told(opened), f"saying {words!r}")
    await opened.pilot.pause()


async def test_ctrl_s_saves_a_file_in_place_and_the_mark_goes(tmp_path: Path, file: RecipeFile) -> None:
    async with studio(tmp_path, file=file, loaded=False) as opened:
        edit(opened)
        await opened.until(lambda: "● not saved" in opened.page(), "the mark")
        await opened.press("ctrl+s")
        await said(opened, "Saved mine.toml.")
        assert file.path.read_text(encoding="utf-8") == TEXT.replace("epochs = 20 ", "epochs = 7 ")
        await opened.until(lambda: "● not saved" not in opened.page(), "the mark's end")
        await opened.press("u")
        await opened.until(lambda: "● not saved" in opened.page(), "the mark of what was taken back")


async def test_ctrl_s_without_an_edit_writes_nothing(tmp_path: Path, file: RecipeFile) -> None:
    async with studio(tmp_path, file=file, loaded=False) as opened:
        before = file.path.stat()
        await opened.press("ctrl+s")
        await said(opened, "mine.toml has it all already")
        assert file.path.stat() == before


async def test_what_does_not_fit_in_a_field_is_not_saved_silently(tmp_path: Path, file: RecipeFile) -> None:
    async with studio(tmp_path, file=file) as opened:
        await opened.press("4", "down", "down", "down", "enter", "x", "escape", "ctrl+s")
        await said(opened, "Not saved")
        assert "is not a whole number" in told(opened)
        assert file.path.read_text(encoding="utf-8") == TEXT


async def test_looking_at_a_preset_and_back_loses_no_edit_of_the_file(tmp_path: Path, file: RecipeFile) -> None:
    async with studio(tmp_path, file=file, loaded=False) as opened:
        assert names(opened)[:3] == ["FILE", "mine.toml", "VISION"]
        assert cursor(opened) == "mine.toml"
        edit(opened)
        await opened.press("down")
        assert opened.screen.draft.name == SHIPPED
        await opened.press("up")
        assert opened.screen.draft.recipe.training.epochs == 7
        assert opened.screen.draft.unsaved


async def test_a_shipped_preset_is_saved_under_a_name_that_is_checked_while_it_is_typed(tmp_path: Path) -> None:
    async with studio(tmp_path, loaded=False) as opened:
        edit(opened)
        await opened.press("ctrl+s")
        await asked(opened)
        assert opened.app.screen.query_one(Input).value == f"my-{SHIPPED}"
        for wrong, why in (("", "needed"), ("My net", "Small letters"), (SHIPPED, "ships")):
            opened.app.screen.query_one(Input).value = wrong
            await opened.press("enter")
            assert why in opened.text("#save-line")
        await save_as(opened, "mine")
        await said(opened, "Saved as mine")
        assert own_path("mine").read_text() == load(SHIPPED).path.read_text().replace("epochs = 30", "epochs = 7")
        assert names(opened)[:3] == ["YOURS", "mine", "VISION"]
        assert cursor(opened) == opened.screen.draft.name == "mine"
        assert not opened.screen.draft.unsaved
        await opened.press("down")
        assert opened.screen.draft.recipe == load(SHIPPED).recipe, "the shipped one kept the edits, too"
        await opened.press("up", "u")
        assert opened.screen.draft.recipe == load(SHIPPED).recipe, "undo does not reach behind the saving"
        await opened.press("ctrl+s")
        await said(opened, "Saved mine.toml")
        assert load("mine").recipe == load(SHIPPED).recipe


async def test_escape_saves_nothing(tmp_path: Path) -> None:
    async with studio(tmp_path, loaded=False) as opened:
        await opened.press("ctrl+s")
        await asked(opened)
        await opened.press("escape")
        assert own_presets() == ()
        assert opened.screen.draft.name == SHIPPED


@pytest.mark.parametrize("chosen", ["overwrite", "cancel"])
async def test_overwriting_a_preset_of_ones_own_asks(tmp_path: Path, chosen: str) -> None:
    save_own("mine", load("line-fit").recipe)
    before = own_path("mine").read_text()
    async with studio(tmp_path, loaded=False) as opened:
        assert cursor(opened) == SHIPPED, "the start is not where it was"
        await opened.press("S")
        await save_as(opened, "mine")
        assert await asked(opened) == ["cancel", "overwrite"]
        await answer(opened, chosen)
        if chosen == "overwrite":
            await said(opened, "Saved as mine")
        assert (own_path("mine").read_text() == before) == (chosen == "cancel")


@pytest.mark.parametrize("chosen", ["overwrite", "reload", "cancel"])
async def test_a_file_that_something_else_has_changed_is_asked_about(
    tmp_path: Path, file: RecipeFile, chosen: str
) -> None:
    theirs = TEXT.replace("lr = 0.05", "lr = 0.5")
    async with studio(tmp_path, file=file, loaded=False) as opened:
        edit(opened)
        file.path.write_text(theirs, encoding="utf-8")
        await opened.press("ctrl+s")
        assert await asked(opened) == ["cancel", "reload", "overwrite"]
        assert "has been changed by something else" in opened.page()
        await answer(opened, chosen)
        recipe = opened.screen.draft.recipe
        if chosen == "overwrite":
            await said(opened, "Saved mine.toml")
            assert file.path.read_text(encoding="utf-8") == TEXT.replace("epochs = 20 ", "epochs = 7 ")
        else:
            assert file.path.read_text(encoding="utf-8") == theirs
        if chosen == "cancel":
            assert opened.screen.draft.unsaved
            assert recipe.training.epochs == 7
        if chosen == "reload":
            await said(opened, "Reloaded mine.toml")
            assert (recipe.training.epochs, recipe.optimizer.lr) == (20, 0.5)
            await opened.press("u")
            assert opened.screen.draft.recipe.training.epochs == 7


async def test_a_file_that_was_removed_can_be_written_again(tmp_path: Path, file: RecipeFile) -> None:
    async with studio(tmp_path, file=file, loaded=False) as opened:
        edit(opened)
        file.path.unlink()
        await opened.press("ctrl+s")
        assert await asked(opened) == ["cancel", "overwrite"], "there is nothing to reload"
        await answer(opened, "overwrite")
        await said(opened, "Saved mine.toml")
        assert Recipe.load(file.path).training.epochs == 7


async def test_what_can_not_be_written_is_one_message_and_the_edits_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a-file").touch()
    monkeypatch.setenv("TORCH_TUI_CONFIG", str(tmp_path / "a-file"))
    async with studio(tmp_path, loaded=False) as opened:
        edit(opened)
        await opened.press("ctrl+s")
        await save_as(opened, "mine")
        await said(opened, "Not saved")
        assert "can't be written: not a directory" in told(opened)
        assert len(opened.app._notifications) == 1
        assert opened.screen.draft.recipe.training.epochs == 7
        assert opened.screen.draft.name == SHIPPED


async def test_quitting_with_edits_that_no_file_has_asks_once(tmp_path: Path, file: RecipeFile) -> None:
    async with studio(tmp_path, file=file, loaded=False) as opened:
        edit(opened)
        await opened.press("q")
        assert await asked(opened) == ["stay", "save", "drop"]
        assert "Edits of mine.toml are not saved" in opened.page()
        assert all(word in opened.page() for word in ("Stay", "Save and quit", "Quit without saving"))
        await answer(opened, "stay")
        assert opened.app.is_running
        assert opened.screen.draft.unsaved
        await opened.press("q")
        await answer(opened, "drop")
        await opened.until(lambda: not opened.app._running or opened.app._exit, "the end")
    assert file.path.read_text(encoding="utf-8") == TEXT


async def test_saving_while_quitting_saves_every_draft_that_has_a_file(tmp_path: Path, file: RecipeFile) -> None:
    save_own("other", load("line-fit").recipe)
    async with studio(tmp_path, file=file, loaded=False) as opened:
        edit(opened)
        await opened.press("down")
        assert opened.screen.draft.name == "other"
        edit(opened, 9)
        await opened.press("down")
        edit(opened, 8)  # of a preset that ships: there is no file that could have it
        await opened.press("q")
        await asked(opened)
        assert "Edits of mine.toml, other are not saved" in opened.page()
        await answer(opened, "save")
        await opened.until(lambda: opened.app._exit, "the end")
    assert Recipe.load(file.path).training.epochs == 7
    assert load("other").recipe.training.epochs == 9


async def test_a_save_that_fails_while_quitting_stays(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    path = folder / "mine.toml"
    path.write_text(TEXT, encoding="utf-8")
    async with studio(tmp_path, file=RecipeFile.open(path), loaded=False) as opened:
        edit(opened)
        path.unlink()
        folder.rmdir()
        await opened.press("q")
        await answer(opened, "save")
        await answer(opened, "overwrite")
        await said(opened, "Not saved")
        assert not opened.app._exit
        assert opened.screen.draft.unsaved


@pytest.mark.parametrize("edited", [False, True])
async def test_quitting_without_anything_to_save_does_not_ask(tmp_path: Path, edited: bool) -> None:
    async with studio(tmp_path, loaded=False) as opened:
        if edited:  # of a preset that ships, which has no file
            edit(opened)
        await opened.press("q")
        await opened.until(lambda: opened.app._exit, "the end")


async def test_a_model_built_on_a_preset_that_ships_is_not_lost_by_one_key(tmp_path: Path) -> None:
    async with studio(tmp_path) as opened:
        await opened.press("2", "D")
        await opened.until(lambda: opened.screen.draft.built, "the edit")
        await opened.press("q")
        await answer(opened, "stay")
        assert not opened.app._exit
        await opened.press("q")
        await answer(opened, "save")
        await opened.until(lambda: opened.app.screen.query(Input), "the name")
        await opened.press("enter")
        await opened.until(lambda: opened.app._exit, "the end")
    assert own_path(f"my-{SHIPPED}").exists()


async def test_a_model_that_was_built_and_taken_back_asks_nothing(tmp_path: Path) -> None:
    async with studio(tmp_path) as opened:
        await opened.press("2", "D", "u", "q")
        await opened.until(lambda: opened.app._exit, "the end")


async def test_a_broken_preset_of_ones_own_costs_one_message_and_a_line(tmp_path: Path) -> None:
    save_own("good", load("line-fit").recipe)
    own_path("bad").write_text("[data]\nnames = 3\n")
    async with studio(tmp_path, loaded=False) as opened:
        await said(opened, "data.names: is not a setting")
        assert len(opened.app._notifications) == 1
        assert names(opened)[:3] == ["YOURS", "bad  ✗ broken", "good"]
        assert "data.names: is not a setting" in opened.page()
        assert opened.screen.draft.name == SHIPPED
        await opened.press("up", "up")
        assert (cursor(opened), opened.screen.draft.name) == ("bad", "good"), "what is broken has come to the desk"
        await opened.press("d")
        await answer(opened, "remove")
        await said(opened, "Removed bad.")
        assert names(opened)[:2] == ["YOURS", "good"]


@pytest.mark.parametrize("chosen", ["keep", "remove"])
async def test_removing_a_preset_of_ones_own_asks(tmp_path: Path, chosen: str) -> None:
    save_own("mine", load("line-fit").recipe)
    async with studio(tmp_path, loaded=False) as opened:
        await opened.press("d")
        assert isinstance(opened.app.screen, SavingScreen), "one that ships can be removed"
        await opened.press("up", "d")
        assert await asked(opened) == ["keep", "remove"]
        await answer(opened, chosen)
        if chosen == "remove":
            await said(opened, "Removed mine.")
        assert own_path("mine").exists() == (chosen == "keep")
        assert opened.screen.draft.name == cursor(opened) == ("mine" if chosen == "keep" else SHIPPED)


async def test_a_renamed_preset_keeps_its_edits(tmp_path: Path) -> None:
    save_own("mine", load("line-fit").recipe)
    async with studio(tmp_path, loaded=False) as opened:
        await opened.press("up")
        edit(opened)
        await opened.press("n")
        await save_as(opened, "better")
        await said(opened, "mine is called better now")
        assert [each.name for each in own_presets()] == ["better"]
        assert opened.screen.draft.name == cursor(opened) == "better"
        await opened.press("ctrl+s")
        await said(opened, "Saved better.toml")
        assert load("better").recipe.training.epochs == 7


async def test_a_branch_that_is_saved_stays_a_branch(tmp_path: Path) -> None:
    async with studio(tmp_path, loaded=False) as opened:
        opened.screen.draft.origin = Origin(RunDirectory(tmp_path / "run"), "epoch-1", 1)
        await opened.press("ctrl+s")
        await save_as(opened, "mine")
        await said(opened, "Saved as mine")
        assert opened.screen.draft.origin is not None
        assert opened.screen.draft.name == SHIPPED
        assert load("mine").recipe == opened.screen.draft.recipe


async def test_nothing_is_left_beside_what_was_saved(tmp_path: Path, file: RecipeFile) -> None:
    async with studio(tmp_path / "runs", file=file, loaded=False) as opened:
        edit(opened)
        await opened.press("ctrl+s")
        await said(opened, "Saved mine.toml.")
    assert os.listdir(tmp_path) == ["mine.toml"]
