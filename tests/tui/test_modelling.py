"""Everything that can be done to a model in its pane, by keys and by mouse."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from textual.events import Paste
from textual.widgets import DataTable

from engine import catalog
from engine.models.blocks import CONTAINERS as BLOCKS
from engine.recipe import Layer, Recipe
from engine.recipe.tree import CONTAINERS, from_text, to_text
from tests.tui.studio_driver import Studio, studio
from tui.dialogs.edit_part import asked
from tui.panes.model import ModelPane
from tui.screens.modelling import section_of
from tui.search import find

START = ["Flatten", "Linear", "ReLU", "Linear"]


def nested(layers: tuple[Layer, ...]) -> list[Any]:
    """Names, those inside a container in a list behind it."""
    found: list[Any] = []
    for layer in layers:
        found += [layer.name, nested(layer.layers)] if layer.layers else [layer.name]
    return found


def names(opened: Studio) -> list[Any]:
    return nested(opened.screen.draft.recipe.model.layers)


async def becomes(opened: Studio, *expected: Any) -> None:
    """Wait until the model is this, and until the pane shows it."""
    await opened.until(lambda: names(opened) == list(expected), f"{expected}, now {names(opened)}")
    recipe = opened.screen.draft.recipe
    await opened.until(lambda: opened.screen.checked.recipe == recipe, "the check")
    await opened.pilot.pause()


async def pick(opened: Studio, word: str) -> None:
    await opened.until(lambda: opened.app.screen.query("#pick-search"), "the list")
    await opened.press(*word, "enter")


def rows(opened: Studio) -> list[str]:
    table = opened.screen.query_one("#layers", DataTable)
    return [str(table.get_row_at(index)[0]).rstrip() for index in range(table.row_count)]


def line(opened: Studio) -> str:
    return opened.text("#model-line")


def made_of(*layers: dict[str, Any], data: str = "mnist5k") -> Recipe:
    return Recipe.from_values({"title": "mine", "data": {"name": data}, "model": {"layers": list(layers)}})


def test_every_layer_stands_in_a_section_of_torchs_documentation() -> None:
    sections = {name: section_of(entry) for name, entry in catalog.layers().items()}
    assert sections["InstanceNorm1d"] == sections["BatchNorm2d"] == "Normalization layers"
    assert sections["LSTM"] == "Recurrent layers"
    assert not {entry.name for entry in catalog.layers().values() if sections[entry.name] == entry.group}


def test_a_layer_is_found_by_what_its_documentation_says() -> None:
    layers = list(catalog.layers().values())

    def found(query: str) -> list[str]:
        return [each.name for each in find(query, layers, lambda e: e.name, lambda e: e.summary, lambda e: e.doc)]

    assert found("bidirectional") == ["GRU", "LSTM", "RNN"]
    assert found("conv2") == ["Conv2d"], "the name goes first"
    assert found("sqntl") == ["Sequential"], "letters in order go last"
    assert found("zzz") == []


def test_a_form_asks_for_all_but_what_can_not_be_otherwise() -> None:
    gru = catalog.layers()["GRU"]
    names = [each.name for each in asked(gru)]
    assert {"num_layers", "bidirectional", "returns"} <= set(names)
    assert {each.name for each in gru.parameters} - set(names) == {"batch_first"}


def test_the_blocks_known_before_torch_is_loaded_are_all_there_are() -> None:
    assert {block.__name__ for block in BLOCKS} == CONTAINERS


async def test_a_layer_is_put_into_a_block_doubled_moved_out_and_the_block_taken_away(tmp_path: Path) -> None:
    async with studio(tmp_path) as opened:
        await opened.press("2", "down", "down", "n")
        await pick(opened, "Resid")
        await becomes(opened, "Flatten", "Linear", "Residual", ["ReLU"], "Linear")
        assert rows(opened)[2:4] == ["▾ Residual", "  ReLU"]
        await opened.press("down", "D")
        await becomes(opened, "Flatten", "Linear", "Residual", ["ReLU", "ReLU"], "Linear")
        await opened.press("J")
        await becomes(opened, "Flatten", "Linear", "Residual", ["ReLU"], "ReLU", "Linear")
        await opened.press("K", "K")
        await becomes(opened, "Flatten", "Linear", "Residual", ["ReLU", "ReLU"], "Linear")
        await opened.press("left", "N")
        await becomes(opened, "Flatten", "Linear", "ReLU", "ReLU", "Linear")
        await opened.press("u", "u", "u", "u", "u")
        assert names(opened)[:2] == ["Flatten", "Linear"]
        await opened.press("u")
        await becomes(opened, *START)
        await opened.press(*"UUUUUU")
        await becomes(opened, "Flatten", "Linear", "ReLU", "ReLU", "Linear")


async def test_a_layer_is_added_inside_a_block_and_the_block_says_how_often_it_repeats(tmp_path: Path) -> None:
    async with studio(tmp_path) as opened:
        await opened.press("2", "down", "down", "n")
        await pick(opened, "Repeat")
        await opened.until(lambda: opened.app.screen.query("#edit-help"), "the form")
        await opened.press("3", "enter")
        await becomes(opened, "Flatten", "Linear", "Repeat", ["ReLU"], "Linear")
        await opened.press("A")
        await pick(opened, "Linear")
        await opened.until(lambda: opened.app.screen.query("#edit-help"), "the form")
        await opened.press("1", "2", "8", "enter")
        await becomes(opened, "Flatten", "Linear", "Repeat", ["Linear", "ReLU"], "Linear")
        assert opened.screen.checked.parameters == 101_770 + 3 * (128 * 128 + 128)


async def test_what_is_inside_folds_away_by_key_and_by_a_click_on_its_mark(tmp_path: Path) -> None:
    recipe = made_of(
        {"name": "Flatten"},
        {"name": "Residual", "layers": [{"name": "ReLU"}, {"name": "Sequential", "layers": [{"name": "Tanh"}]}]},
        {"name": "Linear", "out_features": "classes"},
    )
    async with studio(tmp_path, recipe=recipe) as opened:
        await opened.press("2")
        whole = ["Flatten", "▾ Residual", "  ReLU", "  ▾ Sequential", "    Tanh", "Linear classes"]
        await opened.until(lambda: rows(opened) == whole, "the rows")
        await opened.press("down", "left")
        assert rows(opened) == ["Flatten", "▸ Residual", "Linear classes"]
        await opened.press("right", "down", "down", "down", "left", "left")
        assert rows(opened) == ["Flatten", "▾ Residual", "  ReLU", "  ▸ Sequential", "Linear classes"]
        await opened.press("left")
        assert opened.screen.query_one(ModelPane).path == (1,)
        # A cell of padding, then the mark, on the row below the header.
        await opened.pilot.click("#layers", offset=(1, 2))
        await opened.until(lambda: rows(opened) == ["Flatten", "▸ Residual", "Linear classes"], "the fold")


async def test_a_copy_goes_to_another_recipe_and_text_from_the_terminal_is_pasted(tmp_path: Path) -> None:
    async with studio(tmp_path) as opened:
        await opened.press("2", "p")
        assert names(opened) == START, "there was nothing to paste"
        await opened.press("down", "y", "1", "down")
        await opened.until(lambda: opened.screen.draft.name == "digits-cnn", "the other preset")
        before = names(opened)
        await opened.press("2", "end", "p")
        await becomes(opened, *before, "Linear")
        assert opened.screen.draft.recipe.model.layers[-1].parameters == {"out_features": 128}
        text = to_text((Layer.model_validate({"name": "Sequential", "layers": [{"name": "Tanh"}]}),))
        opened.screen.query_one("#layers").post_message(Paste(text.replace("\n", "\r")))  # as terminals send it
        await becomes(opened, *before, "Linear", "Sequential", ["Tanh"])
        opened.screen.query_one("#layers").post_message(Paste("rm -rf /"))
        await opened.until(lambda: "Not pasted" in [each.title for each in opened.app._notifications], "the refusal")
        assert names(opened) == [*before, "Linear", "Sequential", ["Tanh"]]


async def test_a_layer_gives_way_to_another_that_keeps_what_it_can(tmp_path: Path) -> None:
    async with studio(tmp_path, recipe=made_of({"name": "Flatten"}, {"name": "LSTM", "hidden_size": 7})) as opened:
        await opened.press("2", "down", "=")
        await pick(opened, "GRU")
        await becomes(opened, "Flatten", "GRU")
        assert opened.screen.draft.recipe.model.layers[1].parameters == {"hidden_size": 7}


async def test_a_mismatch_is_mended_by_one_key_and_another_way_is_one_key_away(tmp_path: Path) -> None:
    recipe = made_of(
        {"name": "Conv2d", "out_channels": 16, "kernel_size": 5},
        {"name": "Linear", "in_features": 256, "out_features": "classes"},
    )
    async with studio(tmp_path, recipe=recipe) as opened:
        await opened.press("2")
        await opened.until(lambda: "expects 256 features" in line(opened), "the mismatch")
        assert "the layer above gives 16×24×24 = 9216" in line(opened)
        assert ". add a Flatten above (1 of " in line(opened)
        await opened.press("comma")
        assert ". add adaptive average pooling above (2 of " in line(opened)
        await opened.press("full_stop")
        await becomes(opened, "Conv2d", "AdaptiveAvgPool2d", "Flatten", "Linear")
        await opened.until(lambda: "✗" not in line(opened), "the mend")
        assert opened.screen.checked.problems == ()
        await opened.press("u")
        await becomes(opened, "Conv2d", "Linear")
        # By mouse: the suggestion, and behind it the way to another.
        await opened.until(lambda: "(1 of 4" in opened.page(), "the mismatch")
        await opened.pilot.click("#model-line", offset=(26, 2))
        await opened.until(lambda: ". add adaptive average pooling above (2 of " in line(opened), "the other")
        await opened.pilot.click("#model-line", offset=(4, 2))
        await becomes(opened, "Conv2d", "AdaptiveAvgPool2d", "Flatten", "Linear")


async def test_a_zoo_model_is_mended_by_a_transform(tmp_path: Path) -> None:
    values = {"title": "zoo", "data": {"name": "mnist5k"}, "model": {"zoo": "vgg11"}}
    async with studio(tmp_path, recipe=Recipe.from_values(values)) as opened:
        await opened.press("2")
        await opened.until(lambda: ". add Resize to 32×32 (1 of 2" in line(opened), "the mend", seconds=60)
        assert "vgg11 fails on samples of 1×28×28: they are too small." in line(opened)
        await opened.press("full_stop")
        await opened.until(lambda: "parameters" in line(opened), "the model")
        assert opened.screen.draft.recipe.data.transforms[0].name == "Resize"
        await opened.press("u")
        assert opened.screen.draft.recipe.data.transforms == ()


async def test_a_model_made_for_other_data_is_fitted_by_one_key(tmp_path: Path) -> None:
    recipe = made_of(
        {"name": "Conv2d", "in_channels": 3, "out_channels": 8, "kernel_size": 3},
        {"name": "Flatten"},
        {"name": "Linear", "in_features": 7200, "out_features": 100},
    )
    async with studio(tmp_path, recipe=recipe) as opened:
        await opened.press("2")
        await opened.until(lambda: "expects 3 channels" in line(opened), "the mismatch")
        await opened.press("F")
        await opened.until(lambda: opened.screen.checked.problems == (), "the fit")
        assert names(opened) == ["Conv2d", "Flatten", "Linear"]
        assert opened.screen.draft.recipe.model.layers[2].parameters == {"out_features": "classes"}


async def test_the_right_button_offers_what_can_be_done(tmp_path: Path) -> None:
    async with studio(tmp_path) as opened:
        await opened.press("2")
        await opened.pilot.click("#layers", offset=(4, 3), button=3)
        await opened.until(lambda: opened.app.screen.query("#pick-search"), "the menu")
        page = opened.page()
        assert "Double it" in page
        assert "Put it into a block" in page
        assert "Take the block away" not in page, "ReLU is no block"
        await opened.press(*"Double", "enter")
        await becomes(opened, "Flatten", "Linear", "ReLU", "ReLU", "Linear")


async def test_a_model_of_torchvision_is_shown_but_not_edited(tmp_path: Path) -> None:
    values = {"title": "zoo", "data": {"name": "CIFAR10"}, "model": {"zoo": "resnet18"}}
    async with studio(tmp_path, recipe=Recipe.from_values(values)) as opened:
        await opened.press("2", "m")
        await opened.until(lambda: "layer1: Sequential" in "".join(rows(opened)), "the modules", seconds=60)
        assert not any(row.startswith("  ") for row in rows(opened))
        await opened.press("end", "up", "up", "enter")
        await opened.until(
            lambda: any(row.startswith("  ▸ 0: BasicBlock") for row in rows(opened)), "the blocks inside"
        )
        before = opened.screen.draft.recipe
        why = "resnet18 comes whole from torchvision: its layers can't be edited. z chooses another model."
        for key in ("d", "n", "y", "p"):
            opened.app.clear_notifications()
            await opened.press(key)
            assert [each.message for each in opened.app._notifications] == [why], key
        await opened.pilot.click("#layers", offset=(4, 3), button=3)
        assert opened.app.screen is opened.screen, "there is no menu"
        assert opened.screen.draft.recipe is before
        await opened.press("home")
        assert "11,181,642 parameters" in line(opened)


async def test_a_removed_model_says_so_and_layers_can_be_added_again(tmp_path: Path) -> None:
    async with studio(tmp_path, recipe=made_of({"name": "Flatten"})) as opened:
        await opened.press("2", "d")
        await becomes(opened)
        await opened.until(lambda: "has no layers" in line(opened), "the remark")
        await opened.press("g", "d", "D", "enter")
        assert opened.app.screen is opened.screen, "there is nothing to draw"
        await opened.press("backslash")
        await pick(opened, "Draw")
        await opened.until(lambda: opened.app.screen.query("#diagram"), "the drawing")
        assert "┃ ✗ no layers ┃" in opened.page()
        await opened.press("escape")
        await opened.press("a")
        await pick(opened, "Flatten")
        await becomes(opened, "Flatten")


@pytest.mark.parametrize("text", ["", "[[model.layers]]\nnme = 1", "x = [", "[data]\nname = 'a'", "layers = 3"])
def test_text_that_is_no_layers_is_refused_in_words(text: str) -> None:
    from engine.errors import RecipeError

    with pytest.raises(RecipeError, match="pasted text"):
        from_text(text)


async def test_where_there_is_room_each_layer_shows_its_costs(tmp_path: Path) -> None:
    async with studio(tmp_path, size=(120, 40)) as opened:
        await opened.press("2")
        assert "FLOPs" not in opened.page()
        await opened.press("m")
        await opened.until(lambda: "FLOPs" in opened.page(), "the columns")
        page = opened.page()
        assert all(word in page for word in ("Memory", "Share", "201 k", "kept for a batch of 64"))


async def test_a_misspelt_layer_is_one_key_from_what_was_meant(tmp_path: Path) -> None:
    recipe = made_of({"name": "Flaten"}, {"name": "Linear", "out_features": "classes"})
    async with studio(tmp_path, recipe=recipe) as opened:
        await opened.press("2")
        await opened.until(lambda: "no layer 'Flaten'" in line(opened), "the mistake")
        assert ". make it Flatten (1 of 2" in line(opened)
        await opened.press("full_stop")
        await becomes(opened, "Flatten", "Linear")


async def test_where_only_removing_is_proposed_the_line_says_what_else_would_do(tmp_path: Path) -> None:
    recipe = made_of({"name": "Flatten"}, {"name": "Residual"}, {"name": "Linear", "out_features": "classes"})
    async with studio(tmp_path, recipe=recipe) as opened:
        await opened.press("2", "down")
        await opened.until(lambda: "Residual is empty. Add a layer to it, or remove it." in line(opened), "the remark")
        assert ". remove Residual" in line(opened)
        await opened.press("a")
        await opened.until(lambda: opened.app.screen.query("#pick-search"), "the list")
        assert "Add a layer in Residual" in opened.page(), "an empty block is filled"
        await opened.press(*"Tanh", "enter")
        await becomes(opened, "Flatten", "Residual", ["Tanh"], "Linear")
        await opened.press("up", "a")
        await opened.until(lambda: opened.app.screen.query("#pick-search"), "the list")
        assert "Add a layer below Residual" in opened.page()


async def test_a_list_without_documentation_leaves_no_room_for_it(tmp_path: Path) -> None:
    async with studio(tmp_path) as opened:
        await opened.press("2", "backslash")
        await opened.until(lambda: opened.app.screen.query("#pick-search"), "the menu")
        assert not opened.app.screen.query_one("#pick-doc-scroll").display
        assert opened.app.screen.query_one(".dialog").size.height < 30
        await opened.press("escape", "a")
        await opened.until(lambda: opened.app.screen.query("#pick-search"), "the layers")
        assert opened.app.screen.query_one("#pick-doc-scroll").display
        await opened.press(*"relu6q")
        await opened.until(lambda: "Nothing matches 'relu6q'" in opened.page(), "the search")
        assert opened.text("#pick-doc") == "", "what is not found has no documentation"
