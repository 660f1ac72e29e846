"""The application: opens the studio, owns nothing but what all screens share."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterable
from pathlib import Path

from textual.app import App, SystemCommand
from textual.binding import Binding
from textual.screen import Screen

from engine.paths import runs_root as default_runs_root
from engine.recipe import Recipe
from tui.screens.studio import StudioScreen
from tui.terminal import run_app
from tui.training import Desk


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
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self._terminate)

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

    def _terminate(self) -> None:
        self.desk.stop()
        self.exit(return_code=143)


def run_studio(runs_root: Path | None = None, recipe: Recipe | None = None, name: str = "") -> int:
    """Open the studio, on a recipe called `name` if one is given, and wait until the person leaves; the exit status.

    A failing studio does not take the training down: the run goes on to its end without a screen.
    """
    app = StudioApp(runs_root, recipe, name)
    run_app(app, app.desk.lines.append)
    job = app.desk.job
    if job is not None and job.alive:
        if app.return_code == 1:
            print(f"The studio failed; the run goes on without it. Ctrl+C stops it. {job.directory.path}", flush=True)
        job.join()
    return app.return_code or 0
