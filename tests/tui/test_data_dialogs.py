"""The data pane's dialogs by keys and by mouse: browsing, measuring, transforms, the split, files of one's own."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from made_format import made_format, pictures, recipe_of
from studio_driver import Studio, studio
from textual.widgets import Button, Input, OptionList

from engine.data.preview import Sample
from engine.recipe import Recipe
from presets import load
from tui.dialogs.data.browse import BrowseScreen
from tui.dialogs.data.effect import Effect
from tui.dialogs.data.find_file import FindFileScreen
from tui.dialogs.data.moments import MomentsScreen
from tui.dialogs.data.sample import SampleScreen
from tui.dialogs.data.split import SplitScreen
from tui.dialogs.data.steps import StepsScreen
from tui.dialogs.edit_part import EditPartScreen
from tui.dialogs.pick import PickScreen
from tui.panes.data import DataPane
from tui.widgets.canvas import Canvas
from tui.widgets.field import Field
from tui.widgets.gallery import Gallery


@pytest.fixture(autouse=True)
def _made() -> Iterator[None]:
    with made_format():
        yield


@asynccontextmanager
async def at_data(folder: Path, recipe: Recipe | None = None) -> AsyncIterator[Studio]:
    """The studio with the focus on the data pane."""
    async with studio(folder / "runs", recipe=recipe or load("digits-mlp").recipe) as opened:
        await opened.press("3")
        yield opened


async def shown(opened: Studio, kind: type, key: str) -> None:
    """Press a key and wait for the dialog that it opens."""
    await opened.press(key)
    await opened.until(lambda: isinstance(opened.app.screen, kind), kind.__name__)
    await opened.pilot.pause()


async def filled(opened: Studio) -> BrowseScreen:
    """The browser when what it was asked for is drawn."""
    browse = opened.app.screen
    assert isinstance(browse, BrowseScreen)
    await opened.pilot.pause()
    await opened.until(lambda: not browse._busy and browse.samples and browse.query_one(Gallery).text, "the samples")
    await opened.pilot.pause()
    return browse


async def test_pages_classes_parts_and_the_oddest_are_walked_through_by_keys(tmp_path: Path) -> None:
    async with at_data(tmp_path) as opened:
        await shown(opened, BrowseScreen, "v")
        browse = await filled(opened)
        first = [sample.number for sample in browse.samples]
        assert f"#{first[0]}" in opened.page()
        assert "1–8 of 4,000 · as they are" in opened.text("#browse-head")

        await opened.press("n")
        await opened.until(lambda: browse.samples[0].number not in first, "the next page")
        await opened.press("p")
        await opened.until(lambda: [sample.number for sample in browse.samples] == first, "the page before")

        await opened.press("c")
        await opened.until(lambda: isinstance(opened.app.screen, PickScreen))
        await opened.press("7", "enter")
        await opened.until(lambda: opened.app.screen is browse and {s.label for s in browse.samples} == {"7"}, "sevens")
        assert "of 394" in opened.text("#browse-head")

        await opened.press("t")
        await opened.until(lambda: "val · 7" in opened.text("#browse-head"), "the validation samples")
        await opened.press("o")
        await opened.until(lambda: "oddest first" in opened.text("#browse-head"), "the oldest")
        await opened.press("escape")
        assert opened.app.screen is opened.screen


async def test_what_changes_in_the_studio_paints_nothing_anew_while_samples_fill_the_screen(tmp_path: Path) -> None:
    async with at_data(tmp_path) as opened:
        await shown(opened, BrowseScreen, "v")
        browse = await filled(opened)
        with patch.object(type(browse), "_compositor_refresh", autospec=True) as painted:
            opened.screen.query_one(DataPane).refresh()
            await opened.pilot.pause(0.1)
            assert not painted.called
            browse.query_one(Gallery).refresh()
            await opened.pilot.pause(0.1)
            assert painted.called
        await opened.press("escape")
        assert opened.screen.is_current


async def test_samples_are_marked_by_arrows_and_clicks_and_seen_whole(tmp_path: Path) -> None:
    async with at_data(tmp_path) as opened:
        await shown(opened, BrowseScreen, "v")
        browse = await filled(opened)
        await opened.press("right", "down")
        assert opened.text("#browse-line").startswith(f"#{browse.samples[5].number}")
        await opened.pilot.click(Gallery, offset=(60, 4))
        await opened.pilot.pause()
        assert opened.text("#browse-line").startswith(f"#{browse.samples[2].number}")
        await shown(opened, SampleScreen, "enter")
        await opened.until(lambda: "▀" in opened.app.screen.query_one(Canvas).text, "the whole sample")
        widest = max(len(line) for line in opened.app.screen.query_one(Canvas).text.splitlines())
        assert widest == 56, "28 pixels are shown twice as large where there is room"
        await opened.press("escape", "escape")
        assert opened.app.screen is opened.screen


async def test_the_model_sees_other_samples_at_every_draw(tmp_path: Path) -> None:
    recipe = load("digits-mlp").recipe.override({"data.augment": [{"name": "RandomRotation", "degrees": 40}]})
    async with at_data(tmp_path, recipe) as opened:
        await shown(opened, BrowseScreen, "v")
        browse = await filled(opened)
        assert not browse.check_action("draw", ())
        await opened.press("a")
        await opened.until(lambda: "as the model sees them, draw 1" in opened.text("#browse-head"), "what it sees")
        once = browse.samples[0].picture
        await opened.press("r")
        await opened.until(lambda: "draw 2" in opened.text("#browse-head"), "another draw")
        assert (browse.samples[0].picture != once).any()  # type: ignore[union-attr]


async def test_the_place_of_each_sample_of_ones_own_is_shown(tmp_path: Path) -> None:
    async with at_data(tmp_path, recipe_of(pictures(tmp_path / "p"))) as opened:
        assert "1 bad sample" in opened.text("#data-body")
        assert "torn.png: is cut off" in opened.text("#data-more")
        await shown(opened, BrowseScreen, "v")
        browse = await filled(opened)
        assert browse.samples[0].place in opened.page()
        assert browse.samples[0].place.endswith(".png")


async def test_pages_are_turned_in_the_pane(tmp_path: Path) -> None:
    async with at_data(tmp_path) as opened:
        pane = opened.screen.query_one(DataPane)
        await opened.press("m", "n")
        await opened.until(lambda: pane._first == 0 and "of 4,000" in str(pane.border_subtitle), "the first page")
        per_page = pane._per_page
        await opened.press("n")
        await opened.until(lambda: pane._first == per_page, "the second page")
        await opened.press("p", "p")
        await opened.until(lambda: pane._first is None, "one of each class again")


async def test_what_was_measured_becomes_normalize_in_one_step_of_undo(tmp_path: Path) -> None:
    async with at_data(tmp_path) as opened:
        before = opened.screen.draft.recipe
        await shown(opened, MomentsScreen, "z")
        await opened.until(lambda: not opened.app.screen.query_one("#use", Button).disabled, "the figures")
        assert "4,000 training samples" in opened.text("#moments-line")
        await opened.press("enter")
        (step,) = opened.screen.draft.recipe.data.transforms
        assert step.parameters == {"mean": [0.1314], "std": [0.3086]}
        await opened.press("u")
        assert opened.screen.draft.recipe == before

        await shown(opened, MomentsScreen, "z")
        await opened.press("escape")
        assert opened.screen.draft.recipe == before


async def test_steps_are_added_edited_moved_removed_and_undone(tmp_path: Path) -> None:
    async with at_data(tmp_path) as opened:
        await shown(opened, StepsScreen, "a")
        effect = opened.app.screen.query_one(Effect)
        await opened.until(lambda: effect.pairs, "before and after")
        await shown(opened, PickScreen, "a")
        assert "Standardize" not in [choice.name for choice in opened.app.screen._choices]  # type: ignore[attr-defined]
        await opened.press(*"randomrot", "enter")
        await opened.until(lambda: isinstance(opened.app.screen, EditPartScreen), "the form")
        await opened.press(*"40")
        tried = opened.app.screen.query_one(Effect)
        await opened.until(lambda: tried.pairs, "what it does")
        await opened.press("enter")
        data = opened.screen.draft.recipe.data
        assert [(part.name, part.parameters) for part in data.augment] == [("RandomRotation", {"degrees": 40})]

        await shown(opened, PickScreen, "a")
        await opened.press(*"randomver", "enter")
        await opened.until(lambda: isinstance(opened.app.screen, EditPartScreen), "the form")
        await opened.press("enter")

        def names() -> list[str]:
            return [part.name for part in opened.screen.draft.recipe.data.augment]

        assert names() == ["RandomRotation", "RandomVerticalFlip"]
        await opened.press("K")
        assert names() == ["RandomVerticalFlip", "RandomRotation"]
        await opened.press("d")
        assert names() == ["RandomRotation"]
        await opened.press("u", "u")
        assert names() == ["RandomRotation", "RandomVerticalFlip"]
        await opened.press("U")
        assert names() == ["RandomVerticalFlip", "RandomRotation"]
        await opened.press("escape")
        assert opened.app.screen is opened.screen


async def test_undo_among_the_steps_goes_no_further_back_than_the_data_that_are_shown(tmp_path: Path) -> None:
    async with at_data(tmp_path) as opened:
        await shown(opened, StepsScreen, "a")
        draft = opened.screen.draft
        draft.set("training.epochs", 3)
        draft.set_together({"data.augment": [{"name": "RandomHorizontalFlip"}]})
        await opened.press("u", "u")
        recipe = draft.recipe
        assert (recipe.data.augment, recipe.training.epochs) == ((), 3)


async def test_a_step_that_holds_others_is_added_with_the_first_and_shown_as_a_whole(tmp_path: Path) -> None:
    async with at_data(tmp_path) as opened:

        def augment() -> list[dict[str, Any]]:
            return [part.model_dump() for part in opened.screen.draft.recipe.data.augment]

        await shown(opened, StepsScreen, "a")
        await shown(opened, PickScreen, "a")
        first = opened.app.screen
        await opened.press(*"mappl", "enter")
        await opened.until(lambda: isinstance(opened.app.screen, PickScreen) and opened.app.screen is not first, "more")
        await opened.press(*"ninv", "enter")
        await opened.until(lambda: isinstance(opened.app.screen, EditPartScreen), "the form")
        await opened.press(*"1.0", "enter")
        held = {"name": "RandomInvert", "p": 1.0}
        assert augment() == [{"name": "RandomApply", "transforms": [held]}]

        await shown(opened, PickScreen, "a")
        assert opened.app.screen.query_one(".dialog").border_title == "Add what RandomApply holds"
        await opened.press("escape", "up")
        await shown(opened, EditPartScreen, "e")
        await opened.press(*"1.0")
        tried = opened.app.screen.query_one(Effect)
        await opened.until(lambda: tried.pairs and all(_inverted(*pair) for pair in tried.pairs), "all inverted")
        await opened.press("enter")
        assert augment() == [{"name": "RandomApply", "p": 1.0, "transforms": [held]}]

        await opened.press("down", "d")
        assert augment() == [{"name": "RandomApply", "p": 1.0, "transforms": []}]
        await opened.until(lambda: "augment.0.transforms: RandomApply needs transforms" in opened.text("#steps-line"))


def _inverted(before: Sample, after: Sample) -> bool:
    assert before.picture is not None
    assert after.picture is not None
    return bool((before.picture.astype(int) + after.picture.astype(int) == 255).all())


async def test_a_step_that_does_not_fit_is_said_below_the_list(tmp_path: Path) -> None:
    recipe = load("digits-mlp").recipe.override({"data.transforms": [{"name": "LinearTransformation", "x": 1}]})
    async with at_data(tmp_path, recipe) as opened:
        await shown(opened, StepsScreen, "a")
        await opened.until(lambda: "✗" in opened.text("#steps-line"), "the trouble")
        assert "LinearTransformation" in opened.text("#steps-line")


async def test_what_is_typed_before_the_list_of_transforms_is_there_changes_no_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tui.in_turn._PATIENCE_S", 0.05)
    recipe = load("digits-mlp").recipe.override({"data.augment": [{"name": "RandomVerticalFlip"}]})
    ready = threading.Event()
    async with at_data(tmp_path, recipe) as opened:
        await shown(opened, StepsScreen, "a")
        steps, looking = opened.app.screen, opened.screen.desk.data
        fitting = looking.fitting

        def slow(*arguments: Any, **named: Any) -> Any:  # as with a function of one's own that takes seconds
            ready.wait()
            return fitting(*arguments, **named)

        monkeypatch.setattr(looking, "fitting", slow)
        await opened.press("a", *"dq")
        assert opened.app.screen is steps
        assert len(opened.screen.draft.recipe.data.augment) == 1
        ready.set()
        await opened.until(lambda: isinstance(opened.app.screen, PickScreen), "the list")
        await opened.press("escape", "d")
        assert not opened.screen.draft.recipe.data.augment


async def test_samples_of_ones_own_stay_in_sight_when_a_step_does_not_fit(tmp_path: Path) -> None:
    values = load("digits-mlp").recipe.values()
    mixed = [{"name": "MixUp"}, {"name": "RandomHorizontalFlip"}]
    values["data"] = {"path": str(pictures(tmp_path / "photos")), "format": "made", "augment": mixed}
    async with at_data(tmp_path, Recipe.from_values(values)) as opened:
        await opened.until(lambda: opened.screen.preview is not None, "the samples")
        await opened.until(lambda: "train" in opened.text("#data-body"), "the sizes")
        await opened.until(lambda: opened.screen.checked and opened.screen.checked.problems, "what is wrong")
        assert "MixUp" not in opened.text("#data-body")


async def test_a_split_by_groups_is_taken_when_both_its_settings_are_there(tmp_path: Path) -> None:
    async with at_data(tmp_path, recipe_of(tmp_path / "t", "table")) as opened:
        await shown(opened, SplitScreen, "i")
        dialog = opened.app.screen
        how, by = (next(f for f in dialog.query(Field) if f.key == f"data.split.{key}") for key in ("how", "by"))
        how.query_one(Input).value = "grouped"
        await opened.pilot.pause()
        await opened.press("enter")
        assert opened.app.screen is dialog
        assert "grouped by no column" in opened.text("#edit-help")
        assert "city" in by.help
        by.query_one(Input).value = "city"
        await opened.pilot.pause()
        await opened.press("enter")
        split = opened.screen.draft.recipe.data.split
        assert (split.how, split.by) == ("grouped", "city")
        await opened.press("u")
        assert opened.screen.draft.recipe.data.split.how == "random"


async def test_files_of_ones_own_are_found_read_and_trained_on_in_one_step_of_undo(tmp_path: Path) -> None:
    folder = pictures(tmp_path / "photos")
    async with at_data(tmp_path) as opened:
        before = opened.screen.draft.recipe
        await shown(opened, FindFileScreen, "O")
        opened.app.screen.query_one(Input).value = str(tmp_path / "pho")
        await opened.until(lambda: opened.app.screen.query_one("#entries", OptionList).option_count == 1)
        await opened.press("tab")
        assert opened.app.screen.query_one(Input).value == f"{folder}/"
        await opened.press("enter")
        await opened.until(lambda: isinstance(opened.app.screen, PickScreen), "the formats")
        await opened.press(*"made", "enter")
        await opened.pilot.pause()
        await opened.press("enter")  # what is to be learned: classes, as now
        await opened.until(lambda: isinstance(opened.app.screen, EditPartScreen), "the options")
        await opened.press("enter")
        await opened.until(lambda: opened.screen.draft.recipe != before, "the new data")
        data = opened.screen.draft.recipe.data
        assert (data.path, data.format, data.name, data.split.how) == (str(folder), "made", "", "stratified")
        assert [part.name for part in data.transforms] == []
        await opened.until(lambda: "your own" in opened.text("#data-body"), "the pane")
        await opened.press("u")
        assert opened.screen.draft.recipe == before


async def test_a_wrong_path_is_said_and_chooses_nothing(tmp_path: Path) -> None:
    async with at_data(tmp_path) as opened:
        await shown(opened, FindFileScreen, "O")
        opened.app.screen.query_one(Input).value = str(tmp_path / "nowhere" / "x")
        await opened.until(lambda: "There is no folder" in opened.text("#path-line"), "what is wrong")
        await opened.press("enter")
        await opened.pilot.pause(0.1)
        assert isinstance(opened.app.screen, FindFileScreen)
        await opened.press("escape")
        assert opened.app.screen is opened.screen
