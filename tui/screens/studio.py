"""The studio: all panes on one screen, or one at a time where there is no room."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from textual import on, work
from textual.app import ComposeResult, SystemCommand
from textual.binding import Binding
from textual.containers import Container
from textual.css.query import NoMatches
from textual.events import DescendantFocus, Resize
from textual.reactive import Reactive
from textual.widget import Widget
from textual.widgets import Tab, Tabs

from engine.recipe import Recipe
from engine.runs.history import History
from presets import presets
from tui.charts.direct import in_one_piece
from tui.dialogs.ask import AskScreen
from tui.draft import Draft
from tui.pace import FASTEST_S, Pace
from tui.panes.curves import CurvesPane
from tui.panes.data import DataPane
from tui.panes.devices import DevicesPane
from tui.panes.log import LogPane
from tui.panes.model import ModelPane
from tui.panes.pane import Zoomable
from tui.panes.presets import PresetsPane
from tui.panes.progress import ProgressPane
from tui.panes.settings import SettingsPane
from tui.screens.exporting import ExportingScreen
from tui.training import Desk
from tui.widgets.keys import Keys

if TYPE_CHECKING:
    from engine.recipe.file import RecipeFile

PANES = ("presets", "model", "data", "settings", "curves", "devices", "log")
_TELL_S = 0.95
_PATIENCE_S = 10.0  # how long a run may take to stop before one may leave without it
_DIALOGS = Path(__file__).parents[1] / "dialogs"
_DEFAULT_METRIC = {"classification": "accuracy", "regression": "r2", "segmentation": "mean_iou"}


class StudioScreen(ExportingScreen):
    """Routes between the panes, the draft of the recipe and the job. Computes nothing with tensors."""

    CSS_PATH = "studio.tcss"
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (100, "-normal"), (160, "-wide")]
    VERTICAL_BREAKPOINTS = [(0, "-short"), (30, "-tall"), (50, "-high")]
    BINDINGS = [
        # In this order they stand in the footer, as far as there is room behind those of the pane.
        Binding("t", "train", "Train", tooltip="Train the recipe on the desk", id="studio.train"),
        Binding("space", "pause", "Pause", tooltip="Hold the training, or go on", id="studio.pause"),
        Binding("s", "stop", "Stop", tooltip="End the training with a checkpoint", id="studio.stop"),
        Binding("c", "checkpoint", "Save", tooltip="Write a checkpoint now", id="studio.checkpoint"),
        Binding("l", "change", "Change", tooltip="Learning rate, weight decay, epochs", id="studio.change"),
        Binding("u", "undo", "Undo", tooltip="Take the last edit back", id="studio.undo"),
        Binding("U,ctrl+y", "redo", "Redo", tooltip="Make the edit again", id="studio.redo", show=False),
        # The application's own, here for their place.
        Binding("q", "app.quit", "Quit", tooltip="Leave; asks while a run is training", id="app.quit"),
        Binding("question_mark", "app.help", "Help", tooltip="Keys and what the focused pane shows", id="app.help"),
        Binding("f", "find_lr", "Find rate", tooltip="A learning rate, by a range test", id="recipe.find_lr"),
        Binding("E", "export", "Export", tooltip="Write the recipe as a Python file of its own", id="recipe.export"),
        Binding("r", "runs", "Runs", tooltip="Earlier runs: curves, resume, branch", id="studio.runs"),
        Binding("h", "health", "Health", tooltip="Where the time goes, how the layers fare", id="studio.health"),
        Binding("b", "find_batch_size", "Find batch", tooltip="How much fits, how fast", id="recipe.find_batch"),
        Binding("ctrl+s", "save", "Save recipe", tooltip="Save the recipe's edits", id="recipe.save", show=False),
        Binding("S", "save_as", "Save as", tooltip="Save as a preset of yours", id="recipe.save_as", show=False),
        Binding("P", "park", "Park", tooltip="Hold the training, give the device's memory back", id="studio.park"),
        Binding("x", "profile", "Profile", tooltip="Profile the next steps", id="studio.profile"),
        Binding("R", "reload", "Reload", tooltip="Run your own Python files anew", id="recipe.reload"),
        Binding(
            "w",
            "cost",
            "Cost",
            tooltip="What the studio itself costs: frames, share of a core",
            id="studio.cost",
            show=False,
        ),
        *(
            Binding(
                str(number), f"pane('{name}')", name.title(), tooltip=f"Go to {name}", id=f"pane.{name}", show=False
            )
            for number, name in enumerate(PANES, 1)
        ),
        Binding("slash", "filter", "Filter", tooltip="Find a preset", id="studio.filter", show=False),
        Binding("escape", "leave", "Back", tooltip="Close the help, end a reading, show all panes", id="studio.back"),
    ]

    # Textual's paints the whole screen anew whenever another part has the focus: 50 ms, and 30 kB over a slow line.
    focused: Reactive[Widget | None] = Reactive(None, repaint=False)

    def __init__(
        self, runs_root: Path, recipe: Recipe | None, name: str, desk: Desk, file: RecipeFile | None = None
    ) -> None:
        first = presets()[0]
        draft = Draft(first.name, first.recipe) if recipe is None else Draft(name or "recipe", recipe, file=file)
        super().__init__(runs_root, draft, desk)
        listed = (each.name for each in self.listed())
        self._opened = recipe if self._listed_name(draft) not in listed else None
        self._pace = Pace()
        self._shows_cost = False
        self._told = 0.0
        self._state_told: tuple[object, ...] | None = None
        if file is None and (recipe is None or self._is_preset(recipe)):
            self._drafts[draft.name] = draft

    def compose(self) -> ComposeResult:
        # Textual adds these when it hears of the size, and styles all a second time.
        width, height = self.app.size
        for size, breakpoints in ((width, self.HORIZONTAL_BREAKPOINTS), (height, self.VERTICAL_BREAKPOINTS)):
            self.add_class(next(name for least, name in reversed(breakpoints) if size >= least))
        yield Tabs(*(Tab(f"{number} {name.title()}", id=f"tab-{name}") for number, name in enumerate(PANES, 1)))
        with Container(id="panes"):
            yield PresetsPane(self.listed(), self._listed_name(self.draft), id="presets")
            yield ModelPane(id="model")
            yield DataPane(id="data")
            yield SettingsPane(id="settings")
            yield CurvesPane(id="curves")
            yield DevicesPane(id="devices")
            yield LogPane(id="log")
        yield ProgressPane(id="progress")
        yield Keys()

    def on_mount(self) -> None:
        """Show what needs no torch, then load torch behind the first frame."""
        self._go_to("presets")
        self.show_data()
        self._tick(everything=False)
        self._paint_frames()
        # By way of the application, which starts in a batch: nothing is painted in it, yet `call_after_refresh` calls.
        self.app.call_later(self.call_after_refresh, self._after_first_frame)

    @property
    def is_current(self) -> bool:
        """Not below a screen that fills the terminal: Textual paints that one anew with every change down here."""
        return super().is_current and (self.app.screen is self or self.app.screen.is_modal)

    def _compositor_refresh(self) -> None:
        # What Textual composes inside a batch it throws away: 27 ms before the first frame.
        if not self.app._batch_count:
            super()._compositor_refresh()

    def _after_first_frame(self) -> None:
        self.desk.monitor.start()
        self._learn_dialogs()
        self.show_what_is_known()
        self.tell_broken()
        self.load_engine()

    def _learn_dialogs(self) -> None:
        """Read how dialogs look. The first one would else have every widget of the studio styled anew: 50 ms."""
        for style in ("dialogs.tcss", "data/data.tcss"):
            self.app.stylesheet.read(_DIALOGS / style)
        self.app.stylesheet.parse()

    @staticmethod
    def _is_preset(recipe: Recipe) -> bool:
        return any(preset.recipe == recipe for preset in presets())

    # What is on the desk

    @on(PresetsPane.Chosen)
    def _choose_preset(self, event: PresetsPane.Chosen) -> None:
        if self._opened is not None:  # the list's first highlight must not replace a recipe that was opened by name
            self._opened = None
            return
        draft = self.draft_of(event.preset)
        if draft is not None and draft is not self.draft:
            self.draft = draft
            self.recipe_changed()

    @on(PresetsPane.Opened)
    def _open_preset(self) -> None:
        self.query_one("#press-train").focus()

    # Training

    @on(ProgressPane.Pressed)
    def _press(self, event: ProgressPane.Pressed) -> None:
        getattr(self, f"action_{event.action}")()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Keys that do nothing now are not shown."""
        if action == "leave":
            return self.maximized is not None or self.reads or bool(self.query("HelpPanel"))
        return super().check_action(action, parameters)

    def run_started(self) -> None:
        """Look at the curves."""
        self.release_samples()
        if self._one_at_a_time:
            self._go_to("curves")
        else:
            self.query_one(CurvesPane).focus()
        self.catch_up()

    @work(exclusive=True, group="dialog")
    async def ask_to_quit(self) -> None:
        """Leave; ask what shall become of edits that are not saved, and of a run that is training."""
        if not await self.may_leave():
            return
        if self.desk.live:
            answers = [("stay", "Stay"), ("stop", "Stop with a checkpoint and quit")]
            question = "A run is training. It can be resumed later from its checkpoint."
            if await self.app.push_screen_wait(AskScreen("Quit?", question, answers)) != "stop":
                return
            self.desk.stop()
            if not await asyncio.to_thread(self.desk.join, _PATIENCE_S):
                answers = [("wait", "Wait"), ("leave", "Leave it and quit")]
                question = (
                    "The run does not stop: its code is busy. What it did since its last checkpoint would be lost."
                )
                if await self.app.push_screen_wait(AskScreen("Quit?", question, answers)) != "leave":
                    return
        self.desk.close()
        self.app.exit(return_code=0)

    @work(group="frames")
    async def _paint_frames(self) -> None:
        """A frame when the pace allows it; until the first step there is nothing to hold up.

        A timer of Textual's would have to be made for each frame, which takes a tenth of its time.
        """
        while True:
            pause, history = self._pace.next(), self.desk.history
            waits = self.desk.live and history is not None and history.progress.step == 0
            await asyncio.sleep(FASTEST_S if waits else pause)
            self._tick(everything=False)

    def catch_up(self) -> None:
        """Show all news now, whatever the pace."""
        self._tick(everything=True)

    def action_cost(self) -> None:
        """Show what the studio costs the training, or hide it."""
        self._shows_cost = not self._shows_cost
        self.catch_up()

    def _tick(self, *, everything: bool) -> None:
        """Ask the engine for news and give them to the panes; panes that got none do not repaint.

        The curves get theirs at every frame. What is read, and not watched, is told once a second, and when the state
        changes or the first step is made: what Textual composes is the least rectangle around all that has changed.
        """
        desk, history = self.desk, self.desk.history
        now, progress = time.monotonic(), history.progress if history else None
        state = (progress.state, progress.text, progress.step > 0, desk.live) if progress else None
        try:
            if everything or state != self._state_told or now - self._told > _TELL_S:
                self._told, self._state_told = now, state
                with in_one_piece(self):
                    self._tell(history)
            if history is not None:  # last, so that a run that is shown as done is shown whole
                self.query_one(CurvesPane).show(history, self._metric(history), desk.name, desk.average)
        except NoMatches:
            return  # the screen is being taken down
        self.tell_news()
        if desk.ended():
            self._announce(desk.history)

    def _tell(self, history: History | None) -> None:
        """Show what is read: numbers, words, lines."""
        desk = self.desk
        self.query_one(DevicesPane).show(desk.monitor.history(), history.threads if history else 0)
        self.query_one(LogPane).add(desk.new_lines())
        self.show_download(desk.download)
        cost = str(self._pace) if self._shows_cost else ""
        origin = str(self.draft.origin or "") if desk.name != self.draft.name else ""
        self.query_one(ProgressPane).show(
            history, desk.name or self.shown_name(), desk.where, live=desk.live, next_from=origin, cost=cost
        )

    def _metric(self, history: History) -> str:
        if history.summary is not None and history.summary.metric:
            return history.summary.metric
        names = [name.partition("/")[2] for name in history.series]
        known = [name for name in _DEFAULT_METRIC.values() if name in names]
        return known[0] if known else _DEFAULT_METRIC.get(self.draft.recipe.task, "loss")

    def _announce(self, history: History | None) -> None:
        self.refresh_bindings()
        if history is not None and history.error is not None:
            self.app.bell()  # what went wrong stands below the bars

    # Panes

    def on_descendant_focus(self, event: DescendantFocus) -> None:
        """The pane with the focus is framed, and stays in sight where there is room for one only."""
        for pane in self._panes:
            pane.mark("-active", pane in event.widget.ancestors_with_self)
            if pane.has_class("-active"):
                self._show_pane(str(pane.id))

    def on_resize(self, event: Resize) -> None:
        """Where there is room for one pane only, it is the current one."""
        if not self._one_at_a_time:
            return
        if self.maximized:
            self.minimize()
        self.query_one(Tabs).active = next(f"tab-{pane.id}" for pane in self._panes if pane.has_class("-current"))

    @on(Tabs.TabActivated)
    def _tab(self, event: Tabs.TabActivated) -> None:
        self._show_pane(str(event.tab.id).removeprefix("tab-"))

    def action_pane(self, name: str) -> None:
        """Go to a pane."""
        self._go_to(name)

    def action_filter(self) -> None:
        """Go to the presets and filter them."""
        self._go_to("presets")
        self.query_one(PresetsPane).action_filter()

    def action_leave(self) -> None:
        """Close the help, end the reading of data, or show all panes again."""
        if self.query("HelpPanel"):
            self.app.action_hide_help_panel()
        elif self.reads:
            self.stop_reading()
        elif self.maximized:
            self.minimize()

    @property
    def _one_at_a_time(self) -> bool:
        return self.has_class("-narrow") or self.has_class("-short")

    def _go_to(self, name: str) -> None:
        tabs = self.query_one(Tabs)
        if tabs.active != f"tab-{name}":
            tabs.active = f"tab-{name}"
        self._show_pane(name)
        pane = self.query_one(f"#{name}")
        if self.maximized is not None and self.maximized is not pane:
            self.minimize()
        target: Widget = next(iter(_focusable(pane)), pane)
        self.set_focus(target)  # at once: the first frame's footer has the keys of what has the focus

    def _show_pane(self, name: str) -> None:
        for pane in self._panes:
            pane.mark("-current", pane.id == name)

    @property
    def _panes(self) -> list[Zoomable]:
        return [pane for pane in self.query_one("#panes").children if isinstance(pane, Zoomable)]

    def commands(self) -> Iterable[SystemCommand]:
        """The studio's commands for the palette, `group: verb`."""
        for binding in self.BINDINGS:
            assert isinstance(binding, Binding)
            group = str(binding.id).partition(".")[0]
            if not group.startswith("app") and self.check_action(binding.action.partition("(")[0], ()):
                yield SystemCommand(
                    f"{group}: {binding.description.lower()}", binding.tooltip, self._runner(binding.action)
                )

    def _runner(self, action: str) -> Callable[[], Any]:
        async def run() -> None:
            await self.run_action(action)

        return run


def _focusable(pane: Widget) -> Iterable[Widget]:
    return (widget for widget in pane.query("*") if widget.focusable and widget.display)
