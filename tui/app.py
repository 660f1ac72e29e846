"""The application: opens the studio, owns nothing but what all screens share."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from textual.app import App, SystemCommand
from textual.binding import Binding
from textual.events import Event, Key, Paste
from textual.screen import Screen

from engine.devices.openmp import Threads
from engine.paths import runs_root as default_runs_root
from engine.recipe import Recipe
from tui.commands.signals import HUNG_UP, STOPPED, Signals
from tui.in_turn import InTurn
from tui.screens.studio import StudioScreen
from tui.terminal import run_app
from tui.training import Desk

if TYPE_CHECKING:
    from engine.job import Job
    from engine.recipe.file import RecipeFile


_STUCK_S = 5.0


class StudioApp(App[None]):
    """torch-tui in a terminal."""

    TITLE = "torch-tui"
    ENABLE_COMMAND_PALETTE = True
    ALLOW_IN_MAXIMIZED_VIEW = "Keys"
    BINDINGS = [
        Binding("q", "quit", "Quit", tooltip="Leave; asks while a run is training", id="app.quit"),
        Binding("ctrl+q", "quit", "Quit", tooltip="Leave", id="app.quit_always", show=False, priority=True),
        Binding("question_mark", "help", "Help", tooltip="Keys and what the focused pane shows", id="app.help"),
    ]

    def __init__(
        self,
        runs_root: Path | None = None,
        recipe: Recipe | None = None,
        name: str = "",
        signals: Signals | None = None,
        file: RecipeFile | None = None,
    ) -> None:
        super().__init__()
        self._signals = signals or Signals()
        self.runs_root = default_runs_root(runs_root)
        self.desk = Desk()
        self._recipe, self._name_of_recipe, self._file = recipe, name, file
        self._typed = InTurn(self)
        self.when_left: Callable[[], None] = lambda: None
        """Called as the screen ends."""

    async def on_event(self, event: Event) -> None:
        """A key waits for its turn."""
        if isinstance(event, (Key, Paste)) and not event.is_forwarded and not self._typed.admit(event):
            return
        await super().on_event(event)

    def on_mount(self) -> None:
        """Open the studio; end it in order when the system asks for it."""
        self.push_screen(StudioScreen(self.runs_root, self._recipe, self._name_of_recipe, self.desk, self._file))
        loop = asyncio.get_running_loop()
        loop.set_default_executor(Threads(thread_name_prefix="asyncio"))

        def told() -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended: so has the screen
                loop.call_soon_threadsafe(self._terminate)

        self._signals.told = told
        self._terminate()

    def on_unmount(self) -> None:
        """End the threads that serve the screen. The job is not one of them."""
        self.desk.monitor.stop()
        self.when_left()

    async def action_quit(self) -> None:
        """Leave; the studio asks while a run is training."""
        if isinstance(self.screen, StudioScreen):
            self.screen.ask_to_quit()

    def action_help(self) -> None:
        """Show or hide the keys of what has the focus."""
        if self.screen.query("HelpPanel"):
            self.action_hide_help_panel()
        else:
            self.action_show_help_panel()

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        """Textual's own commands, then the studio's."""
        yield from super().get_system_commands(screen)
        if isinstance(screen, StudioScreen):
            yield from screen.commands()

    def _terminate(self) -> None:
        """Leave if a signal says so. SIGINT and SIGTERM stop the run; when the terminal is gone it goes on without."""
        signals, job = self._signals, self.desk.job
        signals.job = job
        if signals.status:
            self.desk.stop()
        elif not signals.hung_up:
            return
        else:
            self._go_on_unseen(job)
        self.exit(return_code=signals.status or HUNG_UP)

    def _go_on_unseen(self, job: Job | None) -> None:
        if job is not None:
            self._signals.stops(job)  # from now on without the screen's help
            if job.control.paused:
                job.control.stop()  # nobody is left who could let it go on
        _end_at_last(job, lambda: _unseen_end(job, self._signals))  # the terminal may take nothing any more


def run_studio(
    runs_root: Path | None = None, recipe: Recipe | None = None, name: str = "", file: RecipeFile | None = None
) -> int:
    """Open the studio, on a recipe called `name` if one is given, and wait until the person leaves; the exit status.

    `file` is what the recipe was read from; it can be saved there.

    A failing studio, or a terminal that goes away, does not take the training down: the run goes on to its end without
    a screen.
    """
    with Signals() as signals:
        app = StudioApp(runs_root, recipe, name, signals, file)
        # asyncio waits for threads that read data, and what a person's own code does in one may never end.
        app.when_left = lambda: _end_at_last(app.desk.job, lambda: signals.status or app.return_code or 0)
        run_app(app, app.desk.lines.append)
        job, status = app.desk.job, app.return_code or 0
        if job is None:
            return status
        signals.stops(job)
        if job.alive and status == 0 and not signals.status:  # the person chose to leave a run that does not stop
            print(
                f"Left {job.directory.path} while it was busy. Go on with: torch-tui resume {job.directory.name}",
                flush=True,
            )
            os._exit(STOPPED)
        if job.alive and not signals.status and not signals.hung_up:
            print(f"The studio failed; the run goes on without it. Ctrl+C stops it. {job.directory.path}", flush=True)
        job.join()
        if job.history.progress.state == "stopped":
            print(f"Stopped. Go on with: torch-tui resume {job.directory.name}", flush=True)
        return _unseen_end(job, signals) if signals.hung_up else signals.status or status


def _unseen_end(job: Job | None, signals: Signals) -> int:
    """The exit status of a studio whose terminal has gone."""
    state = job.history.progress.state if job is not None else ""
    return {"done": 0, "failed": 1}.get(state, signals.status or HUNG_UP)


def _end_at_last(job: Job | None, status: Callable[[], int]) -> None:
    """End the process some time after the job, if it is still there: something of the screen may be stuck."""

    def end() -> None:
        if job is not None:
            job.join()
        time.sleep(_STUCK_S)
        os._exit(status())

    threading.Thread(target=end, name="end-at-last", daemon=True).start()
