"""The live run steered from the studio, branches of earlier runs, and the finders."""

from __future__ import annotations

from pathlib import Path

import pytest
from studio_driver import Studio, studio
from textual.widgets import DataTable, Input, OptionList

from engine.errors import TrainingError
from engine.recipe import Recipe
from engine.runs.directory import RunDirectory, all_runs
from engine.runs.history import Event, History, Progress
from presets import load
from tui.charts.chart import Chart
from tui.training import Desk


def quick(name: str = "line-fit", **changes: object) -> Recipe:
    return load(name).recipe.override({"training.epochs": 2, **changes})


def long(name: str = "line-fit", **changes: object) -> Recipe:
    return load(name).recipe.override({"training.epochs": 100_000, **changes})


def kinds(opened: Studio) -> list[str]:
    return [event.kind for event in opened.app.desk.history.events]


def notices(opened: Studio) -> str:
    return "\n".join(notification.message for notification in opened.app._notifications)


async def training(opened: Studio) -> None:
    await opened.press("t")
    await opened.until_state("training", "validating")


async def test_only_what_was_changed_while_it_trains_is_sent_and_marked(tmp_path: Path) -> None:
    async with studio(tmp_path, recipe=long(**{"optimizer.weight_decay": 0.01})) as opened:
        await training(opened)
        await opened.press("l")
        await opened.until(lambda: opened.app.screen.query("#decay"))
        assert opened.app.screen.query_one("#decay", Input).value == "0.01"
        await opened.press("tab", "up", "tab", "up", "enter")
        await opened.until(lambda: {"weight_decay", "epochs"} <= set(kinds(opened)))
        assert "lr" not in kinds(opened)
        await opened.until(lambda: opened.app.desk.weight_decay() == 0.02, "the weight decay")
        assert opened.app.desk.history.progress.epochs == 100_001
        await opened.until(lambda: "ω" in opened.page().split("Curves")[1], "the mark")


async def test_a_dialog_that_was_left_as_it_was_changes_nothing(tmp_path: Path) -> None:
    async with studio(tmp_path, recipe=long()) as opened:
        await training(opened)
        await opened.press("l")
        await opened.until(lambda: opened.app.screen.query("#rate"))
        await opened.press("enter")
        await opened.pilot.pause(0.5)
        assert opened.app.screen is opened.screen
        assert not {"lr", "weight_decay", "epochs"} & set(kinds(opened))


async def test_fewer_epochs_than_have_begun_are_refused_where_they_are_typed(tmp_path: Path) -> None:
    async with studio(tmp_path, recipe=long()) as opened:
        await training(opened)
        await opened.until(lambda: opened.app.desk.history.progress.epoch >= 2)
        await opened.press("l")
        await opened.until(lambda: opened.app.screen.query("#epochs"))
        opened.app.screen.query_one("#epochs", Input).value = "1"
        await opened.press("enter")
        assert "that epoch has begun" in opened.text("#change-error")


async def test_a_weight_decay_changed_while_it_trains_is_known_after_a_resume(tmp_path: Path) -> None:
    async with studio(tmp_path, recipe=long()) as opened:
        await training(opened)
        opened.app.desk._job.control.set_weight_decay(0.25)
        await opened.until(lambda: "weight_decay" in kinds(opened))
        await opened.press("s")
        await opened.until_state("stopped")
        again = Desk()
        again.resume(next(all_runs(tmp_path)))
        try:
            await opened.until(lambda: again.weight_decay() == 0.25, "the weight decay of the checkpoint")
        finally:
            again.stop()
            again.join()


async def test_a_run_that_stops_at_once_leaves_no_message_over_where_it_is_kept(tmp_path: Path) -> None:
    async with studio(tmp_path, recipe=long()) as opened:
        await training(opened)
        await opened.press("s")
        await opened.until_state("stopped")
        await opened.pilot.pause(1.0)
        assert not opened.app._notifications


async def test_parking_holds_the_run_and_space_lets_it_go_on(tmp_path: Path) -> None:
    async with studio(tmp_path, recipe=long()) as opened:
        await training(opened)
        assert opened.screen.check_action("park", ())
        await opened.press("P")
        await opened.until(lambda: "park" in kinds(opened), "the memory given back")
        assert opened.state == "paused"
        assert not opened.screen.check_action("park", ()), "a parked run can be parked again"
        step = opened.app.desk.history.progress.step
        await opened.press("space")
        await opened.until(lambda: opened.app.desk.history.progress.step > step, "going on")
        assert not opened.app.desk.parked


async def test_a_profile_says_where_its_trace_is(tmp_path: Path) -> None:
    async with studio(tmp_path, recipe=long()) as opened:
        await training(opened)
        await opened.press("x")
        await opened.until(lambda: "trace" in notices(opened), "the notification", seconds=60)
        assert list(next(all_runs(tmp_path)).path.glob("trace-*.json*"))


