"""The application: opens the studio, owns nothing but what all screens share."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from textual.app import App, SystemCommand
from textual.binding import Binding
from textual.screen import Screen

from engine.paths import runs_root as default_runs_root
from engine.recipe import Recipe
from tui.screens.studio import StudioScreen
from tui.terminal import run_app
from tui.training import Desk

if TYPE_CHECKING:
    from engine.job import Job


class StudioApp(App[None]):
    """torch-tui in a terminal."""

    TITLE = "torch-tui"
    ENABLE_COMMAND_PALETTE = True
    BINDINGS = [
        Binding("q", "quit", "Quit", tooltip="Leave; asks while a run is training", id="app.quit"),
        Binding("ctrl+q", "quit", "Quit", tooltip="Leave", id="app.quit_always", show=False, priority=True),
        Binding("question_mark", "help", "Help", tooltip="Keys and what the focused pane shows", id="app.help"),
    ]

    def __init__(self, runs_root: Path | None = None, recipe: Recipe | None = None, name: str = "") -> None:
        super().__init__()
        self.runs_root = default_runs_root(runs_root)
        self.desk = Desk()
        self._recipe, self._name_of_recipe = recipe, name

    def on_mount(self) -> None:
        """Open the studio; end it in order when the system asks for it."""
        self.desk.monitor.start()
        self.push_screen(StudioScreen(self.runs_root, self._recipe, self._name_of_recipe, self.desk))
        for number in (signal.SIGTERM, signal.SIGHUP):
            asyncio.get_running_loop().add_signal_handler(number, self._terminate, 128 + number)

    def on_unmount(self) -> None:
        """End the threads that serve the screen. The job is not one of them."""
        self.desk.monitor.stop()

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

    def _terminate(self, status: int) -> None:
        """The system, or a terminal that is going away, ends the studio: the run stops with a checkpoint."""
        self.desk.stop()
        self.exit(return_code=status)


def run_studio(runs_root: Path | None = None, recipe: Recipe | None = None, name: str = "") -> int:
    """Open the studio, on a recipe called `name` if one is given, and wait until the person leaves; the exit status.

    A failing studio does not take the training down: the run goes on to its end without a screen.
    """
    app = StudioApp(runs_root, recipe, name)
    run_app(app, app.desk.lines.append)
    job = app.desk.job
    if job is None:
        return app.return_code or 0
    if job.alive and app.return_code == 0:  # the person chose to leave a run that does not stop
        print(
            f"Left {job.directory.path} while it was busy. Go on with: torch-tui resume {job.directory.name}",
            flush=True,
        )
        os._exit(130)
    if job.alive and app.return_code not in (128 + signal.SIGTERM, 128 + signal.SIGHUP):
        print(f"The studio failed; the run goes on without it. Ctrl+C stops it. {job.directory.path}", flush=True)
        _outlive(job)
    job.join()
    if job.history.progress.state == "stopped":
        print(f"Stopped. Go on with: torch-tui resume {job.directory.name}", flush=True)
    return app.return_code or 0


def _outlive(job: Job) -> None:
    """Wait for a job without a screen; Ctrl+C stops it with a checkpoint."""
    while job.alive:
        try:
            job.join(0.5)
        except KeyboardInterrupt:
            job.control.stop()
