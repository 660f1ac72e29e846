"""A model and a dataset of one's own in the studio: options in a form, errors with file and line, reload on request."""

from __future__ import annotations

from pathlib import Path

from studio_driver import Studio, studio
from textual.widgets import DataTable, Input

from engine.recipe import Recipe
from tui.dialogs.edit_part import EditPartScreen
from tui.panes.data import DataPane

NET = '''
from torch import nn
from blocks import block

class Net(nn.Sequential):
    """Two layers."""

    def __init__(self, shape, outputs, width: int = 8):
        super().__init__(block(shape[0], width), nn.Linear(width, outputs))
'''
BLOCKS = "from torch import nn\n\ndef block(inputs, outputs):\n    return nn.Linear(inputs, outputs)\n"
DATA = """
class Squares:
    def __init__(self, points: int = 40): self.points = points
    def __len__(self): return self.points
    def __getitem__(self, i): return [i / 40], i / 40
"""


def own(folder: Path) -> Recipe:
    for name, text in (("net.py", NET), ("blocks.py", BLOCKS), ("data.py", DATA)):
        (folder / name).write_text(text, encoding="utf-8")
    model = {"python": f"{folder}/net.py:Net", "options": {"width": 5}}
    return Recipe.from_values({
        "task": "regression", "data": {"python": f"{folder}/data.py:Squares"}, "model": model,
        "loss": {"name": "MSELoss"},
    })  # fmt: skip


async def checked(opened: Studio) -> None:
    """Wait until the recipe on the desk has been looked at."""
    await opened.until(lambda: opened.screen.checked and opened.screen.checked.recipe == opened.screen.draft.recipe)
    await opened.pilot.pause()


async def test_enter_on_ones_own_model_opens_its_options_and_one_undo_takes_them_back(tmp_path: Path) -> None:
    async with studio(tmp_path / "runs", recipe=own(tmp_path)) as opened:
        opened.screen.query_one("#layers", DataTable).focus()
        await opened.press("enter")
        await opened.until(lambda: isinstance(opened.app.screen, EditPartScreen), "the form")
        await opened.pilot.pause()
        fields = opened.app.screen.query(Input)
        assert [field.value for field in fields] == ["5"]  # without shape and outputs, which it is given
        await opened.press("end", "0", "enter")
        await opened.until(lambda: opened.app.screen is opened.screen)
        await checked(opened)

        assert opened.screen.draft.recipe.model.options == {"width": 50}
        assert "50" in opened.page()
        await opened.press("d")
        assert "The layers are written in net.py:Net: edit the file, then R runs it anew." in [
            each.message for each in opened.app._notifications
        ]
        await opened.press("u")
        assert opened.screen.draft.recipe.model.options == {"width": 5}
        assert not opened.screen.draft.edited


async def test_what_does_not_fit_an_annotation_is_not_taken(tmp_path: Path) -> None:
    async with studio(tmp_path / "runs", recipe=own(tmp_path)) as opened:
        opened.screen.query_one("#layers", DataTable).focus()
        await opened.press("enter")
        await opened.until(lambda: isinstance(opened.app.screen, EditPartScreen), "the form")
        await opened.pilot.pause()
        await opened.press("x", "enter")

        assert isinstance(opened.app.screen, EditPartScreen)
        assert "is not int" in opened.text("#edit-help")


async def test_the_options_of_ones_own_dataset_are_edited_in_its_pane(tmp_path: Path) -> None:
    async with studio(tmp_path / "runs", recipe=own(tmp_path)) as opened:
        await opened.press("3", "e")
        await opened.until(lambda: isinstance(opened.app.screen, EditPartScreen), "the form")
        await opened.pilot.pause()
        await opened.press("8", "0", "enter")
        await opened.until(lambda: opened.app.screen is opened.screen)
        await checked(opened)

        assert opened.screen.draft.recipe.data.options == {"points": 80}
        assert "train 64" in opened.page()


async def test_an_edited_sibling_is_loaded_on_request_and_its_mistake_named_with_its_line(tmp_path: Path) -> None:
    async with studio(tmp_path / "runs", recipe=own(tmp_path)) as opened:
        (tmp_path / "blocks.py").write_text(BLOCKS.replace("return", "retrun"), encoding="utf-8")
        await opened.pilot.pause(0.3)
        assert "✗" not in opened.text("#model-line")

        await opened.press("R")
        await opened.until(lambda: "✗" in opened.text("#model-line"), "the error")
        assert "blocks.py:4: SyntaxError" in opened.text("#model-line")
        assert opened.text("#model-line").endswith("R runs your files anew")
        assert "blocks.py" in next(iter(opened.app._notifications)).message

        (tmp_path / "blocks.py").write_text(BLOCKS, encoding="utf-8")
        await opened.press("R")
        await opened.until(lambda: "✗" not in opened.text("#model-line"), "the mended model")


async def test_a_dataset_that_fails_says_so_in_its_own_pane_until_it_is_mended(tmp_path: Path) -> None:
    recipe = own(tmp_path)
    (tmp_path / "data.py").write_text(DATA.replace("self.points = points", "self.points = point"), encoding="utf-8")
    async with studio(tmp_path / "runs", recipe=recipe, loaded=False) as opened:
        await opened.until(lambda: opened.screen.ready and opened.screen.checked, "loading torch")
        await opened.until(lambda: "data.py:3" in opened.text("#data-body"), "the error")
        assert "NameError: name 'point'" in opened.text("#data-body")

        (tmp_path / "data.py").write_text(DATA, encoding="utf-8")
        await opened.press("R")
        await opened.until(lambda: "train 32" in opened.text("#data-body"), "the mended dataset")


async def test_what_is_not_a_persons_own_is_not_offered_for_reloading(tmp_path: Path) -> None:
    async with studio(tmp_path / "runs") as opened:
        assert not opened.screen.check_action("reload", ())
        assert not opened.screen.query_one(DataPane).check_action("ask", ("options",))
        await opened.press("R")
        assert not opened.app._notifications
