"""Files of one's own, from the dialog that finds them to a model that can be trained on them."""

from __future__ import annotations

from pathlib import Path

from studio_driver import studio
from textual.widgets import Input

from presets import load
from tui.dialogs.data.find_file import FindFileScreen
from tui.dialogs.edit_part import EditPartScreen
from tui.dialogs.pick import PickScreen


async def test_files_of_another_kind_bring_a_model_and_the_task_is_asked_anew(tmp_path: Path) -> None:
    file = tmp_path / "prices.csv"
    file.write_text("size,price\n" + "\n".join(f"{i},{i * 1.37}" for i in range(300)), encoding="utf-8")
    async with studio(tmp_path / "runs", recipe=load("digits-cnn").recipe) as opened:
        await opened.press("3")
        before = opened.screen.draft.recipe
        await opened.until(lambda: opened.screen.checked is not None, "the data before")
        await opened.press("O")
        await opened.until(lambda: isinstance(opened.app.screen, FindFileScreen), "the files")
        opened.app.screen.query_one(Input).value = str(file)
        await opened.press("enter")
        await opened.until(lambda: isinstance(opened.app.screen, PickScreen), "the formats")
        await opened.press("enter")  # a table
        await opened.pilot.pause()
        await opened.press("enter")  # classes, which a price has none of
        await opened.until(lambda: isinstance(opened.app.screen, EditPartScreen), "the options")
        await opened.press("enter")
        await opened.until(lambda: isinstance(opened.app.screen, PickScreen), "the task again")
        await opened.press("enter")  # what the error named
        await opened.until(lambda: opened.screen.checked.recipe.data.path, "the check of the new data")
        recipe = opened.screen.draft.recipe
        assert recipe.task == "regression"
        assert [layer.name for layer in recipe.model.layers] == ["Linear", "ReLU", "Linear", "ReLU", "Linear"]
        assert opened.screen.checked.recipe == recipe
        assert opened.screen.checked.problems == ()
        await opened.press("u")
        assert opened.screen.draft.recipe == before
