"""The studio as a person uses it, by keys and by mouse."""

from __future__ import annotations

import gc
import threading
import weakref
from pathlib import Path

import pytest
from studio_driver import Studio, studio
from textual.widgets import Button, DataTable, Input, OptionList, Tabs

from engine.recipe import Recipe
from engine.runs.history import History, Progress
from presets import load, presets
from tui.charts.chart import Chart
from tui.panes.curves import CurvesPane
from tui.screens.studio import PANES
from tui.widgets.field import Field


def quick(name: str = "line-fit", **changes: object) -> Recipe:
    return load(name).recipe.override({"training.epochs": 2, **changes})


def long(name: str = "line-fit") -> Recipe:
    return load(name).recipe.override({"training.epochs": 100_000})


def layers(opened: Studio) -> list[str]:
    return [layer.name for layer in opened.screen.draft.recipe.model.layers]


async def test_choosing_a_preset_by_keys_shows_its_model_data_and_settings(tmp_path: Path) -> None:
    async with studio(tmp_path) as opened:
        await opened.press("down")
        await opened.until(lambda: "431,080 parameters" in opened.text("#model-line"), "the model of digits-cnn")
        table = opened.screen.query_one("#layers", DataTable)
        assert table.row_count == 10
        assert "20×24×24" in opened.page()
        assert "mnist5k" in opened.text("#data-body")
        assert "train 4,000 · val 500 · test 500" in opened.text("#data-body")


async def test_every_preset_can_be_walked_through_without_an_error(tmp_path: Path) -> None:
    async with studio(tmp_path) as opened:
        for _ in range(12):
            await opened.press("down")
            await opened.until(lambda: opened.screen.checked.recipe == opened.screen.draft.recipe)
            assert opened.screen.checked.problems == ()


async def test_training_ends_with_curves_best_value_and_the_run_directory(tmp_path: Path) -> None:
    async with studio(tmp_path, recipe=quick("digits-mlp")) as opened:
        await opened.press("t")
        await opened.until_state("done")
        page = opened.page()
        assert "best val accuracy" in page
        assert "test accuracy" in page
        assert str(tmp_path) in page.replace("\n", "")
        loss = opened.screen.query_one("#loss-chart", Chart)
        assert [line.label for line in loss._lines] == ["train", "val"]
        assert len(loss._lines[0].x) == 126, "a training point for every step, not for every epoch"
        assert any("⠀" < character <= "⣿" for character in page), "no curve is drawn"


def own_threads() -> int:
    """Threads that are not of asyncio's pool, which grows to a size of its own."""
    return sum(not thread.name.startswith("asyncio") for thread in threading.enumerate())


async def test_run_after_run_adds_no_threads_and_keeps_no_model(tmp_path: Path) -> None:
    async with studio(tmp_path, recipe=quick()) as opened:
        jobs = []
        for number in range(5):
            await opened.press("t")
            await opened.until(lambda n=number: len(list(tmp_path.iterdir())) == n + 1, "a new run")
            await opened.until_state("done")
            await opened.until(lambda: not opened.app.desk.live)
            jobs.append(weakref.ref(opened.app.desk.job))
            if number == 1:
                threads = own_threads()
        assert own_threads() <= threads
        gc.collect()
        assert sum(job() is not None for job in jobs) <= 1, "finished jobs are kept alive"


async def test_pause_holds_the_training_and_the_same_key_lets_it_go_on(tmp_path: Path) -> None:
    async with studio(tmp_path, recipe=long()) as opened:
        await opened.press("t")
        await opened.until_state("training", "validating")
        await opened.press("space")
        await opened.until_state("paused")
        step = opened.app.desk.history.progress.step
        await opened.pilot.pause(0.5)
        assert opened.app.desk.history.progress.step == step
        await opened.press("space")
        await opened.until(lambda: opened.app.desk.history.progress.step > step, "going on")