async def test_a_pause_by_a_full_disk_says_so_below_the_bars(tmp_path: Path) -> None:
    async with studio(tmp_path) as opened:
        history = opened.app.desk.history = History()
        history.progress = Progress("paused", "the disk is full; the training goes on when there is space")
        await opened.until(lambda: "the disk is full" in opened.text("#bars"))
        history.progress = Progress("paused", epochs=3, steps=10)
        await opened.until(lambda: "epoch 1/3" in opened.text("#bars"), "the bars of a pause by the person")


async def test_a_skipped_step_of_the_live_run_is_told_once_and_old_events_of_a_resumed_run_are_not(
    tmp_path: Path,
) -> None:
    async with studio(tmp_path, recipe=long()) as opened:
        await training(opened)
        history = opened.app.desk.history
        for number in range(100):
            history.note(Event(number, "nan", f"skipped [{number}]", time=1.0))  # the clock was set back meanwhile
        await opened.until(lambda: "skipped [0]" in notices(opened))
        await opened.pilot.pause(0.6)
        assert notices(opened).count("skipped") == 1
        assert opened.app.desk.new_events() == []
        history.events = history.events[:1]  # a rollback takes events away, and adds one
        history.note(Event(1, "rollback", "back", time=1.0))
        assert [event.text for event in opened.app.desk.new_events()] == ["back"]


async def test_averaged_weights_are_a_curve_of_their_own_and_in_the_closing_line(tmp_path: Path) -> None:
    recipe = quick("digits-mlp", **{"training.average.kind": "ema", "training.average.decay": 0.9})
    async with studio(tmp_path, recipe=recipe) as opened:
        await opened.press("t")
        await opened.until_state("done")
        lines = opened.screen.query_one("#metric-chart", Chart)._lines
        assert [(line.label, line.marker) for line in lines][1:] == [("val", "◆"), ("val ema", "◇")]
        assert len({line.colour for line in lines}) == 3
        assert "test ema accuracy" in opened.text("#bars")


async def test_a_rate_found_is_set_as_one_step_of_undo(tmp_path: Path) -> None:
    async with studio(tmp_path, recipe=quick("digits-mlp")) as opened:
        before = opened.screen.draft.recipe
        await opened.press("f")
        await opened.until(lambda: opened.app.screen.query("#rates"))
        await opened.until(lambda: not opened.app.screen.query_one("#use").disabled, "a suggestion", seconds=60)
        line = opened.app.screen.query_one("#rates", Chart)._lines[0]
        assert len(line.x) > 20
        assert line.x[-1] / line.x[0] > 1e3
        await opened.press("enter")
        await opened.until(lambda: opened.screen.draft.recipe != before)
        assert 1e-5 < opened.screen.draft.recipe.optimizer.lr < 10
        await opened.press("u")
        assert opened.screen.draft.recipe == before


async def test_escape_ends_the_finder_and_a_training_can_start_at_once(tmp_path: Path) -> None:
    async with studio(tmp_path, recipe=quick("digits-cnn", **{"training.epochs": 50})) as opened:
        before = opened.screen.draft.recipe
        await opened.press("f")
        await opened.until(lambda: opened.app.desk.trying, "the first step")
        await opened.press("escape")
        await opened.until(lambda: opened.app.screen is opened.screen)
        assert not opened.app.desk.trying, "the dialog has closed before its steps had ended"
        assert opened.screen.draft.recipe == before
        await training(opened)


async def test_no_finder_opens_while_a_run_trains_and_no_run_starts_while_steps_are_tried(tmp_path: Path) -> None:
    async with studio(tmp_path, recipe=long()) as opened:
        from engine.training.control import Control

        opened.app.desk._trial = Control()
        await opened.press("t")
        await opened.until(lambda: "still ending" in notices(opened))
        assert opened.state == "ready"
        opened.app.desk._trial = None
        await training(opened)
        for key in ("f", "b"):
            await opened.press(key)
            assert opened.app.screen is opened.screen
        assert not opened.screen.check_action("find_lr", ())


