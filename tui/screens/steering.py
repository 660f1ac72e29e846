"""The run: started, branched, and told what to do while it trains; what happens to it is told the person."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from textual import work
from textual.screen import ModalScreen

from engine.errors import StudioError
from engine.runs.directory import RunDirectory
from tui.dialogs.pick import Choice, PickScreen
from tui.dialogs.runs import RunChosen, RunsScreen
from tui.draft import Draft, Origin
from tui.news import News
from tui.panes.log import LogPane
from tui.screens.choosing import ChoosingScreen
from tui.training import Changes, Desk
from tui.widgets.field import Field

_STAMP = re.compile(r"-\d{8}-\d{6}(-\d+)?$")
_FOR_LIVE = frozenset({"pause", "park", "stop", "checkpoint", "change", "profile"})
_FOR_IDLE = frozenset({"train", "find_lr", "find_batch_size"})
_ANSWER_S = 0.05
_LONG_STEP_S = 0.7  # so long after an order it is said that it is still to be obeyed


class SteeringScreen(ChoosingScreen):
    """A screen that starts runs and steers the live one."""

    def __init__(self, runs_root: Path, draft: Draft, desk: Desk) -> None:
        super().__init__(draft, desk)
        self.runs_root = runs_root
        self._before_branch: Draft | None = None
        self._news = News()
        self._train_when_ready = False

    def run_started(self) -> None:
        """Called when another run has come to the desk."""

    def catch_up(self) -> None:
        """Show all news now."""

    def _answer_soon(self) -> None:
        """Show what the engine does with an order as soon as it has obeyed, whatever the pace of the frames is."""
        self.set_timer(_ANSWER_S, self.catch_up)

    def engine_loaded(self) -> None:
        """Start what was asked for before torch was there."""
        if self._train_when_ready:
            self.action_train()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Keys that do nothing now are not shown."""
        live = self.desk.live
        if action in _FOR_LIVE:
            return live and not (action == "park" and self.desk.parked)
        if action in _FOR_IDLE:
            return not live
        if action == "undo":
            return self.draft.edited or self.draft.origin is not None
        return super().check_action(action, parameters)

    @work(exclusive=True, group="train")
    async def action_train(self) -> None:
        """Start the recipe on the desk, from a checkpoint if it is a branch."""
        if self.desk.live:
            self.notify("A run is training. Stop it first: s.", severity="warning")
            return
        if not self._may_try("Training starts as soon as torch is loaded."):
            self._train_when_ready = not self.ready
            return
        draft, recipe = self.draft, self.draft.recipe
        if not self.settings_fit("Not started"):
            return
        checked = await asyncio.to_thread(self.desk.check, recipe)
        if checked.hindrances:
            mend = f" Keys 2 and . mend it: {checked.fixes[0].title}." if checked.fixes else ""
            self.notify(f"{checked.hindrances[0]}{mend}", severity="error", title="Not started", timeout=10)
            return
        await self.start(lambda: self.desk.start(recipe, self.runs_root, draft.name, draft.origin))

    def settings_fit(self, otherwise: str) -> bool:
        """Whether nothing wrong stands in a field; says what does."""
        wrong = next((field for field in self.query(Field) if field.error), None)
        if wrong is not None:
            self.notify(f"{wrong.key}: {wrong.error.what if wrong.error else ''}", severity="error", title=otherwise)
        return wrong is None

    async def start(self, start: Callable[[], None]) -> None:
        """Bring a run to the desk. What can't be started is said."""
        try:
            await asyncio.to_thread(start)
        except StudioError as error:
            self.notify(str(error), severity="error", title="Not started", timeout=10)
            return
        self.app.clear_notifications()  # they are of what was before, and would hide the first steps
        self._news = News()
        self.query_one(LogPane).clear()
        self.run_started()
        self.refresh_bindings()

    def action_pause(self) -> None:
        """Hold the training, or go on."""
        if self.desk.live:
            self.desk.toggle_pause()
            self.refresh_bindings()
            self._answer_soon()

    def action_park(self) -> None:
        """Hold the training and give the device's memory back."""
        if self.desk.live:
            self.desk.park()
            self.refresh_bindings()
            self._answer_soon()

    def action_stop(self) -> None:
        """End the training with a checkpoint."""
        if self.desk.live:
            self.desk.stop()
            self._answer_soon()
            self.set_timer(_LONG_STEP_S, self._tell_stopping)

    def _tell_stopping(self) -> None:
        """Most runs have stopped by then, and a message would lie over where they are kept."""
        if self.desk.live:
            self.notify("Stopping after this step, with a checkpoint.")

    def action_checkpoint(self) -> None:
        """Write a checkpoint now."""
        if self.desk.live:
            self.desk.checkpoint()
            self._answer_soon()

    def action_profile(self) -> None:
        """Profile the next steps; where the trace lies is told when it is there."""
        if self.desk.live:
            self.desk.profile()
            self.notify("Profiling the next steps.")

    @work(exclusive=True, group="dialog")
    async def action_change(self) -> None:
        """Ask for another learning rate, weight decay or length."""
        from tui.dialogs.while_training import WhileTrainingScreen

        history = self.desk.history
        if not self.desk.live or history is None:
            return
        now = history.progress
        dialog = WhileTrainingScreen(now.learning_rate, self.desk.weight_decay(), now.epochs, now.epoch + 1)
        changes: Changes | None = await self.app.push_screen_wait(dialog)
        if changes is not None and self.desk.live:
            self.desk.change(changes)

    def action_health(self) -> None:
        """Show where the time goes and how the layers fare."""
        from tui.dialogs.health import HealthScreen

        self.app.push_screen(HealthScreen(self.desk))

    @work(exclusive=True, group="dialog")
    async def action_find_lr(self) -> None:
        """Find a learning rate for the recipe on the desk."""
        from tui.dialogs.find_lr import FindLrScreen

        if not self.desk.live and self._may_try("torch is still being loaded."):
            await self._find(FindLrScreen(self.desk, self.draft.recipe))

    @work(exclusive=True, group="dialog")
    async def action_find_batch_size(self) -> None:
        """Find a batch size for the recipe on the desk."""
        from tui.dialogs.find_batch import FindBatchScreen

        if not self.desk.live and self._may_try("torch is still being loaded."):
            await self._find(FindBatchScreen(self.desk, self.draft.recipe))

    async def _find(self, finder: ModalScreen[Mapping[str, Any] | None]) -> None:
        found = await self.app.push_screen_wait(finder)
        if found is not None:
            self.edit(lambda: self.draft.set_together(found))
            self.notify(" · ".join(f"{key} = {value:g}" for key, value in found.items()), title="Set, u takes it back")

    def _may_try(self, loading: str) -> bool:
        """Whether steps can be taken now; says why not."""
        if not self.ready:
            self.notify(loading)
        elif self.desk.trying:
            self.notify("The steps that were tried are still ending. Try again in a moment.", severity="warning")
        return self.ready and not self.desk.trying

    @work(exclusive=True, group="dialog")
    async def action_runs(self) -> None:
        """Choose an earlier run to look at, to resume or to branch from."""
        chosen: RunChosen | None = await self.app.push_screen_wait(RunsScreen(self.runs_root))
        if chosen is None:
            return
        if chosen.action == "branch" and self.ready:
            await self._branch(chosen.directory)
        elif self.desk.live:
            self.notify("A run is training. Stop it first: s.", severity="warning")
        elif chosen.action == "resume" and self.ready:
            await self.start(lambda: self.desk.resume(chosen.directory))
        elif chosen.action == "show":
            await self.start(lambda: self.desk.show(chosen.directory))
        else:
            self.notify("torch is still being loaded.")

    async def _branch(self, run: RunDirectory) -> None:
        """Lay a run's recipe on the desk, to be trained on from one of its checkpoints."""
        try:
            recipe, checkpoints, best = await asyncio.to_thread(self.desk.checkpoints, run)
        except StudioError as error:
            self.notify(str(error), severity="error", title="Not branched", timeout=10)
            return
        by_name = {f"epoch {each.epoch} · step {each.step:,}": each for each in reversed(checkpoints)}
        choices = []
        for name, each in by_name.items():
            score = "no score" if each.score is None else f"score {each.score:.4g}"
            note = f"{score}{' · ★ best' if each == best else ''}"
            choices.append(Choice(name, note=note, doc=f"{each.name}\n{note}\n\nscore: greater is better"))
        picked = await self.app.push_screen_wait(PickScreen(f"Branch from a checkpoint of {run.name}", choices))
        if picked is None:
            return
        chosen = by_name[picked]
        if self._before_branch is None or self.draft.origin is None:
            self._before_branch = self.draft
        title = _STAMP.sub("", run.name).removesuffix("-branch") + "-branch"
        self.draft = Draft(title, recipe, Origin(run, chosen.name, chosen.epoch))
        self.recipe_changed()
        self.notify(f"{self.draft.origin}. Change what you like, t trains it as a new run, u drops it.", title=title)

    def action_undo(self) -> None:
        """Take the last edit back; where there is none, a branch."""
        if not self.draft.edited and self.draft.origin is not None and self._before_branch is not None:
            self.draft, self._before_branch = self._before_branch, None
            self.recipe_changed()
        else:
            super().action_undo()

    def tell_news(self) -> None:
        """Tell what happened to the run since the last time."""
        for notice in self._news.notices(self.desk.new_events(), time.monotonic()):
            self.notify(notice.text, title=notice.title, severity=notice.severity, timeout=15)