async def test_stop_ends_the_run_with_a_checkpoint_that_the_runs_screen_resumes(tmp_path: Path) -> None:
    async with studio(tmp_path, recipe=long()) as opened:
        await opened.press("t")
        await opened.until(lambda: opened.app.desk.history and opened.app.desk.history.progress.step > 50)
        await opened.press("s")
        await opened.until_state("stopped")
        run = next(tmp_path.iterdir())
        assert list((run / "checkpoints").glob("epoch-*"))
        step = opened.app.desk.history.progress.step
        await opened.press("r")
        await opened.until(lambda: opened.app.screen.query("#runs") and opened.app.screen.query_one("#runs").row_count)
        await opened.press("R")
        await opened.until(lambda: opened.app.desk.live and opened.app.desk.history.progress.step > step, "resuming")


async def test_the_learning_rate_is_changed_while_it_trains(tmp_path: Path) -> None:
    async with studio(tmp_path, recipe=long()) as opened:
        await opened.press("t")
        await opened.until_state("training", "validating")
        await opened.press("l")
        await opened.until(lambda: opened.app.screen.query("#rate"))
        await opened.press("up", "enter")
        await opened.until(lambda: opened.app.desk.history.progress.learning_rate == pytest.approx(0.1), "the new rate")
        await opened.until(lambda: "η" in opened.page().split("Curves")[1], "the mark under the curve")


async def test_a_wrong_rate_is_refused_where_it_is_typed(tmp_path: Path) -> None:
    async with studio(tmp_path, recipe=long()) as opened:
        await opened.press("t")
        await opened.until_state("training", "validating")
        await opened.press("l")
        await opened.until(lambda: opened.app.screen.query("#rate"))
        opened.app.screen.query_one("#rate", Input).value = "fast"
        await opened.press("enter")
        assert "not a positive number" in opened.text("#change-error")
        await opened.press("escape")
        assert opened.app.screen is opened.screen


async def test_a_wrong_setting_is_said_at_once_changes_nothing_and_holds_the_start(tmp_path: Path) -> None:
    async with studio(tmp_path) as opened:
        before = opened.screen.draft.recipe
        field = next(field for field in opened.screen.query(Field) if field.key == "optimizer.momentum")
        field.begin()
        await opened.press("enter")
        field.query_one(Input).value = "lots"
        await opened.pilot.pause()
        assert field.has_class("-wrong")
        assert "'lots' is not float" in opened.text("#settings-help")
        assert opened.screen.draft.recipe == before
        await opened.press("escape", "t")
        await opened.pilot.pause(0.3)
        assert opened.state == "ready"
        assert not tmp_path.exists() or not list(tmp_path.iterdir())


async def test_a_value_that_fitted_until_more_was_typed_changes_nothing(tmp_path: Path) -> None:
    async with studio(tmp_path) as opened:
        before = opened.screen.draft.recipe
        field = next(field for field in opened.screen.query(Field) if field.key == "training.limit_batches")
        field.begin()
        await opened.press("enter", "ctrl+a", "ctrl+k", "5")
        assert opened.screen.draft.recipe.training.limit_batches == 5
        await opened.press("x")
        assert "'5x' is not a whole number" in opened.text("#settings-help")
        assert opened.screen.draft.recipe == before
        assert not opened.screen.draft.edited
        await opened.press("backspace", "enter")
        assert opened.screen.draft.recipe.training.limit_batches == 5
        await opened.press("u")
        assert opened.screen.draft.recipe == before


async def test_a_setting_is_edited_with_torchs_own_help_and_reaches_the_run(tmp_path: Path) -> None:
    async with studio(tmp_path, recipe=quick()) as opened:
        field = next(field for field in opened.screen.query(Field) if field.key == "optimizer.weight_decay")
        field.begin()
        await opened.pilot.pause()
        assert "weight decay (L2 penalty)" in opened.text("#settings-help")
        await opened.press("enter", "0", ".", "0", "1", "enter", "t")
        await opened.until_state("done")
        assert "weight_decay = 0.01" in (next(tmp_path.iterdir()) / "recipe.toml").read_text()