async def test_what_a_finder_runs_into_is_said_in_its_dialog(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise TrainingError("training", "the first loss is not finite", "Check the data.")

    monkeypatch.setattr(Desk, "find_lr", fail)
    async with studio(tmp_path) as opened:
        await opened.press("f")
        await opened.until(lambda: "the first loss is not finite" in opened.page())
        assert opened.app.screen.query_one("#use").disabled
        await opened.press("enter")
        assert opened.app.screen is opened.screen


async def test_the_size_under_the_cursor_is_used_and_the_recommended_one_is_there_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from engine.trials.batch_finder import BatchSizes, Size

    sizes = [Size(1, 0.01, None), Size(2, 0.01, None), Size(4, 0.01, 1 << 30), Size(8, 0.02, None)]

    def measured(desk: Desk, recipe: Recipe, control: object, look: object) -> BatchSizes:
        for size in sizes:
            look(size)  # type: ignore[operator]
        return BatchSizes(sizes, 16)

    monkeypatch.setattr(Desk, "find_batch_size", measured)
    async with studio(tmp_path) as opened:
        await opened.press("b")
        await opened.until(lambda: opened.app.screen.query("#sizes"))
        await opened.until(lambda: "16 do not fit" in opened.page())
        table = opened.app.screen.query_one("#sizes", DataTable)
        assert table.get_row_at(table.cursor_row)[0] == "4"
        assert "1.00 GiB" in opened.page()
        table.focus()
        await opened.press("up", "enter")
        await opened.until(lambda: opened.screen.draft.recipe.data.batch_size == 2)
        await opened.press("u")
        assert opened.screen.draft.recipe.data.batch_size == 64


async def test_real_batch_sizes_are_measured_and_escape_ends_it(tmp_path: Path) -> None:
    async with studio(tmp_path) as opened:
        await opened.press("b")
        await opened.until(lambda: opened.app.screen.query("#sizes"))
        await opened.until(lambda: opened.app.screen.query_one("#sizes", DataTable).row_count >= 4)
        await opened.press("escape")
        await opened.until(lambda: opened.app.screen is opened.screen and not opened.app.desk.trying)


async def branch_of_a_finished_run(opened: Studio) -> RunDirectory:
    await opened.press("t")
    await opened.until_state("done")
    run = next(all_runs(opened.screen.runs_root))
    await opened.press("r")
    await opened.until(lambda: opened.app.screen.query("#runs") and opened.app.screen.query_one("#runs").row_count)
    await opened.press("B")
    await opened.until(lambda: opened.app.screen.query("#pick-list"))
    await opened.until(lambda: opened.app.screen.query_one("#pick-list", OptionList).option_count)
    return run


@pytest.mark.usefixtures("disk_keeps_up")
async def test_a_branch_is_edited_trained_as_a_new_run_and_keeps_its_origin(tmp_path: Path) -> None:
    async with studio(tmp_path, recipe=quick(), size=(120, 40)) as opened:
        run = await branch_of_a_finished_run(opened)
        assert "★ best" in opened.page()
        await opened.press(*"epoch 1", "enter")
        await opened.until(lambda: opened.screen.draft.origin is not None)
        origin = opened.screen.draft.origin
        assert origin is not None
        assert str(origin) == f"from {run.name} at epoch 1"
        await opened.until(lambda: "at epoch 1" in opened.text("#state-line"), "the origin below")
        opened.screen.draft.set("optimizer.lr", 0.001)
        await opened.press("t")
        await opened.until(lambda: len(list(all_runs(tmp_path))) == 2, "the branch")
        await opened.until_state("done")
        new = next(found for found in all_runs(tmp_path) if found.name != run.name)
        assert new.name.startswith("recipe-branch-")
        fact = new.status().facts["origin"]
        assert (fact["run"], fact["checkpoint"]) == (run.name, origin.checkpoint)
        assert new.recipe().optimizer.lr == 0.001
        await opened.press("r")
        await opened.until(lambda: opened.app.screen.query("#runs") and opened.app.screen.query_one("#runs").row_count)
        await opened.until(lambda: f"from {run.name} at step" in opened.text("#runs-line"), "the origin in the list")


async def test_undo_takes_back_the_edits_of_a_branch_and_then_the_branch(tmp_path: Path) -> None:
    async with studio(tmp_path, recipe=quick()) as opened:
        before = opened.screen.draft
        await branch_of_a_finished_run(opened)
        await opened.press("enter")
        await opened.until(lambda: opened.screen.draft.origin is not None)
        opened.screen.draft.set("training.seed", 9)
        await opened.press("u")
        assert opened.screen.draft.origin is not None
        assert opened.screen.check_action("undo", ())
        await opened.press("u")
        assert opened.screen.draft is before
        assert opened.screen.draft.origin is None


async def test_another_preset_drops_a_branch(tmp_path: Path) -> None:
    async with studio(tmp_path, recipe=quick()) as opened:
        await branch_of_a_finished_run(opened)
        await opened.press("enter")
        await opened.until(lambda: opened.screen.draft.origin is not None)
        await opened.press("1", "end")
        await opened.until(lambda: opened.screen.draft.origin is None)


async def test_a_run_without_a_checkpoint_says_so_instead_of_branching(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path, "empty", quick(), "cpu")
    async with studio(tmp_path) as opened:
        await opened.press("r")
        await opened.until(lambda: opened.app.screen.query("#runs") and opened.app.screen.query_one("#runs").row_count)
        await opened.press("B")
        await opened.until(lambda: "has no checkpoint" in notices(opened))
        assert run.name in notices(opened)


async def test_every_key_of_the_studio_is_a_command_of_the_palette_when_it_does_something(tmp_path: Path) -> None:
    async with studio(tmp_path, recipe=long()) as opened:
        idle = {command.title for command in opened.screen.commands()}
        assert {"recipe: find rate", "recipe: find batch", "studio: health", "studio: train"} <= idle
        assert not {"studio: park", "studio: profile", "studio: change"} & idle
        await training(opened)
        live = {command.title for command in opened.screen.commands()}
        assert {"studio: park", "studio: profile", "studio: change", "studio: health"} <= live
        assert not {"recipe: find learning rate", "studio: train"} & live
        for binding in opened.screen.BINDINGS:
            assert binding.id, f"{binding.key} can't be remapped"
            assert binding.tooltip, f"{binding.key} says nothing in the help"