async def test_a_layer_is_added_by_keys_its_shape_appears_and_undo_takes_it_back(tmp_path: Path) -> None:
    async with studio(tmp_path) as opened:
        start = layers(opened)
        await opened.press("2", "down", "a")
        await opened.until(lambda: opened.app.screen.query("#pick-search"))
        await opened.press(*"Linear", "enter")
        await opened.until(lambda: opened.app.screen.query("#edit-help"))
        await opened.press("6", "4", "enter")
        await opened.until(lambda: layers(opened) == ["Flatten", "Linear", "Linear", "ReLU", "Linear"])
        await opened.until(lambda: opened.screen.checked.parameters == 784 * 128 + 128 + 128 * 64 + 64 + 64 * 10 + 10)
        await opened.press("u")
        assert layers(opened) == start


async def test_layers_are_moved_edited_and_removed_and_a_mismatch_is_named_where_it_arises(tmp_path: Path) -> None:
    async with studio(tmp_path) as opened:
        await opened.press("2", "K")
        assert layers(opened) == ["Flatten", "Linear", "ReLU", "Linear"]
        await opened.press("J")
        await opened.until(lambda: layers(opened) == ["Linear", "Flatten", "ReLU", "Linear"])
        await opened.press("u", "home", "d")
        await opened.until(lambda: layers(opened) == ["Linear", "ReLU", "Linear"])
        await opened.until(lambda: "✗" in opened.text("#model-line"), "the mismatch")
        assert "the data has 10 classes" in opened.text("#model-line")
        await opened.press("t")
        await opened.pilot.pause(0.3)
        assert opened.state == "ready", "a recipe with a problem was started"


async def test_another_dataset_reinfers_the_model(tmp_path: Path) -> None:
    async with studio(tmp_path) as opened:
        await opened.press("3", "o")
        await opened.until(lambda: opened.app.screen.query("#pick-search"))
        await opened.press(*"breast", "enter")
        await opened.until(lambda: opened.screen.checked.recipe.data.name == "breast_cancer")
        assert opened.screen.checked.parameters == 30 * 128 + 128 + 128 * 2 + 2
        await opened.until(lambda: "malignant" in opened.text("#data-body"), "the preview")


async def test_another_optimizer_brings_its_own_settings(tmp_path: Path) -> None:
    async with studio(tmp_path) as opened:
        opened.screen.query_one("#choose-optimizer", Button).press()
        await opened.until(lambda: opened.app.screen.query("#pick-search"))
        await opened.press(*"AdamW", "enter")
        await opened.until(lambda: opened.screen.draft.recipe.optimizer.name == "AdamW")
        await opened.until(lambda: any(field.key == "optimizer.betas" for field in opened.screen.query(Field)))
        assert not any(field.key == "optimizer.momentum" for field in opened.screen.query(Field))


async def test_a_dataset_that_cant_be_downloaded_names_the_bundled_twin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torchvision

    monkeypatch.setenv("TORCH_TUI_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(torchvision.datasets.MNIST, "mirrors", ["http://127.0.0.1:9/"])
    async with studio(tmp_path / "runs", recipe=load("mnist-mlp").recipe) as opened:
        assert "↓ 12 MB to download" in opened.text("#data-body")
        await opened.press("t")
        await opened.until_state("failed")
        assert "mnist5k" in opened.text("#bars")
        assert "can't be downloaded" in opened.text("#bars")


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("raise ValueError('not today')", "ValueError: not today"),
        ("raise SystemExit(3)", "SystemExit"),
        ("return self.layer(x) * float('nan')", "the loss is not finite at step 1"),
        ("return torch.empty(10**15) + x", "out of memory"),
    ],
)
async def test_a_failing_module_fails_its_run_and_the_studio_goes_on(tmp_path: Path, body: str, reason: str) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "import torch\nfrom torch import nn\n\nclass Mine(nn.Module):\n"
        "    def __init__(self):\n        super().__init__()\n        self.layer = nn.Linear(1, 1)\n"
        "    def forward(self, x):\n        if x.device.type == 'meta':\n            return self.layer(x)\n"
        f"        {body}\n"
    )
    recipe = quick().values()
    recipe["model"] = {"python": f"{file}:Mine"}
    async with studio(tmp_path / "runs", recipe=Recipe.from_values(recipe)) as opened:
        await opened.press("t")
        await opened.until_state("failed")
        assert reason in opened.text("#bars")
        run = next((tmp_path / "runs").iterdir())
        assert "Traceback" in (run / "log.txt").read_text()
        assert "Traceback" not in opened.page()
        opened.screen.query_one("#preset-list", OptionList).focus()
        await opened.press("end")
        opened.screen.draft.set("training.epochs", 1)
        await opened.press("t")
        await opened.until_state("done")


async def test_leaving_while_a_run_trains_is_asked_for_and_stops_with_a_checkpoint(tmp_path: Path) -> None:
    async with studio(tmp_path, recipe=long()) as opened:
        await opened.press("t")
        await opened.until_state("training", "validating")
        await opened.press("q")
        await opened.until(lambda: opened.app.screen.query("#answer-stay"))
        await opened.press("enter")
        assert opened.app.desk.live
        await opened.press("q")
        await opened.until(lambda: opened.app.screen.query("#answer-stop"))
        await opened.press("right", "enter")
        await opened.until(lambda: not opened.app.desk.live, "the end of the run")
        assert opened.state == "stopped"


async def test_training_that_was_asked_for_too_early_starts_when_torch_is_loaded(tmp_path: Path) -> None:
    async with studio(tmp_path, recipe=quick(), loaded=False) as opened:
        await opened.press("t")
        await opened.until_state("done")


async def test_at_80_columns_one_pane_is_shown_and_numbers_switch(tmp_path: Path) -> None:
    async with studio(tmp_path, size=(80, 24), recipe=quick()) as opened:
        for number, name in enumerate(PANES, 1):
            await opened.press(str(number))
            shown = [pane.id for pane in opened.screen.query("#panes > *") if pane.display]
            assert shown == [name]
        await opened.press("escape", "t")
        await opened.until_state("done")
        assert opened.screen.query_one("#curves").display, "training does not show its curves"


async def test_a_pane_is_shown_alone_and_back(tmp_path: Path) -> None:
    async with studio(tmp_path) as opened:
        await opened.press("5", "m")
        assert opened.screen.maximized is opened.screen.query_one("#curves")
        await opened.press("m")
        assert opened.screen.maximized is None


async def test_a_tiny_window_neither_fails_nor_loses_anything(tmp_path: Path) -> None:
    async with studio(tmp_path, recipe=quick()) as opened:
        for size in ((20, 5), (1, 1), (120, 40)):
            await opened.pilot.resize_terminal(*size)
            await opened.pilot.pause(0.3)
        await opened.press("t")
        await opened.until_state("done")


async def test_the_filter_narrows_the_presets_and_escape_brings_them_back(tmp_path: Path) -> None:
    async with studio(tmp_path) as opened:
        await opened.press("slash", *"diabetes")
        options = opened.screen.query_one("#preset-list", OptionList)
        assert [option.id for option in options.options if option.id] == ["diabetes-mlp"]
        await opened.press("escape")
        assert len([option for option in options.options if option.id]) == len(presets())
        await opened.press("slash", *"zzzz")
        assert "No preset matches" in opened.page()


async def test_the_train_button_works_by_mouse(tmp_path: Path) -> None:
    async with studio(tmp_path, recipe=quick()) as opened:
        await opened.pilot.click("#press-train")
        await opened.until_state("done")


async def test_the_studios_keys_work_while_one_walks_over_the_settings(tmp_path: Path) -> None:
    async with studio(tmp_path, size=(80, 24)) as opened:
        before = opened.screen.draft.recipe
        await opened.press("4", "down", "down", "5")
        assert opened.screen.query_one("#curves").display
        assert opened.screen.draft.recipe == before, "a pane's number was typed into a field"


async def test_looking_at_another_preset_loses_no_edit_and_no_undo(tmp_path: Path) -> None:
    async with studio(tmp_path) as opened:
        opened.screen.draft.set("training.epochs", 7)
        await opened.press("down", "up")
        assert opened.screen.draft.recipe.training.epochs == 7
        await opened.press("u")
        assert opened.screen.draft.recipe.training.epochs == 30


async def test_samples_are_shown_again_after_looking_at_another_preset(tmp_path: Path) -> None:
    async with studio(tmp_path) as opened:
        for keys in (("down", "down", "down", "up", "up", "up"), ("end",), ("home",)):
            await opened.press(*keys)
        await opened.until(lambda: "balance" in opened.text("#data-body"), "the samples")


async def test_a_filter_finds_words_before_scattered_letters(tmp_path: Path) -> None:
    async with studio(tmp_path) as opened:
        await opened.press("slash", *"cifar")
        options = opened.screen.query_one("#preset-list", OptionList)
        assert [option.id for option in options.options] == ["cifar10-resnet18", "cifar10-fast"]


async def test_escape_closes_the_help(tmp_path: Path) -> None:
    async with studio(tmp_path) as opened:
        await opened.press("question_mark")
        await opened.until(lambda: opened.screen.query("HelpPanel"))
        await opened.press("escape")
        await opened.until(lambda: not opened.screen.query("HelpPanel"))


async def test_editing_while_a_run_trains_changes_nothing_of_that_run(tmp_path: Path) -> None:
    """Shapes are traced in another thread; the training's random numbers must not notice."""
    recipe = load("digits-mlp").recipe.values()
    recipe["training"]["epochs"] = 12
    first, second, *rest = recipe["model"]["layers"]
    recipe["model"]["layers"] = [first, second, {"name": "Dropout", "p": 0.3}, *rest]
    losses = []
    for disturbed in (False, True):
        runs = tmp_path / str(disturbed)
        async with studio(runs, recipe=Recipe.from_values(recipe)) as opened:
            await opened.press("t")
            while disturbed and opened.state not in ("done", "failed"):
                await opened.press("1", "end", "home", "down", "down", "down", "down", "down", "home")
            await opened.until_state("done")
            losses.append(opened.app.desk.history.series["train/loss"].curve()[1].tolist())
    assert losses[0] == losses[1]


async def test_a_download_shows_how_far_it_is(tmp_path: Path) -> None:
    async with studio(tmp_path) as opened:
        history = History()
        history.progress = Progress("downloading", "train-images: 4.0 of 10.0 MB", 0.4)
        opened.app.desk.history = history
        await opened.until(lambda: "train-images: 4.0 of 10.0 MB" in opened.text("#bars"), "how far it is")
        bar = opened.text("#bars").split("MB")[1]
        assert bar.count("━") / (bar.count("━") + bar.count("╸") + bar.count("─")) == pytest.approx(0.4, abs=0.05)


async def test_the_pane_with_the_focus_is_the_one_that_stays_when_the_terminal_shrinks(tmp_path: Path) -> None:
    async with studio(tmp_path) as opened:
        await opened.press("4")
        field = opened.screen.focused
        curves = opened.screen.query_one(CurvesPane)
        for focused in (field, curves):
            assert focused is not None
            opened.screen.set_focus(focused)
            await opened.pilot.resize_terminal(80, 24)
            await opened.pilot.pause()
            assert opened.screen.focused is focused
            assert focused.region.height > 0
            assert opened.screen.query_one(Tabs).active == ("tab-curves" if focused is curves else "tab-settings")
            await opened.pilot.resize_terminal(120, 40)
            await opened.pilot.pause()
